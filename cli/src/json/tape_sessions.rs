//! Where sessions lie on tape, as JSON.

use serde_json::{Map, Value, json};
use wire::v1;

/// Names of the volumes of a session, each once, in their order; none for one that is not on tape.
#[must_use]
pub fn media(session: &v1::Session) -> Vec<String> {
    let mut media: Vec<String> = Vec::new();
    for part in session.tape.iter().flat_map(|tape| &tape.parts) {
        if !media.contains(&part.media) {
            media.push(part.media.clone());
        }
    }
    media
}

/// Adds where a session lies on tape, if it does.
pub fn put(map: &mut Map<String, Value>, session: &v1::Session) {
    let Some(tape) = &session.tape else { return };
    let part = |part: &v1::TapeSessionPart| {
        json!({
            "media": part.media,
            "volume": part.volume,
            "serial": (!part.serial.is_empty()).then_some(&part.serial),
            "file": part.file,
            "blocks": part.blocks,
        })
    };
    let parts: Vec<Value> = tape.parts.iter().map(part).collect();
    map.insert("media".to_owned(), media(session).into());
    map.insert("tape".to_owned(), json!({ "pool": tape.pool, "bytes": tape.bytes, "parts": parts }));
}
