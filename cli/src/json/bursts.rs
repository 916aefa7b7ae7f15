//! Bursts as JSON.

use super::{lsn, object, put_path, text};
use crate::output::utc_time;
use serde_json::{Value, json};
use wire::v1;

/// A burst.
#[must_use]
pub fn burst(burst: &v1::Burst) -> Value {
    let examples = burst.examples.iter().map(|file| {
        let mut map = object(json!({}));
        put_path(&mut map, "path", &file.path);
        put_path(&mut map, "to", &file.to);
        Value::from(map)
    });
    json!({
        "first_lsn": lsn(burst.first.as_ref()),
        "last_lsn": lsn(burst.last.as_ref()),
        "begin": utc_time(burst.begin.as_ref()),
        "end": utc_time(burst.end.as_ref()),
        "kinds": burst.kinds().map(v1::BurstKind::word).collect::<Vec<_>>(),
        "confidence": burst.confidence().word(),
        "files": burst.files,
        "rewritten": burst.rewritten,
        "renamed": burst.renamed,
        "judged": burst.judged,
        "spoiled": burst.spoiled,
        "examples": examples.collect::<Vec<_>>(),
        "point": burst.point,
        "after": text(&burst.after),
    })
}
