//! Volumes of tape as JSON.

use super::{object, put_path, seconds, text};
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
            "compression": text(&file.compression),
            "encryption": text(&file.encryption),
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

/// A session that was copied.
#[must_use]
pub fn copied(report: &v1::SessionCopyReport) -> Value {
    let parts = report.parts.iter().map(|part| {
        json!({ "media": part.media, "volume": part.volume, "file": part.file, "blocks": part.blocks })
    });
    let missed = report.missed_first.iter().map(|missed| {
        let mut map = object(json!({ "reason": missed.reason }));
        put_path(&mut map, "path", &missed.path);
        Value::from(map)
    });
    json!({
        "session": report.session,
        "repository": report.repository,
        "copied_session": report.copied_session,
        "tape_session": (!report.tape_session.is_empty()).then_some(&report.tape_session),
        "to": report.to,
        "parts": parts.collect::<Vec<_>>(),
        "bytes": report.bytes,
        "files": report.files,
        "directories": report.directories,
        "missed": report.missed,
        "missed_first": missed.collect::<Vec<_>>(),
        "stalls": report.stalls,
        "bytes_read": report.bytes_read,
        "bytes_stored": report.bytes_stored,
        "was_there": report.was_there,
        "elapsed_seconds": seconds(report.elapsed.as_ref()),
    })
}
