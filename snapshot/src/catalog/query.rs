//! Asking the catalog: what matches a pattern, what a path was, what is in a directory.
//!
//! A session and what it says of a path are a pair. Filters choose among these pairs; what is left of a path, if
//! anything is, makes one result. "Newest" is always by the time a session was taken.

use super::error::CatalogError;
use super::lineage::Held;
use super::path::{Span, check};
use super::pattern::{Compiled, Pattern};
use super::search::{After, Owner, Search};
use super::state::{EntityState, Snapshot};
use super::types::{Entity, EntryKind, Event, Modified, Row, Session, SessionId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A larger page is cut to this.
pub const PAGE_MAX: usize = 10_000;

/// What to leave out. The default leaves out nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this scenario.
    pub scenario: Option<String>,
    /// Only this master.
    pub master: Option<String>,
    /// Only the entity of this name.
    pub entity: Option<String>,
    /// Only what this session holds.
    pub session: Option<SessionId>,
    /// Only this kind.
    pub kind: Option<EntryKind>,
    /// At least as many bytes.
    pub size_min: Option<u64>,
    /// At most as many bytes.
    pub size_max: Option<u64>,
    /// Modified then or later.
    pub modified_since: Option<Modified>,
    /// Modified before then.
    pub modified_before: Option<Modified>,
    /// Only what the newest session of the entity no longer holds.
    pub deleted: bool,
}

impl Filter {
    fn admits_entity(&self, entity: &Entity) -> bool {
        let is = |wanted: &Option<String>, have: &String| wanted.as_ref().is_none_or(|wanted| wanted == have);
        is(&self.scenario, &entity.scenario)
            && is(&self.master, &entity.master)
            && is(&self.entity, &entity.name)
    }

    /// Whether a row passes what is said of kind, size and time.
    #[must_use]
    pub fn admits(&self, row: &Row) -> bool {
        self.kind.is_none_or(|kind| kind == row.kind)
            && self.size_min.is_none_or(|least| row.size >= least)
            && self.size_max.is_none_or(|most| row.size <= most)
            && self.modified_since.is_none_or(|since| row.modified >= since)
            && self.modified_before.is_none_or(|before| row.modified < before)
    }
}

/// Where the next page begins. Opaque; good as long as the catalog is not rebuilt, and after that still safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(After);

const TOKEN_VERSION: u8 = 1;

impl PageToken {
    /// Behind a row of a query.
    #[must_use]
    pub fn after(found: &Found) -> Self {
        PageToken(After { path: found.path.clone(), entity: found.number })
    }

    /// As bytes, to be given to somebody.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![TOKEN_VERSION];
        out.extend_from_slice(&self.0.entity.to_le_bytes());
        out.extend_from_slice(&self.0.path);
        out
    }

    /// From what somebody gave back.
    ///
    /// # Errors
    /// [`CatalogError::BadToken`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CatalogError> {
        let (version, rest) = bytes.split_first().ok_or(CatalogError::BadToken)?;
        let (entity, path) = rest.split_first_chunk::<4>().ok_or(CatalogError::BadToken)?;
        if *version != TOKEN_VERSION || check(path).is_err() {
            return Err(CatalogError::BadToken);
        }
        Ok(PageToken(After { path: path.to_vec(), entity: u32::from_le_bytes(*entity) }))
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What the path has to be.
    pub pattern: Pattern,
    /// What to leave out.
    pub filter: Filter,
    /// Results of a page; at most [`PAGE_MAX`].
    pub limit: usize,
    /// The page to give; `None` for the first.
    pub after: Option<PageToken>,
}

/// A path of an entity with a summary of what passed the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The whole path on the master.
    pub path: Vec<u8>,
    /// Whose path.
    pub entity: Arc<Entity>,
    /// The version the newest of the sessions holds.
    pub newest: Row,
    /// How many sessions hold it.
    pub sessions: u32,
    /// The oldest of them.
    pub first: Arc<Session>,
    /// The newest of them.
    pub last: Arc<Session>,
    /// The entity's number, for page tokens.
    number: u32,
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of paths.
    pub rows: Vec<T>,
    /// Where the next one begins; `None` if this is the last.
    pub next: Option<PageToken>,
}

/// What a path was, in the sessions of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose path.
    pub entity: Arc<Entity>,
    /// What it was.
    pub row: Row,
    /// The sessions that hold exactly this, the oldest first.
    pub sessions: Vec<Arc<Session>>,
}

/// Whose listing of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// That of the newest session of each entity.
    Newest,
    /// That of one session.
    Session(SessionId),
    /// Everything that any session holds, as its newest version.
    Ever,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The whole path on the master.
    pub path: Vec<u8>,
    /// Whose entry.
    pub entity: Arc<Entity>,
    /// What it is; `None` for a directory above the entity's root, of which nothing but the name is known.
    pub row: Option<Row>,
}

