//! Points in time as the format writes them: RFC 3339 text with up to nine fractional digits.
//!
//! A point is seconds and nanoseconds since 1970 in UTC. We write `Z`; offsets are understood when read. Refused when
//! read: anything that is not such a text. The format cannot hold years before 0 or after 9999: those are clamped to its
//! first and last moment when written, which loses nothing that a file system of this century holds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;
const DAY: i64 = 86_400;

impl Timestamp {
    /// The system's clock.
    #[must_use]
    pub fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanoseconds: since.subsec_nanos(),
            },
            Err(_) => Self::default(),
        }
    }

    /// The nearest point that the format can hold.
    #[must_use]
    pub fn clamped(self) -> Self {
        match self.seconds {
            ..FIRST => Self { seconds: FIRST, nanoseconds: 0 },
            FIRST..=LAST => Self { nanoseconds: self.nanoseconds.min(999_999_999), ..self },
            _ => Self { seconds: LAST, nanoseconds: 999_999_999 },
        }
    }

    /// Appends the text, without trailing zeros of the fraction.
    pub fn write(self, out: &mut Vec<u8>) {
        let Self { seconds, nanoseconds } = self.clamped();
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        number(year, 4, out);
        for (mark, value) in
            [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
        {
            out.push(mark);
            number(value, 2, out);
        }
        if nanoseconds > 0 {
            out.push(b'.');
            number(nanoseconds.into(), 9, out);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        out.push(b'Z');
    }

    /// Reads such a text; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let field = |from: usize, length: usize| digits(bytes.get(from..from + length)?);
        let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark))
            || !matches!(bytes.get(10), Some(b'T' | b't'))
        {
            return None;
        }
        let (year, month, day) = (field(0, 4)?, field(5, 2)?, field(8, 2)?);
        let (hour, minute, second) = (field(11, 2)?, field(14, 2)?, field(17, 2)?);
        let days = days_of(year, month, day);
        if !(1..=12).contains(&month)
            || civil(days) != (year, month, day)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return None;
        }
        let mut rest = bytes.get(19..)?;
        let mut nanoseconds = 0;
        if let Some(after) = rest.strip_prefix(b".") {
            let length = after.iter().take_while(|b| b.is_ascii_digit()).count();
            let (fraction, zone) = after.split_at_checked(length)?;
            let kept = fraction.get(..length.min(9)).filter(|kept| !kept.is_empty())?;
            let scale = 10_i64.pow(9_u32.saturating_sub(u32::try_from(kept.len()).ok()?));
            nanoseconds = u32::try_from(digits(kept)? * scale).ok()?;
            rest = zone;
        }
        let seconds = days * DAY + hour * 3600 + minute * 60 + second - offset(rest)?;
        Some(Self { seconds, nanoseconds })
    }
}

fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let minutes = digits(&[*h1, *h2])? * 60 + digits(&[*m1, *m2])?;
            Some(if *sign == b'+' { minutes * 60 } else { minutes * -60 })
        }
        _ => None,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |all, digit| digit.is_ascii_digit().then(|| all * 10 + i64::from(digit - b'0')))
}

fn number(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut left = value;
    let start = out.len();
    for _ in 0..width {
        out.push(b'0' + u8::try_from(left % 10).unwrap_or(0));
        left /= 10;
    }
    out.get_mut(start..).unwrap_or_default().reverse();
}

/// Day since 1970 to year, month, day. Counts years from March, in eras of 400 years (146,097 days).
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The inverse of [`civil`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(32);
        self.write(&mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        let text = Text::deserialize(deserializer)?;
        Self::parse(&text.0).ok_or_else(|| serde::de::Error::custom("not a time of RFC 3339"))
    }
}

#[cfg(test)]
mod tests;
