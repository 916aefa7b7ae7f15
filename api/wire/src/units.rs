//! Sizes and durations as people write and read them.
//!
//! Written: `50GiB`, `50G`, `512k`, `1.5TiB`, `123` (bytes); units are powers of 1024 whether or not the `i` is
//! there, except `kB`, `MB`, `GB`, `TB`, which are powers of 1000. `7d`, `90s`, `1h30m`, `2w`. Read: `1.4 GiB`.

use std::time::Duration;

/// A text that is neither size nor duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("{0:?} is not a size (examples: 512MiB, 50GiB, 1TB)")]
    Size(String),
    /// Not a duration.
    #[error("{0:?} is not a duration (examples: 90s, 1h30m, 7d)")]
    Duration(String),
}

/// Bytes from `50GiB` and the like.
///
/// # Errors
/// [`UnitError::Size`] if it is none, negative, or more than 2^63 bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size(text.to_owned());
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let factor = size_factor(unit.trim_start()).ok_or_else(bad)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Integer arithmetic throughout: 0.1 has no exact binary form, and sizes should be what they say.
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(fraction) || fraction.len() > 9 || number.ends_with('.') {
        return Err(bad());
    }
    let whole: u128 = whole.parse::<u64>().map_err(|_| bad())?.into();
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().map_err(|_| bad())?.into() };
    let bytes = whole * u128::from(factor) + part * u128::from(factor) / scale;
    u64::try_from(bytes).ok().filter(|bytes| *bytes <= 1 << 63).ok_or_else(bad)
}

fn size_factor(unit: &str) -> Option<u64> {
    Some(match unit {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "k" | "K" | "KiB" | "kiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        "T" | "t" | "TiB" => 1 << 40,
        _ => return None,
    })
}

/// `1.4 GiB`, `17 B`: three digits are enough for people.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut name = "B";
    for unit in UNITS {
        value /= 1024.0;
        name = unit;
        // 1023.95 would be printed as 1024.0.
        if value < 1023.95 {
            break;
        }
    }
    if value < 99.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// Duration from `7d`, `1h30m`, `500ms`.
///
/// # Errors
/// [`UnitError::Duration`] if it is none or longer than a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let millis: u64 = match unit.trim() {
            "ms" => 1,
            "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return Err(bad()),
        };
        let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(bad)?);
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = next;
    }
    if total > Duration::from_secs(100 * 365 * 86_400) { Err(bad()) } else { Ok(total) }
}

/// `7d`, `1h30m`, `250ms`: what [`parse_duration`] reads back, to the millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let count = millis / length;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests;
