//! Finding files: in the catalog, in sessions that it lacks, in the journal's window.
//!
//! An answer has three stretches, one after the other, each in the order of paths: what the catalog holds; what sessions
//! hold that are not catalogued, read from their repositories and named; names that lie in the window and in no session.
//! A page token says in which stretch the next page begins and behind what.
//!
//! Whether something is *deleted* is asked of the newest point, where the scenario has one: a file that went since the
//! last session is deleted, whatever the session says. Elsewhere the newest session decides.

mod browse;
mod history;
mod present;
mod sessions;
mod token;
mod window;

use super::Host;
use crate::catalog::{Uncatalogued, catalog_error};
use crate::engine::{
    CatalogEnd, CatalogEntry, CatalogQuery, CatalogRebuilt, CatalogTree, Each, EngineError, EngineResult,
    FileVersion, Finder, Level, NotCatalogued, Part, Progress, Skipped, Source,
};
use crate::points::wall_clock;
use crate::vault::{MediaReport, repository_error};
use journal::Timestamp;
pub(super) use present::Present;
use snapshot::catalog::{Filter, Found, Matching, Modified, PAGE_MAX, PageToken, Query, Reader, SessionId};
use snapshot::listing;
use snapshot::repository::Id;
use std::ops::ControlFlow;
use std::time::Instant;
use token::Token;
use wire::codes;

/// Rows asked of the catalog at a time.
const PAGE: usize = 1000;

/// A question on its way through the stretches.
struct Asked<'a> {
    query: &'a CatalogQuery,
    filter: Filter,
    matching: Matching,
    /// The session that is asked for.
    session: Option<Id>,
    progress: &'a dyn Progress,
    /// Entries that may still be given.
    left: u64,
    /// Whether one was.
    given: bool,
    notes: Vec<String>,
}

/// Whether a stretch came to its end, or where to go on.
type Stretch = ControlFlow<Option<Token>>;

impl Asked<'_> {
    /// Gives an entry; `Break` if the reader has gone.
    fn give(
        &mut self,
        entry: CatalogEntry,
        each: &mut dyn FnMut(Part<CatalogEntry>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(1);
        self.given = true;
        each(Part::Found(entry))
    }
}

fn modified(time: Timestamp) -> Modified {
    Modified {
        seconds: time.0.div_euclid(1_000_000_000),
        nanoseconds: u32::try_from(time.0.rem_euclid(1_000_000_000)).unwrap_or_default(),
    }
}

fn not_catalogued(session: &Uncatalogued) -> NotCatalogued {
    NotCatalogued {
        session: session.id.to_string(),
        repository: session.repository.clone(),
        scenario: session.scenario.clone(),
        time: session.time,
    }
}

fn entry_of(found: Found) -> CatalogEntry {
    CatalogEntry {
        path: found.path,
        row: Some(found.newest),
        scenario: found.entity.scenario.clone(),
        master: found.entity.master.clone(),
        sessions: found.sessions.into(),
        first_session: Some(found.first.id.to_string()),
        last_session: Some(found.last.id.to_string()),
        last_lsn: found.last.lsn,
        source: Source::Catalog,
    }
}