/// Which entities a question is about, and at what position of each, if it is about one session.
struct Asked<'s> {
    state: &'s EntityState,
    position: Option<u32>,
}

fn asked<'s>(snapshot: &'s Snapshot, filter: &Filter) -> Result<Vec<Asked<'s>>, CatalogError> {
    let entities = snapshot.entities.iter().filter(|state| filter.admits_entity(&state.entity));
    let Some(id) = filter.session else {
        return Ok(entities.map(|state| Asked { state, position: None }).collect());
    };
    let session = snapshot.manifest.session_by_id(id).ok_or(CatalogError::NoSuchSession { id })?;
    let entities = entities.filter(|state| state.number == session.entity);
    Ok(entities.map(|state| Asked { state, position: state.lineage.position(session.number) }).collect())
}

thread_local! {
    /// Intervals of the path that is being judged: one list a thread, not one a path.
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

impl Asked<'_> {
    /// What is left of a path.
    fn judge(&self, filter: &Filter, path: &[u8], events: &[Event]) -> Option<Found> {
        let lineage = &self.state.lineage;
        if filter.deleted && lineage.row_at(events, lineage.newest()?).is_some() {
            return None;
        }
        let (newest, sessions, first, last) = match self.position {
            Some(position) => {
                let row = lineage.row_at(events, position).filter(|row| filter.admits(row))?;
                let count = lineage.count(position, position + 1)?;
                (row, count.sessions, count.first, count.last)
            }
            None => HELD.with_borrow_mut(|held| {
                lineage.resolve(events, held);
                self.summary(filter, held)
            })?,
        };
        Some(Found {
            path: path.to_vec(),
            entity: Arc::clone(&self.state.entity),
            newest,
            sessions,
            first: Arc::clone(self.state.session_by_time(first)?),
            last: Arc::clone(self.state.session_by_time(last)?),
            number: self.state.number,
        })
    }

    fn summary(&self, filter: &Filter, held: &[Held]) -> Option<(Row, u32, u32, u32)> {
        let mut summary: Option<(Row, u32, u32, u32)> = None;
        for interval in held.iter().filter(|interval| filter.admits(&interval.row)) {
            let Some(count) = self.state.lineage.count(interval.from, interval.to) else { continue };
            summary = Some(match summary {
                None => (interval.row, count.sessions, count.first, count.last),
                Some((row, sessions, first, last)) => (
                    if count.last > last { interval.row } else { row },
                    sessions + count.sessions,
                    first.min(count.first),
                    last.max(count.last),
                ),
            });
        }
        summary
    }
}

/// Cuts what was searched for with one result too many to a page.
fn page<T>(mut rows: Vec<T>, limit: usize, token: impl Fn(&T) -> After) -> Page<T> {
    let is_last = rows.len() <= limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| !is_last).map(|last| PageToken(token(last)));
    Page { rows, next }
}

/// The number of a result's entity.
fn number(snapshot: &Snapshot, entity: &Arc<Entity>) -> u32 {
    let same = |state: &&EntityState| Arc::ptr_eq(&state.entity, entity);
    snapshot.entities.iter().find(same).map_or(0, |state| state.number)
}

pub(super) fn query(snapshot: &Snapshot, query: &Query) -> Result<Page<Found>, CatalogError> {
    let compiled = Compiled::new(&query.pattern)?;
    let asked = asked(snapshot, &query.filter)?;
    let matchers: Vec<_> = asked.iter().map(|one| compiled.for_root(&one.state.entity.root)).collect();
    let owners = asked.iter().zip(&matchers);
    let owners =
        owners.map(|(one, matcher)| Owner { state: one.state, select: matcher, spans: &matcher.spans });
    let limit = query.limit.clamp(1, PAGE_MAX);
    let search = Search {
        owners: owners.collect(),
        after: query.after.clone().map(|token| token.0),
        limit: limit + 1,
        judge: &|owner, path, events| asked.get(owner)?.judge(&query.filter, path, events),
    };
    let in_pieces = !matches!(query.pattern, Pattern::Exact(_));
    let rows = search.run(snapshot, in_pieces)?;
    let after = |row: &Found| After { path: row.path.clone(), entity: number(snapshot, &row.entity) };
    Ok(page(rows, limit, after))
}

pub(super) fn versions(
    snapshot: &Snapshot,
    path: &[u8],
    filter: &Filter,
) -> Result<Vec<Version>, CatalogError> {
    check(path)?;
    let asked = asked(snapshot, filter)?;
    let spans = [Span::exact(path)];
    let owners =
        asked.iter().map(|one| Owner { state: one.state, select: &super::cursor::All, spans: &spans });
    let search = Search {
        owners: owners.collect(),
        after: None,
        limit: usize::MAX,
        judge: &|owner, _, events| Some((owner, events.to_vec())),
    };
    let mut versions = Vec::new();
    for (owner, events) in search.run(snapshot, false)? {
        if let Some(one) = asked.get(owner) {
            versions.extend(one.versions(filter, &events));
        }
    }
    Ok(versions)
}

