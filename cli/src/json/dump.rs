//! Records of journals and windows as JSON.

use super::{base64, lsn, object, seconds, utc_time};
use serde_json::{Map, Value, json};
use wire::v1::{self, dump_field};

/// One record of a journal: what all have, then its own fields. A field that comes more than once is a list; bytes that
/// are no UTF-8 stand in `NAME_base64` beside the name.
#[must_use]
pub fn item(item: &v1::DumpItem) -> Value {
    let mut map = object(json!({
        "stream": item.stream,
        "segment": item.segment,
        "record_offset": item.offset,
        "lsn": lsn(item.lsn.as_ref()),
        "time": utc_time(item.time.as_ref()),
        "kind": item.kind,
    }));
    for field in &item.fields {
        let value = match &field.value {
            Some(dump_field::Value::Number(value)) => json!(value),
            Some(dump_field::Value::Signed(value)) => json!(value),
            Some(dump_field::Value::Text(value)) => json!(value),
            Some(dump_field::Value::Flag(value)) => json!(value),
            Some(dump_field::Value::Lsn(value)) => json!(lsn(Some(value))),
            Some(dump_field::Value::Raw(bytes)) => {
                if std::str::from_utf8(bytes).is_err() {
                    add(&mut map, &format!("{}_base64", field.name), json!(base64(bytes)));
                }
                json!(String::from_utf8_lossy(bytes))
            }
            None => Value::Null,
        };
        add(&mut map, &field.name, value);
    }
    Value::Object(map)
}

fn add(map: &mut Map<String, Value>, name: &str, value: Value) {
    match map.get_mut(name) {
        None => drop(map.insert(name.to_owned(), value)),
        Some(Value::Array(values)) => values.push(value),
        Some(other) => *other = json!([other.take(), value]),
    }
}

/// How much of the promised history is held; null before the first point.
#[must_use]
pub fn window(window: Option<&v1::HeldWindow>) -> Value {
    let Some(window) = window else { return Value::Null };
    json!({
        "level": level(window.level()),
        "percent": window.percent,
        "promised_seconds": seconds(window.promised.as_ref()),
        "held_seconds": seconds(window.held.as_ref()),
        "over_budget": window.over_budget,
    })
}

/// The word for a level.
#[must_use]
pub fn level(level: v1::HeldLevel) -> &'static str {
    match level {
        v1::HeldLevel::Unspecified => "unknown",
        v1::HeldLevel::Whole => "whole",
        v1::HeldLevel::Warning => "warning",
        v1::HeldLevel::Error => "error",
    }
}

/// Figures of a journal, beside those of `stats`.
pub(super) fn figures(stats: &v1::JournalStats, map: &mut Map<String, Value>) {
    let thinning = stats.thinning.clone().unwrap_or_default();
    let thinned = json!({
        "segments": thinning.segments,
        "points": thinning.points,
        "undo_bytes": thinning.undo_bytes,
        "failures": thinning.failures,
        "stopped": super::text(&thinning.stopped),
    });
    map.insert("thinned".to_owned(), thinned);
    let figures = stats.figures.clone().unwrap_or_default();
    map.insert("window".to_owned(), window(stats.window.as_ref()));
    map.insert("changed_bytes".to_owned(), json!(figures.payload_bytes));
    // Before packing; `redo_bytes` and `undo_bytes` are what is stored.
    map.insert("redo_raw_bytes".to_owned(), json!(figures.payload_bytes));
    map.insert("undo_raw_bytes".to_owned(), json!(figures.undo_payload_bytes));
    map.insert("journal_bytes_per_changed_byte".to_owned(), json!(figures.journal_bytes_per_changed_byte));
    let pins: Vec<Value> =
        figures.pins.iter().map(|pin| json!({ "pin": pin.pin, "lsn": pin.lsn, "why": pin.why })).collect();
    map.insert("pinned".to_owned(), Value::Array(pins));
}

/// Tables against segments.
pub(super) fn tables(tables: &v1::TablesCheck) -> Value {
    let differences = tables.differences.iter();
    let differences: Vec<Value> =
        differences.map(|one| json!({ "table": one.table, "key": one.key, "what": one.what })).collect();
    json!({
        "compared": tables.not_compared.is_empty(),
        "why_not": (!tables.not_compared.is_empty()).then_some(&tables.not_compared),
        "rows": tables.rows,
        "differing": tables.differing,
        "differences": differences,
    })
}
