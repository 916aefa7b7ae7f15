//! Volumes of tape as JSON.

use super::text;
use crate::output::utc_time;
use serde_json::{Value, json};
use wire::v1;

/// A volume.
#[must_use]
pub fn volume(volume: &v1::TapeVolume) -> Value {
    let files = volume.files.iter().map(|file| {
        json!({
            "file": file.file,
            "session": text(&file.session),
            "part": file.part,
            "ends": file.ends,
            "bytes": file.bytes,
            "problem": text(&file.problem),
        })
    });
    json!({
        "media": volume.media,
        "id": text(&volume.id),
        "serial": text(&volume.serial),
        "pool": text(&volume.pool),
        "sequence": volume.sequence,
        "block_bytes": volume.block_bytes,
        "compression": text(&volume.compression),
        "encryption": text(&volume.encryption),
        "made_by": text(&volume.made_by),
        "made_at": utc_time(volume.made_at.as_ref()),
        "loaded": volume.loaded,
        "used_bytes": volume.used_bytes,
        "free_bytes": volume.free_bytes,
        "cut_off": volume.cut_off,
        "files": files.collect::<Vec<_>>(),
        "problem": text(&volume.problem),
    })
}