impl Asked<'_> {
    fn versions(&self, filter: &Filter, events: &[Event]) -> Vec<Version> {
        let lineage = &self.state.lineage;
        let is_there = lineage.newest().is_some_and(|newest| lineage.row_at(events, newest).is_some());
        if filter.deleted && is_there {
            return Vec::new();
        }
        let mut held = Vec::new();
        lineage.resolve(events, &mut held);
        let mut ranks: HashMap<Row, Vec<u32>> = HashMap::new();
        for interval in held.iter().filter(|interval| filter.admits(&interval.row)) {
            let wanted: Range<u32> = match self.position {
                Some(position) => position..position + 1,
                None => 0..u32::MAX,
            };
            let (from, to) = (interval.from.max(wanted.start), interval.to.min(wanted.end));
            ranks.entry(interval.row).or_default().extend(lineage.ranks_in(from, to));
        }
        let mut versions: Vec<(Row, Vec<u32>)> = ranks.into_iter().filter(|(_, r)| !r.is_empty()).collect();
        versions.iter_mut().for_each(|(_, ranks)| ranks.sort_unstable());
        versions.sort_by_key(|(_, ranks)| ranks.first().copied());
        let show = |(row, ranks): (Row, Vec<u32>)| Version {
            entity: Arc::clone(&self.state.entity),
            row,
            sessions: ranks
                .into_iter()
                .filter_map(|rank| self.state.session_by_time(rank))
                .cloned()
                .collect(),
        };
        versions.into_iter().map(show).collect()
    }
}

pub(super) fn children(
    snapshot: &Snapshot,
    directory: &[u8],
    at: At,
    filter: &Filter,
    limit: usize,
    after: Option<PageToken>,
) -> Result<Page<Child>, CatalogError> {
    check(directory)?;
    let dir = if directory == b"/" { &b""[..] } else { directory };
    let session = match at {
        At::Session(id) => Some(id),
        At::Newest | At::Ever => filter.session,
    };
    let filter = Filter { session, ..filter.clone() };
    let asked = asked(snapshot, &filter)?;
    let limit = limit.clamp(1, PAGE_MAX);
    let spans = [Span::children(dir)];
    let owners =
        asked.iter().map(|one| Owner { state: one.state, select: &super::cursor::All, spans: &spans });
    let search = Search {
        owners: owners.collect(),
        after: after.map(|token| token.0),
        limit: limit + 1,
        judge: &|owner, path, events| {
            let one = asked.get(owner).filter(|_| path != b"/")?;
            let found = match at {
                At::Newest if one.position.is_none() => {
                    let row = one.state.lineage.row_at(events, one.state.lineage.newest()?);
                    row.filter(|row| filter.admits(row))?
                }
                _ => one.judge(&filter, path, events)?.newest,
            };
            Some(Child { path: path.to_vec(), entity: Arc::clone(&one.state.entity), row: Some(found) })
        },
    };
    let mut rows = search.run(snapshot, false)?;
    above_roots(&asked, dir, search.after.as_ref(), &mut rows);
    rows.truncate(limit + 1);
    let after = |row: &Child| After { path: row.path.clone(), entity: number(snapshot, &row.entity) };
    Ok(page(rows, limit, after))
}

/// Adds the directories on the way from `dir` to the roots of entities below it, which no session has entries for.
fn above_roots(asked: &[Asked<'_>], dir: &[u8], after: Option<&After>, rows: &mut Vec<Child>) {
    let key = |path: &[u8], number: u32| (path.to_vec(), number);
    let mut order: Vec<((Vec<u8>, u32), Child)> = Vec::new();
    for one in asked.iter().filter(|one| one.state.live().next().is_some()) {
        let below = one.state.entity.root.strip_prefix(dir).and_then(|rest| rest.strip_prefix(b"/"));
        let Some(name) = below.and_then(|rest| rest.split(|byte| *byte == b'/').next()) else { continue };
        let path = [dir, b"/", name].concat();
        let is_there = rows.iter().any(|row| row.path == path && Arc::ptr_eq(&row.entity, &one.state.entity));
        let is_before = after.is_some_and(|after| {
            (path.as_slice(), one.state.number) <= (after.path.as_slice(), after.entity)
        });
        if !name.is_empty() && !is_there && !is_before {
            let child = Child { path: path.clone(), entity: Arc::clone(&one.state.entity), row: None };
            order.push((key(&path, one.state.number), child));
        }
    }
    if order.is_empty() {
        return;
    }
    let number = |entity: &Arc<Entity>| {
        asked.iter().find(|one| Arc::ptr_eq(&one.state.entity, entity)).map_or(0, |one| one.state.number)
    };
    order.extend(rows.drain(..).map(|row| (key(&row.path, number(&row.entity)), row)));
    order.sort_by(|a, b| a.0.cmp(&b.0));
    rows.extend(order.into_iter().map(|(_, row)| row));
}
