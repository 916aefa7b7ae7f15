//! Which sessions a retention keeps. Pure: it sees times and groups, and says what it keeps and why.
//!
//! The rules are restic's, so that who knows those knows these: sessions of one host and the same paths are a group; in a
//! group, from the newest to the oldest, each rule keeps the newest session of each of its last N hours, days, weeks,
//! months or years that have one; `within` keeps all that are not older, counted from the newest session of the group, not
//! from now, so that a host that is gone loses nothing by time passing. Hours and days are those of UTC.
//!
//! A session that is dated later than now, by more than [`CLOCKS_APART_MAX`] seconds, was made while a clock was wrong. It
//! says nothing of how old the others are: it is kept, no rule counts it, and `within` does not count from it.
//!
//! Refused: a policy that keeps nothing. A group never loses its last session.

use crate::repository::error::RepositoryError;
use crate::repository::id::Id;
use crate::repository::session::SessionRecord;
use crate::repository::time::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::time::Duration;

/// Seconds that a session may be dated later than now, as clocks of machines differ.
const CLOCKS_APART_MAX: i64 = 3600;

/// Why a session is kept that is dated later than now.
pub const LATER_THAN_NOW: &str = "later-than-now";

/// How many sessions are kept, of each group. 0: the rule keeps none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest.
    pub last: u32,
    /// The newest of each of so many hours.
    pub hourly: u32,
    /// Of days.
    pub daily: u32,
    /// Of weeks, which begin on Mondays.
    pub weekly: u32,
    /// Of months.
    pub monthly: u32,
    /// Of years.
    pub yearly: u32,
    /// All that are not older than this before the newest of the group.
    pub within: Option<Duration>,
}

impl Policy {
    /// Whether no rule keeps anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { last, hourly, daily, weekly, monthly, yearly, within } = *self;
        [last, hourly, daily, weekly, monthly, yearly].iter().all(|count| *count == 0)
            && within.is_none_or(|within| within.is_zero())
    }
}

/// A session as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The session.
    pub id: Id,
    /// When the backed up state was current.
    pub time: Timestamp,
    /// The machine.
    pub host: String,
    /// What was backed up, sorted.
    pub paths: Vec<String>,
}

impl Candidate {
    /// From a record.
    #[must_use]
    pub fn new(id: Id, record: &SessionRecord) -> Self {
        let mut paths = record.paths.clone();
        paths.sort_unstable();
        Self { id, time: record.time, host: record.hostname.clone(), paths }
    }
}

/// A session that stays, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The session.
    pub session: Candidate,
    /// Rules that keep it: `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly`, `within`; or
    /// [`LATER_THAN_NOW`] alone.
    pub reasons: Vec<&'static str>,
}

/// What becomes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The machine.
    pub host: String,
    /// What was backed up.
    pub paths: Vec<String>,
    /// Newest first. Never empty.
    pub keep: Vec<Kept>,
    /// Newest first.
    pub forget: Vec<Candidate>,
}

/// Decides, group by group, in the order of hosts and paths. `now` tells which sessions cannot be as new as they say.
///
/// # Errors
/// `EmptyPolicy`; `GroupEmptied` if nothing of a group would stay.
pub fn apply(
    policy: &Policy,
    now: Timestamp,
    sessions: Vec<Candidate>,
) -> Result<Vec<Group>, RepositoryError> {
    if policy.is_empty() {
        return Err(RepositoryError::EmptyPolicy);
    }
    let mut groups: BTreeMap<(String, Vec<String>), Vec<Candidate>> = BTreeMap::new();
    for session in sessions {
        groups.entry((session.host.clone(), session.paths.clone())).or_default().push(session);
    }
    let decide = |((host, paths), sessions): ((String, Vec<String>), _)| {
        let (keep, forget) = divide(policy, now, sessions);
        if keep.is_empty() {
            return Err(RepositoryError::GroupEmptied { host, paths: paths.join(", ") });
        }
        Ok(Group { host, paths, keep, forget })
    };
    groups.into_iter().map(decide).collect()
}

/// A rule with what it has left, and the period it kept a session of last.
struct Rule {
    reason: &'static str,
    left: u32,
    period: fn(DateTime, i64) -> i64,
    last: Option<i64>,
}

fn rules(policy: &Policy) -> [Rule; 6] {
    let rule = |reason, left, period: fn(DateTime, i64) -> i64| Rule { reason, left, period, last: None };
    [
        rule("last", policy.last, |_, number| number),
        rule("hourly", policy.hourly, |at, _| day(at) * 24 + i64::from(at.hour())),
        rule("daily", policy.daily, |at, _| day(at)),
        rule("weekly", policy.weekly, |at, _| {
            let week = at.date().iso_week_date();
            i64::from(week.year()) * 100 + i64::from(week.week())
        }),
        rule("monthly", policy.monthly, |at, _| i64::from(at.year()) * 12 + i64::from(at.month())),
        rule("yearly", policy.yearly, |at, _| at.year().into()),
    ]
}

fn day(at: DateTime) -> i64 {
    i64::from(at.year()) * 400 + i64::from(at.day_of_year())
}

fn civil(time: Timestamp) -> DateTime {
    let clamped = time.clamped();
    jiff::Timestamp::new(clamped.seconds, 0)
        .map_or(DateTime::MIN, |stamp| stamp.to_zoned(TimeZone::UTC).datetime())
}

fn divide(policy: &Policy, now: Timestamp, mut sessions: Vec<Candidate>) -> (Vec<Kept>, Vec<Candidate>) {
    sessions.sort_by(|a, b| b.time.cmp(&a.time).then(a.id.cmp(&b.id)));
    let limit = Timestamp { seconds: now.seconds.saturating_add(CLOCKS_APART_MAX), ..now };
    let later = sessions.partition_point(|session| session.time > limit);
    let sessions_later = sessions.drain(..later);
    let mut keep: Vec<Kept> =
        sessions_later.map(|session| Kept { session, reasons: vec![LATER_THAN_NOW] }).collect();
    let newest = sessions.first().map(|session| session.time.min(now)).unwrap_or_default();
    let within = policy.within.filter(|within| !within.is_zero()).map(|within| Timestamp {
        seconds: newest.seconds.saturating_sub(i64::try_from(within.as_secs()).unwrap_or(i64::MAX)),
        ..newest
    });
    let mut rules = rules(policy);
    let mut forget = Vec::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let at = civil(session.time);
        let mut reasons = Vec::new();
        if within.is_some_and(|since| session.time > since) {
            reasons.push("within");
        }
        for rule in &mut rules {
            let period = (rule.period)(at, i64::try_from(number).unwrap_or(i64::MAX));
            if rule.left > 0 && rule.last != Some(period) {
                rule.left -= 1;
                rule.last = Some(period);
                reasons.push(rule.reason);
            }
        }
        if reasons.is_empty() {
            forget.push(session);
        } else {
            keep.push(Kept { session, reasons });
        }
    }
    (keep, forget)
}

#[cfg(test)]
mod tests;