impl Finder for Host {
    fn query(
        &self,
        query: &CatalogQuery,
        progress: &dyn Progress,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<CatalogEnd> {
        let mut asked = self.asked(query, progress)?;
        let from = query.after.as_deref().map_or(Ok(Token::start()), Token::from_bytes)?;
        // A catalog that turns out to be damaged is made anew; what was given of it would come again.
        let answered = self.answer(&mut asked, from.clone(), each)?;
        match answered {
            None if !asked.given => self.answer(&mut asked, from, each)?,
            answered => answered,
        }
        .ok_or_else(|| {
            let message = "the catalog was damaged while it was read, and is made anew";
            EngineError::new(&codes::IO, message).advise("Try again.")
        })
    }

    fn tree(&self, tree: &CatalogTree, each: Each<'_, Part<CatalogEntry>>) -> EngineResult<CatalogEnd> {
        self.browse(tree, each)
    }

    fn versions(
        &self,
        path: &[u8],
        scenario: Option<&str>,
        each: Each<'_, Part<FileVersion>>,
    ) -> EngineResult<CatalogEnd> {
        self.history(path, scenario, each)
    }

    fn rebuild(&self, repository: Option<&str>, progress: &dyn Progress) -> EngineResult<CatalogRebuilt> {
        let began = Instant::now();
        let media = match repository.and_then(|name| self.context.vault.tape_repository(name)) {
            Some(tape) => self.read_media(&tape, progress)?,
            None => MediaReport::default(),
        };
        let report = self.catalog.rebuild(repository, &mut |entries| {
            progress.report("catalogue", entries, None, "entries");
            progress.interrupted().is_none()
        });
        let report = match (report, progress.interrupted()) {
            (Err(error), Some(interrupt)) if error.code() == &codes::CANCELLED => {
                return Err(EngineError::interrupted(interrupt));
            }
            (report, _) => report?,
        };
        let failed = report.failed.into_iter().map(|one| (one.session.to_string(), one.reason));
        let failed = media.failed.into_iter().chain(failed).map(|(session, error)| Skipped {
            path: session.into(),
            what: "session",
            error,
        });
        let text =
            format!("the catalog was made anew: {} sessions, {} entries", report.sessions, report.entries);
        self.context.activity.write(Level::Info, "", None, &text);
        Ok(CatalogRebuilt {
            sessions: report.sessions,
            entries: report.entries,
            forgotten: report.forgotten + media.forgotten,
            left_out: report.left_out,
            elapsed: began.elapsed(),
            failed: failed.collect(),
        })
    }
}

impl Host {
    /// Answers from a place on, out of the catalog as it is now. `None` if it is damaged.
    fn answer(
        &self,
        asked: &mut Asked<'_>,
        mut from: Token,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<Option<CatalogEnd>> {
        // One moment for all of the answer: a session that comes in meanwhile is not counted twice.
        let reader = self.catalog.catalog().map(|catalog| catalog.reader());
        let missing = self.missing(asked, reader.as_ref());
        for session in &missing {
            if each(Part::NotCatalogued(not_catalogued(session))).is_break() {
                return Ok(Some(CatalogEnd::default()));
            }
        }
        loop {
            let stretch = match &from {
                Token::Catalog(after) => {
                    match self.in_catalog(asked, reader.as_ref(), after.clone(), each)? {
                        Some(stretch) => stretch,
                        None => return Ok(None),
                    }
                }
                Token::Session(after) => self.in_sessions(asked, &missing, *after, each)?,
                Token::Window(after) => self.in_window(asked, &missing, after.as_ref(), each)?,
            };
            let next = match (stretch, &from) {
                (ControlFlow::Break(next), _) => next,
                (ControlFlow::Continue(()), Token::Window(_)) => None,
                (ControlFlow::Continue(()), done) => {
                    from = match done {
                        Token::Catalog(_) => Token::Session(None),
                        _ => Token::Window(None),
                    };
                    // Nobody looks for what nobody takes.
                    if asked.left > 0 {
                        continue;
                    }
                    Some(from.clone())
                }
            };
            let notes = std::mem::take(&mut asked.notes);
            return Ok(Some(CatalogEnd { next: next.map(|token| token.to_bytes()), notes }));
        }
    }

    /// Checks a question and gives names and times their meaning.
    fn asked<'a>(&self, query: &'a CatalogQuery, progress: &'a dyn Progress) -> EngineResult<Asked<'a>> {
        if let Some(scenario) = &query.scenario {
            self.known_scenario(scenario)?;
        }
        let now = wall_clock();
        let time = |spec: &crate::points::TimeSpec| modified(spec.resolve(now));
        let session = query.session.as_deref().map(|id| self.catalog.resolve(id)).transpose()?;
        let filter = Filter {
            scenario: query.scenario.clone(),
            master: query.master.clone(),
            size_min: query.size_min,
            size_max: query.size_max,
            modified_since: query.since.as_ref().map(time),
            modified_before: query.until.as_ref().map(time),
            ..Filter::default()
        };
        let matching = Matching::new(&query.pattern).map_err(catalog_error)?;
        let left = query.limit.unwrap_or(u64::MAX);
        Ok(Asked { query, filter, matching, session, progress, left, given: false, notes: Vec::new() })
    }

    /// `NO_SUCH_SCENARIO` unless the registry has it, or sessions of it are known: of one that was deleted, or that
    /// another server had.
    pub(super) fn known_scenario(&self, name: &str) -> EngineResult<()> {
        let stored = || self.catalog.catalog().into_iter().flat_map(|catalog| catalog.sessions());
        match self.context.registry.get(name) {
            Err(_) if stored().any(|session| session.entity.scenario == name) => Ok(()),
            Err(_) if self.catalog.missing().iter().any(|session| session.scenario == name) => Ok(()),
            found => found.map(drop),
        }
    }

    /// Sessions of the question that are not in the catalog.
    fn missing(&self, asked: &Asked<'_>, reader: Option<&Reader>) -> Vec<Uncatalogued> {
        let mut missing = self.catalog.missing_in(reader);
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        missing.retain(|session| {
            is(&asked.filter.scenario, &session.scenario)
                && is(&asked.filter.master, &session.master)
                && asked.session.is_none_or(|wanted| wanted == session.id)
        });
        missing
    }

    /// The first stretch. `None` if the catalog is damaged; then it is made anew.
    fn in_catalog(
        &self,
        asked: &mut Asked<'_>,
        reader: Option<&Reader>,
        mut after: Option<PageToken>,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<Option<Stretch>> {
        let session = asked.session.map(|id| SessionId(id.0));
        let Some(reader) = reader.filter(|reader| session.is_none_or(|id| reader.holds(id))) else {
            return Ok(Some(ControlFlow::Continue(())));
        };
        let mut present = Present::new(self);
        let filter = Filter { session, ..asked.filter.clone() };
        loop {
            if asked.left == 0 {
                return Ok(Some(ControlFlow::Break(Some(Token::Catalog(after)))));
            }
            let mut limit = usize::try_from(asked.left).unwrap_or(PAGE_MAX).min(PAGE);
            if asked.query.deleted {
                limit = PAGE;
            }
            let query = Query {
                pattern: asked.query.pattern.clone(),
                filter: filter.clone(),
                limit,
                after: after.clone(),
            };
            let page = match reader.query(&query) {
                Err(error) if error.is_damage() => {
                    self.catalog.damaged(&error);
                    return Ok(None);
                }
                page => page.map_err(catalog_error)?,
            };
            if let Some(interrupt) = asked.progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            for found in page.rows {
                if asked.query.deleted && !self.is_deleted(&mut present, &found)? {
                    continue;
                }
                // Of a page that was asked for in full because much of it is not wanted.
                if asked.left == 0 {
                    return Ok(Some(ControlFlow::Break(Some(Token::Catalog(after)))));
                }
                after = Some(PageToken::after(&found));
                if asked.give(entry_of(found), each).is_break() {
                    return Ok(Some(ControlFlow::Break(None)));
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(Some(ControlFlow::Continue(()))),
            }
        }
    }

    /// Whether the newest point, or where there is none the newest session, does not hold it.
    fn is_deleted(&self, present: &mut Present<'_>, found: &Found) -> EngineResult<bool> {
        if let Some(is_there) = present.holds(&found.entity.scenario, &found.path)? {
            return Ok(!is_there);
        }
        let filter = Filter {
            scenario: Some(found.entity.scenario.clone()),
            master: Some(found.entity.master.clone()),
            entity: Some(found.entity.name.clone()),
            deleted: true,
            ..Filter::default()
        };
        Ok(!self.catalog.ask(|catalog| catalog.lookup(&found.path, &filter))?.is_empty())
    }
}

/// What reading a listing from its repository says.
pub(super) fn repository_error_of(error: listing::ListingError) -> EngineError {
    match error {
        listing::ListingError::Repository { source } => repository_error("read the session", source),
        other => EngineError::new(&codes::INTERNAL, "read the session").caused_by(other),
    }
}
