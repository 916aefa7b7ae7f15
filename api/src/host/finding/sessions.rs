//! What sessions hold that are not catalogued, read from their repositories.
//!
//! Each is walked as a whole. A session never changes, so the number of entries looked at is a place in it. One that cannot
//! be read is said in the notes of the answer, and the others go on.

use super::super::Host;
use super::present::Present;
use super::token::Token;
use super::{Asked, Stretch, repository_error_of};
use crate::catalog::Uncatalogued;
use crate::engine::{CatalogEntry, Each, EngineError, EngineResult, Part, Source};
use crate::vault::repository_error;
use snapshot::listing::{self, Top};
use snapshot::repository::{Id, Node, Repository, Step};
use std::ops::ControlFlow;
use std::sync::Arc;
use wire::codes;

/// A session under way.
struct Walk<'w, 'a> {
    asked: &'w mut Asked<'a>,
    session: &'w Uncatalogued,
    top: &'w Top,
    present: Present<'w>,
    /// Entries looked at, and those that an earlier page has looked at.
    seen: u64,
    skip: u64,
}

/// How to go on; `Some` when the page ends here.
type Stop = Option<Option<Token>>;

impl Host {
    /// The second stretch. `after` is a session and how many of its entries were looked at.
    pub(super) fn in_sessions(
        &self,
        asked: &mut Asked<'_>,
        missing: &[Uncatalogued],
        after: Option<(Id, u64)>,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<Stretch> {
        let first = match after {
            None => 0,
            Some((id, _)) => missing.iter().position(|session| session.id == id).ok_or_else(|| {
                // What it still had to give is in the catalog now, behind which this page begins.
                let message = format!("session {} came into the catalog since the last page", id.short());
                EngineError::new(&codes::BAD_PARAMETERS, message).advise("Ask again from the beginning.")
            })?,
        };
        for session in missing.iter().skip(first) {
            let skip = after.filter(|(id, _)| *id == session.id).map_or(0, |(_, seen)| seen);
            let Some((repository, top)) = self.listing_of(asked, session)? else { continue };
            let present = Present::new(self);
            let mut walk = Walk { asked, session, top: &top, present, seen: 0, skip };
            if let Some(next) = walk.run(&repository, each)? {
                return Ok(ControlFlow::Break(next));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The repository of a session, and where its listing begins.
    fn listing_of(
        &self,
        asked: &mut Asked<'_>,
        session: &Uncatalogued,
    ) -> EngineResult<Option<(Arc<Repository>, Top)>> {
        let (_, repository) = self.context.vault.get(&session.repository)?;
        repository.reload_index().map_err(|error| repository_error("read the index", error))?;
        match repository.load_session(&session.id) {
            Ok(record) => {
                let top = listing::top(&repository, &record).map_err(repository_error_of)?;
                Ok(Some((repository, top)))
            }
            Err(error) => {
                asked.notes.push(format!("session {} cannot be read: {error}", session.id.short()));
                Ok(None)
            }
        }
    }
}

impl Walk<'_, '_> {
    fn run(&mut self, repository: &Repository, each: Each<'_, Part<CatalogEntry>>) -> EngineResult<Stop> {
        let (mut stop, mut failed) = (None, None);
        let top = self.top;
        listing::walk(repository, top, &mut |path, node| match self.entry(path, node, each) {
            Ok(None) => Step::Into,
            Ok(ended) => {
                stop = ended;
                Step::Stop
            }
            Err(error) => {
                failed = Some(error);
                Step::Stop
            }
        })
        .map_err(repository_error_of)?;
        failed.map_or(Ok(stop), Err)
    }

    fn entry(
        &mut self,
        path: &[u8],
        node: &Node,
        each: &mut dyn FnMut(Part<CatalogEntry>) -> ControlFlow<()>,
    ) -> EngineResult<Stop> {
        self.seen += 1;
        if self.seen <= self.skip {
            return Ok(None);
        }
        if self.seen.is_multiple_of(1024)
            && let Some(interrupt) = self.asked.progress.interrupted()
        {
            return Err(EngineError::interrupted(interrupt));
        }
        let (session, row) = (self.session, listing::row(node));
        if !self.asked.matching.is_match(&self.top.root, path) || !self.asked.filter.admits(&row) {
            return Ok(None);
        }
        if self.asked.query.deleted && self.present.holds(&session.scenario, path)? == Some(true) {
            return Ok(None);
        }
        if self.asked.left == 0 {
            return Ok(Some(Some(Token::Session(Some((session.id, self.seen - 1))))));
        }
        let id = session.id.to_string();
        let entry = CatalogEntry {
            path: path.to_vec(),
            row: Some(row),
            scenario: session.scenario.clone(),
            master: session.master.clone(),
            sessions: 1,
            first_session: Some(id.clone()),
            last_session: Some(id),
            last_lsn: session.lsn,
            source: Source::Repository,
        };
        Ok(self.asked.give(entry, each).is_break().then_some(None))
    }
}
