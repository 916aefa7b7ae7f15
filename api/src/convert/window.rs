//! Windows, figures and dumps of journals as messages.

use super::{bytes_to_wire, lsn};
use crate::engine::{JournalStats, TablesVerified};
use journal::dump::{Item, Value};
use journal::held::{Held, HeldLevel};
use journal::log::Stream;
use wire::convert::{duration_to_wire, time_to_wire};
use wire::v1::{self, dump_field};

/// How much history is held.
#[must_use]
pub fn held_to_wire(held: &Held) -> v1::HeldWindow {
    let level = match held.level {
        HeldLevel::Whole => v1::HeldLevel::Whole,
        HeldLevel::Warning => v1::HeldLevel::Warning,
        HeldLevel::Error => v1::HeldLevel::Error,
    };
    v1::HeldWindow {
        level: level.into(),
        percent: held.percent,
        promised: Some(duration_to_wire(held.promised)),
        held: Some(duration_to_wire(held.held)),
        over_budget: held.over_budget,
    }
}

/// What a journal weighs.
#[must_use]
pub fn figures_to_wire(stats: &JournalStats) -> v1::JournalFigures {
    let bytes = stats.redo_bytes.saturating_add(stats.undo_bytes);
    let ratio = (stats.payload_bytes > 0).then(|| bytes as f64 / stats.payload_bytes as f64);
    let pins = stats.pinned.iter();
    v1::JournalFigures {
        payload_bytes: stats.payload_bytes,
        undo_payload_bytes: stats.undo_payload_bytes,
        journal_bytes_per_changed_byte: ratio,
        pins: pins
            .map(|(pin, at, why)| v1::HeldPin { pin: *pin, lsn: at.to_string(), why: why.clone() })
            .collect(),
    }
}

/// Tables against segments.
#[must_use]
pub fn tables_to_wire(tables: TablesVerified) -> v1::TablesCheck {
    match tables {
        TablesVerified::Not(why) => v1::TablesCheck { not_compared: why, ..v1::TablesCheck::default() },
        TablesVerified::Compared(report) => {
            let differences = report.differences.into_iter().map(|one| v1::RowDifference {
                table: one.table.to_owned(),
                key: one.key,
                what: one.what.to_owned(),
            });
            v1::TablesCheck {
                rows: report.rows,
                differing: report.differing,
                differences: differences.collect(),
                not_compared: String::new(),
            }
        }
    }
}

/// A record of a journal.
#[must_use]
pub fn item_to_wire(item: Item) -> v1::DumpItem {
    let stream = match item.stream {
        Stream::Redo => "redo",
        Stream::Undo => "undo",
    };
    let fields = item.fields.into_iter().map(|(name, value)| {
        let value = match value {
            Value::Unsigned(value) => dump_field::Value::Number(value),
            Value::Signed(value) => dump_field::Value::Signed(value),
            Value::Text(value) => dump_field::Value::Text(value),
            Value::Bytes(value) => dump_field::Value::Raw(bytes_to_wire(value)),
            Value::Flag(value) => dump_field::Value::Flag(value),
            Value::Lsn(value) => dump_field::Value::Lsn(value.into()),
        };
        v1::DumpField { name: name.to_owned(), value: Some(value) }
    });
    v1::DumpItem {
        stream: stream.to_owned(),
        segment: item.at.segment,
        offset: item.at.offset,
        lsn: item.lsn.and_then(lsn),
        time: Some(time_to_wire(item.time)),
        kind: item.kind.to_owned(),
        fields: fields.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::{Lsn, Timestamp};
    use std::time::Duration;

    #[test]
    fn a_window_keeps_its_figures() {
        let held = Held {
            oldest: (Lsn::captured(7), Timestamp(1)),
            promised: Duration::from_secs(100),
            held: Duration::from_secs(80),
            percent: 80,
            level: HeldLevel::Warning,
            over_budget: true,
        };
        let wire = held_to_wire(&held);
        assert_eq!((wire.level(), wire.percent, wire.over_budget), (v1::HeldLevel::Warning, 80, true));
        assert_eq!(wire.held.unwrap().seconds, 80);
        assert_eq!(wire.promised.unwrap().seconds, 100);
    }

    #[test]
    fn nothing_changed_has_no_ratio() {
        let stats = JournalStats { redo_bytes: 300, undo_bytes: 100, ..JournalStats::default() };
        assert_eq!(figures_to_wire(&stats).journal_bytes_per_changed_byte, None);
        let stats = JournalStats { payload_bytes: 200, ..stats };
        assert_eq!(figures_to_wire(&stats).journal_bytes_per_changed_byte, Some(2.0));
    }
}
