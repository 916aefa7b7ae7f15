//! POINT and time arguments: the one place that knows how they are written.
//!
//! A POINT is a bookmark's name, `bookmark:NAME`, `lsn:N`, `lsn:N.k`, `time:RFC3339`, `-10m`, `now`, `last-good` or
//! `last-good:FIRST-LAST`, which names the burst by its first and last capture. Times count on
//! the master's clock, which only the engine knows: parsing leaves `-10m` and names as they are, and
//! [`Engine::resolve`](crate::engine::Engine::resolve) gives them a meaning.

use crate::engine::EngineError;
use journal::{Lsn, Timestamp};
use std::fmt;
use std::time::Duration;
use wire::codes;
use wire::units::{format_duration, parse_duration};

/// Longest name of a bookmark in bytes.
pub const BOOKMARK_NAME_BYTES_MAX: usize = 200;

/// A point of a scenario, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointSpec {
    /// The bookmark of this name.
    Bookmark(String),
    /// This LSN.
    Lsn(Lsn),
    /// The newest LSN not younger than this.
    Time(Timestamp),
    /// So long before the master's present.
    Ago(Duration),
    /// The newest journaled LSN.
    Now,
    /// Before a burst: the one from this capture to that, else the newest that is most surely damage. In a rewind each
    /// file goes to its own last version before the burst.
    LastGood(Option<(u64, u64)>),
}

impl PointSpec {
    /// Reads a POINT.
    ///
    /// # Errors
    /// `BAD_POINT`.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        if text == "now" {
            return Ok(PointSpec::Now);
        }
        if text == "last-good" {
            return Ok(PointSpec::LastGood(None));
        }
        if text.starts_with('-') {
            return parse_ago(text).map(PointSpec::Ago);
        }
        match text.split_once(':') {
            None if bookmark_name_is_good(text) => Ok(PointSpec::Bookmark(text.to_owned())),
            Some(("bookmark", name)) if bookmark_name_is_good(name) => {
                Ok(PointSpec::Bookmark(name.to_owned()))
            }
            Some(("lsn", number)) => {
                number.parse().map(PointSpec::Lsn).map_err(|error| bad_point(text).caused_by(error))
            }
            Some(("last-good", range)) => {
                let bounds = range.split_once('-').and_then(|(first, last)| {
                    Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
                });
                bounds.map(|bounds| PointSpec::LastGood(Some(bounds))).ok_or_else(|| bad_point(text))
            }
            Some(("time", time)) => parse_time(time).map(PointSpec::Time),
            _ => Err(bad_point(text)),
        }
    }
}

impl fmt::Display for PointSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PointSpec::Bookmark(name) => write!(f, "bookmark:{name}"),
            PointSpec::Lsn(lsn) => write!(f, "lsn:{lsn}"),
            PointSpec::Time(time) => write!(f, "time:{}", format_time(*time)),
            PointSpec::Ago(duration) => write!(f, "-{}", format_duration(*duration)),
            PointSpec::Now => f.write_str("now"),
            PointSpec::LastGood(None) => f.write_str("last-good"),
            PointSpec::LastGood(Some((first, last))) => write!(f, "last-good:{first}-{last}"),
        }
    }
}

/// A time, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSpec {
    /// This time.
    At(Timestamp),
    /// So long before the present.
    Ago(Duration),
}

impl TimeSpec {
    /// Reads `-10m`, RFC 3339, or `time:` and RFC 3339.
    ///
    /// # Errors
    /// `BAD_POINT`.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        if text.starts_with('-') {
            return parse_ago(text).map(TimeSpec::Ago);
        }
        parse_time(text.strip_prefix("time:").unwrap_or(text)).map(TimeSpec::At)
    }

    /// The time meant, where `now` is the present.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            TimeSpec::At(time) => time,
            TimeSpec::Ago(duration) => {
                Timestamp(now.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
            }
        }
    }
}

fn bad_point(text: &str) -> EngineError {
    EngineError::new(&codes::BAD_POINT, format!("{text:?} is not a point"))
}

fn parse_ago(text: &str) -> Result<Duration, EngineError> {
    let duration = text.strip_prefix('-').unwrap_or(text);
    parse_duration(duration).map_err(|error| bad_point(text).caused_by(error))
}

/// RFC 3339 only: a time without an offset would mean one thing here and another on the client's machine.
fn parse_time(text: &str) -> Result<Timestamp, EngineError> {
    let bad = |source: Option<jiff::Error>| {
        let error = EngineError::new(&codes::BAD_POINT, format!("{text:?} is not a time"))
            .because("Times are written as RFC 3339 with an offset, for example 2026-11-21T17:05:00Z.");
        match source {
            Some(source) => error.caused_by(source),
            None => error,
        }
    };
    let time: jiff::Timestamp = text.parse().map_err(|error| bad(Some(error)))?;
    i64::try_from(time.as_nanosecond()).map(Timestamp).map_err(|_| bad(None))
}

/// RFC 3339 UTC with nanoseconds where there are any.
#[must_use]
pub fn format_time(time: Timestamp) -> String {
    // 64 bits of nanoseconds lie well within the years jiff knows.
    jiff::Timestamp::from_nanosecond(time.0.into())
        .map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

/// The present by this machine's clock.
#[must_use]
pub fn wall_clock() -> Timestamp {
    Timestamp(i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}

fn bookmark_name_is_good(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= BOOKMARK_NAME_BYTES_MAX
        && !name.starts_with('-')
        && !name.contains([':', '/'])
        && !name.contains(char::is_control)
        && name.trim() == name
}

/// Checks the name of a new bookmark. `now` and `last-good` are refused since a POINT of that text means another thing.
///
/// # Errors
/// `BAD_NAME`.
pub fn check_bookmark_name(name: &str) -> Result<(), EngineError> {
    if bookmark_name_is_good(name) && name != "now" && name != "last-good" {
        Ok(())
    } else {
        Err(EngineError::new(&codes::BAD_NAME, format!("{name:?} cannot be the name of a bookmark")))
    }
}

/// The name of a bookmark nobody named: date and time (UTC), without the colon a name must not have.
#[must_use]
pub fn default_bookmark_name(now: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(now.0.into())
        .map_or_else(|_| now.0.to_string(), |time| time.strftime("%Y-%m-%d_%H.%M.%S").to_string())
}

#[cfg(test)]
mod tests;
