//! `catalog tree`.

use super::{say_end, say_not_catalogued};
use crate::context::Context;
use crate::output::{local_time, path_text};
use crate::{Outcome, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use wire::units::format_size;
use wire::v1::catalog_part::Part;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Absolute path of a directory on the master [default: the roots]
    path: Option<OsString>,
    /// Only of this scenario
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    scenario: String,
    /// As this session has it: its id, or the beginning of it [default: the newest]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, conflicts_with = "at")]
    session: String,
    /// As it was at this point
    #[arg(
        long,
        value_name = "POINT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    at: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
}

fn line(entry: &v1::CatalogEntry) -> String {
    let (size, end) = match entry.kind() {
        v1::EntryKind::File => (format_size(entry.bytes), ""),
        v1::EntryKind::Directory | v1::EntryKind::Unspecified => (String::new(), "/"),
        _ => (String::new(), ""),
    };
    let time = local_time(entry.modified.as_ref());
    format!("{time:<19}  {size:>10}  {}{end}", path_text(&entry.path))
}

/// Lists a directory.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::CatalogTreeRequest {
        path: args.path.map(OsString::into_vec).unwrap_or_default().into(),
        scenario: args.scenario,
        session: args.session,
        at: args.at,
        limit: args.limit,
    };
    let mut client = context.client().await?;
    let mut stream = context.call(client.catalog.tree(request)).await?;
    while let Some(part) = context.next(&mut stream).await? {
        let is_read = match part.part {
            Some(Part::Entry(entry)) => {
                context.out.object(&json::catalog::entry(&entry)) && context.out.data(&line(&entry))
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
