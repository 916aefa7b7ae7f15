//! `journal dump`.

use crate::context::Context;
use crate::output::{local_time, lsn_text, path_text};
use crate::{Outcome, json};
use journal::Lsn;
use wire::v1::dump_field::Value;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// First point; else everything that is kept
    #[arg(long, value_name = "LSN")]
    from: Option<Lsn>,
    /// Last point
    #[arg(long, value_name = "LSN")]
    to: Option<Lsn>,
}

/// A value as people read it.
fn value_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::Number(value)) => value.to_string(),
        Some(Value::Signed(value)) => value.to_string(),
        Some(Value::Text(value)) => value.clone(),
        Some(Value::Raw(value)) => path_text(value),
        Some(Value::Flag(value)) => value.to_string(),
        Some(Value::Lsn(value)) => lsn_text(Some(value)),
        None => "-".to_owned(),
    }
}

fn line(item: &v1::DumpItem) -> String {
    let fields: Vec<String> = item
        .fields
        .iter()
        .map(|field| format!("{}={}", field.name, value_text(field.value.as_ref())))
        .collect();
    format!(
        "{} {}:{}  {:>8}  {}  {}  {}",
        item.stream,
        item.segment,
        item.offset,
        lsn_text(item.lsn.as_ref()),
        local_time(item.time.as_ref()),
        item.kind,
        fields.join(" ")
    )
}

/// Prints events and records, redo first, then undo.
///
/// # Errors
/// Those of the daemon; damage ends it behind what could be read.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let request = v1::DumpRequest {
        scenario: args.scenario,
        from: args.from.map(v1::Lsn::from),
        to: args.to.map(v1::Lsn::from),
    };
    let mut stream = context.call(client.journal_tools.dump(request)).await?;
    while let Some(item) = context.next(&mut stream).await? {
        context.out.object(&json::dump::item(&item));
        context.out.data(&line(&item));
    }
    Ok(Exit::Done)
}
