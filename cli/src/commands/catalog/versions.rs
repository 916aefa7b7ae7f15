//! `catalog versions`.

use super::{say_end, say_not_catalogued};
use crate::context::Context;
use crate::output::{local_time, lsn_text};
use crate::{Outcome, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use wire::units::format_size;
use wire::v1::version_part::Part;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Absolute path on the master
    path: OsString,
    /// Only of this scenario
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    scenario: String,
}

fn line(version: &v1::FileVersion) -> String {
    let session = if version.session.is_empty() {
        String::new()
    } else {
        format!("  session {}", version.session.get(..8).unwrap_or(&version.session))
    };
    format!(
        "{:>10}  {:<19}  {:<10}  {:>10}{session}",
        lsn_text(version.lsn.as_ref()),
        local_time(version.time.as_ref()),
        version.change,
        format_size(version.bytes)
    )
}

/// Lists versions, newest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::CatalogVersionsRequest { path: args.path.into_vec().into(), scenario: args.scenario };
    let mut client = context.client().await?;
    let mut stream = context.call(client.catalog.versions(request)).await?;
    while let Some(part) = context.next(&mut stream).await? {
        let is_read = match part.part {
            Some(Part::Version(version)) => {
                context.out.object(&json::catalog::version(&version)) && context.out.data(&line(&version))
            }
            Some(Part::NotCatalogued(session)) => say_not_catalogued(context, &session),
            Some(Part::End(end)) => say_end(context, &end),
            None => true,
        };
        if !is_read {
            break;
        }
    }
    Ok(Exit::Done)
}
