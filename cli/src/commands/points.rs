//! `points`.

mod bursts;

use crate::context::Context;
use crate::output::{local_time, lsn_text, path_text};
use crate::{Outcome, json};
use clap::ValueEnum;
use wire::units::format_size;
use wire::{Exit, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    scenario: String,
    /// Only what touches these paths: on the whole path if it begins with `/`, else on the path below the root
    #[arg(long, value_name = "GLOB", default_value = "", hide_default_value = true)]
    path: String,
    /// Only this kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Not older: RFC 3339, or a time ago such as -10m
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    since: String,
    /// Not younger
    #[arg(
        long,
        value_name = "TIME",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    until: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
    /// List unusual bursts instead: times at which many files were rewritten or renamed, or became noise
    #[arg(long, conflicts_with_all = ["path", "kinds"])]
    burst: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Created,
    Modified,
    Renamed,
    Removed,
    Attributes,
    Bookmark,
    Marker,
}

impl From<Kind> for v1::PointKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Created => v1::PointKind::Created,
            Kind::Modified => v1::PointKind::Modified,
            Kind::Renamed => v1::PointKind::Renamed,
            Kind::Removed => v1::PointKind::Removed,
            Kind::Attributes => v1::PointKind::Attributes,
            Kind::Bookmark => v1::PointKind::Bookmark,
            Kind::Marker => v1::PointKind::Marker,
        }
    }
}

/// One point as a line; the list may be too long for a table, whose widths are known at its end.
fn line(point: &v1::Point) -> String {
    let mut what = match (point.path.is_empty(), point.from.is_empty()) {
        (true, _) if point.class() != v1::Class::Unspecified => {
            format!("{} ({})", point.note, point.class().word())
        }
        (true, _) => point.note.clone(),
        (false, true) => path_text(&point.path),
        (false, false) => format!("{} -> {}", path_text(&point.from), path_text(&point.path)),
    };
    if point.bytes > 0 {
        what.push_str(&format!("  ({})", format_size(point.bytes)));
    }
    if point.thinned_out {
        what.push_str("  [thinned out]");
    }
    format!(
        "{:>10}  {}  {:<10}  {what}",
        lsn_text(point.lsn.as_ref()),
        local_time(point.time.as_ref()),
        point.kind().word()
    )
}

/// Lists points, newest first.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    if args.burst {
        return bursts::run(args, context).await;
    }
    let request = v1::ListPointsRequest {
        scenario: args.scenario,
        path: args.path,
        kinds: args.kinds.into_iter().map(|kind| v1::PointKind::from(kind).into()).collect(),
        since: args.since,
        until: args.until,
        limit: args.limit,
    };
    let mut client = context.client().await?;
    let mut stream = context.call(client.journal.list_points(request)).await?;
    while let Some(point) = context.next(&mut stream).await? {
        if !(context.out.object(&json::point(&point)) && context.out.data(&line(&point))) {
            break;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_was_thinned_out_is_marked() {
        let point = |thinned_out| v1::Point {
            lsn: Some(v1::Lsn { captured: 7, local: 0 }),
            kind: v1::PointKind::Modified.into(),
            path: b"/srv/a".as_slice().into(),
            thinned_out,
            ..v1::Point::default()
        };
        assert!(line(&point(false)).ends_with("modified    /srv/a"), "{}", line(&point(false)));
        assert!(line(&point(true)).ends_with("modified    /srv/a  [thinned out]"), "{}", line(&point(true)));
    }
}
