//! Records of extended headers (`LENGTH KEYWORD=VALUE\n`), and times as they hold them.
//!
//! Refused when reading: lengths that do not lead to a line feed, keywords without `=`. Values are bytes and may hold anything.

use crate::repository::Timestamp;
use std::io::Write;

/// Appends a record.
pub(super) fn put(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + digits(length) != length {
        length = rest + digits(length);
    }
    // Writing to memory does not fail.
    let _ = write!(records, "{length} ");
    records.extend_from_slice(keyword);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A record: keyword, value, and what is behind it. `None` if it is none.
pub(super) fn take(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // Twenty digits are more than any length has.
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(records.get(..space)?)?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = memchr::memchr(b'=', record)?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

/// A decimal number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time as decimal seconds: -1.5 is half a second before -1.
pub(super) fn time_text(time: Timestamp) -> String {
    let Timestamp { mut seconds, mut nanoseconds } = time;
    let mut sign = "";
    if seconds < 0 {
        sign = "-";
        // Rounded down as it stands there; towards zero in the text.
        (seconds, nanoseconds) = match nanoseconds {
            0 => (seconds.saturating_neg(), 0),
            _ => (seconds.saturating_add(1).saturating_neg(), 1_000_000_000_u32.saturating_sub(nanoseconds)),
        };
    }
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let mut text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// Inverse of [`time_text`].
pub(super) fn time_of(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = memchr::memchr(b'.', text).unwrap_or(text.len());
    let seconds = i64::try_from(number(text.get(..point)?)?).ok()?;
    let mut nanoseconds = 0;
    if let Some(fraction) = text.get(point + 1..) {
        let scale = 10_u64.checked_pow(9_u32.checked_sub(u32::try_from(fraction.len()).ok()?)?)?;
        nanoseconds = u32::try_from(number(fraction)?.checked_mul(scale)?).ok()?;
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}
