//! `catalog query`.

use super::{say_end, say_not_catalogued};
use crate::context::Context;
use crate::output::{local_time, path_text};
use crate::{Outcome, json};
use wire::units::format_size;
use wire::v1::catalog_part::Part;
use wire::{Exit, Failure, codes, v1};

/// What is looked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// A glob over the whole path, or below the root if it does not begin with `/`; without `*?[{` a piece of the path
    pattern: String,
    /// Only of this scenario
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    scenario: String,
    /// Only of this master
    #[arg(long, value_name = "HOST", default_value = "", hide_default_value = true)]
    master: String,
    /// Only in this session: its id, or the beginning of it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
    /// Modified then or later: RFC 3339, or a time ago such as -10d
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    since: String,
    /// Modified before then
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    until: String,
    /// +10M at least, -10M at most, 10M exactly
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    size: String,
    /// Only what the newest point does not hold any more
    #[arg(long)]
    deleted: bool,
    /// The pattern is a regular expression, found anywhere in the path
    #[arg(long)]
    regex: bool,
}

impl Wanted {
    /// The question, at most `limit` answers to it; 0: all.
    #[must_use]
    pub fn request(self, limit: u64) -> v1::CatalogQueryRequest {
        v1::CatalogQueryRequest {
            pattern: self.pattern,
            regex: self.regex,
            scenario: self.scenario,
            master: self.master,
            session: self.session,
            since: self.since,
            until: self.until,
            size: self.size,
            deleted: self.deleted,
            limit,
            page_token: Default::default(),
        }
    }
}

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is looked for.
    #[command(flatten)]
    wanted: Wanted,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
}

/// One entry as a line; the list may be too long for a table, whose widths are known at its end.
fn line(entry: &v1::CatalogEntry) -> String {
    let held = match entry.source() {
        v1::CatalogSource::Journal => "journal".to_owned(),
        _ => format!("{}x {}", entry.sessions, entry.last_session.get(..8).unwrap_or_default()),
    };
    let size = if entry.kind() == v1::EntryKind::File { format_size(entry.bytes) } else { String::new() };
    format!(
        "{}  {size:>10}  {held:<14}  {}{}",
        local_time(entry.modified.as_ref()),
        path_text(&entry.path),
        if entry.kind() == v1::EntryKind::Directory { "/" } else { "" }
    )
}

/// Lists what matches.
///
/// # Errors
/// `NOTHING_MATCHES`; those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let pattern = args.wanted.pattern.clone();
    let request = args.wanted.request(args.limit);
    let mut client = context.client().await?;
    let mut stream = context.call(client.catalog.query(request)).await?;
    let mut found = false;
    while let Some(part) = context.next(&mut stream).await? {
        let is_read = match part.part {
            Some(Part::Entry(entry)) => {
                found = true;
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
    if found {
        return Ok(Exit::Done);
    }
    Err(Failure::new(&codes::NOTHING_MATCHES, format!("nothing matches {:?}", pattern)))
}
