//! The archive's status as JSON.

use super::{seconds, text};
use crate::output::utc_time;
use serde_json::{Value, json};
use wire::v1;

/// Null where nothing is archived.
#[must_use]
pub fn status(status: Option<&v1::ArchiveStatus>) -> Value {
    let Some(status) = status else { return Value::Null };
    json!({
        "repository": status.repository,
        "every_seconds": seconds(status.every.as_ref()),
        "archived_lsn": status.lsn.to_string(),
        "archived_time": utc_time(status.time.as_ref()),
        "rpo_seconds": seconds(status.rpo.as_ref()),
        "behind_seconds": seconds(status.behind.as_ref()),
        "gaps": status.gaps,
        "problem": text(&status.problem),
        "attempted": utc_time(status.attempted.as_ref()),
    })
}
