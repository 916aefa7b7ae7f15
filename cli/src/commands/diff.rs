//! `diff`.

use super::rewind::{line, sums};
use crate::context::Context;
use crate::output::lsn_text;
use crate::{Outcome, json};
use wire::v1::diff_part::Part;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// A point, as in `rewind --to`
    #[arg(value_name = "POINT", allow_hyphen_values = true)]
    from: String,
    /// Another point
    #[arg(value_name = "POINT", default_value = "now", allow_hyphen_values = true)]
    to: String,
}

/// Lists what differs between two points.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::DiffRequest { scenario: args.scenario, from: args.from, to: args.to };
    let mut client = context.client().await?;
    let mut stream = context.call(client.journal.diff(request)).await?;
    let mut read = true;
    while let Some(part) = context.next(&mut stream).await?.filter(|_| read) {
        match part.part {
            Some(Part::Change(change)) => {
                read = context.out.object(&json::change(&change)) && context.out.data(&line(&change));
            }
            Some(Part::Sums(total)) => {
                let (from, to) = (lsn_text(total.from.as_ref()), lsn_text(total.to.as_ref()));
                context.out.talk(&format!("LSN {from} to {to}: {}", sums(total.counts.as_ref())));
            }
            None => {}
        }
    }
    Ok(Exit::Done)
}
