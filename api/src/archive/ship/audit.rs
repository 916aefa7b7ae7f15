//! What the store says beside the manifests: which pieces are there, and which sessions.
//!
//! Whatever is given up or removed is so because of two witnesses: a piece that no list shows is asked for by its name, and
//! what this daemon's journal says of sessions is held against the session records themselves.

use super::{Shipper, upto};
use crate::archive::rebuild::tags;
use crate::engine::EngineResult;
use crate::vault::repository_error;
use snapshot::archive::{Archive, Draft, Upto, parse_last_part, plan};
use snapshot::repository::RepositoryErrorKind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

impl Shipper {
    /// Looks for all pieces in the store, and forgets those that are not there, so that they are copied again. `held` are
    /// the segments of the journal. Whether the newest manifest is there.
    pub(super) fn audit(&mut self, held: &BTreeSet<u64>) -> EngineResult<bool> {
        let failed = |error| repository_error("look through the archive", error);
        let archive = Archive::new(&self.repository, self.owner.journal);
        if !self.is_there(&archive.generations().map_err(failed)?) {
            return Ok(false);
        }
        let stored = archive.stored().map_err(failed)?;
        let mut missing: BTreeMap<u64, u64> = BTreeMap::new();
        for piece in &self.newest.pieces {
            let Draft { segment, from, .. } = piece.place;
            if missing.contains_key(&segment) || stored.contains(&piece.last_part()) {
                continue;
            }
            // A list is not proof enough to give anything up.
            match archive.load_piece(piece) {
                Ok(_) => {}
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => {
                    missing.insert(segment, from);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let before = self.newest.pieces.len();
        self.newest.pieces.retain(|piece| match missing.get(&piece.place.segment) {
            None => true,
            // Copied anew from its first byte; or nothing behind the hole can be read.
            Some(from) => !held.contains(&piece.place.segment) && piece.place.from < *from,
        });
        if !missing.is_empty() {
            self.lost += (before - self.newest.pieces.len()) as u64;
            self.newest.upto = upto(Upto::default(), &self.newest.pieces);
            self.untidy = true;
        }
        self.audited = Some(Instant::now());
        Ok(true)
    }

    /// Up to where segments may leave: as far as the records of all sessions in the repository agree, whoever made them.
    pub(super) fn agreed(&mut self, keep_from: u64) -> EngineResult<u64> {
        if self.newest.pieces.first().is_none_or(|first| first.place.segment >= keep_from) {
            return Ok(keep_from);
        }
        if let Some((_, answer)) = self.asked.filter(|(asked, _)| *asked == keep_from) {
            return Ok(answer);
        }
        let failed = |error| repository_error("read the sessions of the repository", error);
        let mut oldest: Option<u64> = None;
        for id in self.repository.list_sessions().map_err(failed)? {
            let record = match self.repository.load_session(&id) {
                Ok(record) => record,
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
                // It may be the oldest.
                Err(error) if error.kind() == RepositoryErrorKind::Damaged => {
                    self.asked = Some((keep_from, 0));
                    return Ok(0);
                }
                Err(error) => return Err(failed(error)),
            };
            if let Some((_, lsn)) = tags(&record).filter(|(journal, _)| *journal == self.owner.journal) {
                oldest = Some(oldest.map_or(lsn.captured, |oldest| oldest.min(lsn.captured)));
            }
        }
        let answer = oldest
            .map_or(keep_from, |oldest| plan::keep_from(&self.newest.pieces, Some(oldest)).min(keep_from));
        self.asked = Some((keep_from, answer));
        Ok(answer)
    }

    /// Whether something is stored that the newest manifest should name and does not.
    pub(super) fn has_more(&self, stored: &BTreeSet<String>) -> bool {
        let begin = self.newest.pieces.first().map_or(0, |first| first.place.segment);
        let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
        for piece in &self.newest.pieces {
            ends.insert(piece.place.segment, piece.place.to);
        }
        stored
            .iter()
            .filter_map(|name| parse_last_part(name))
            .any(|(segment, to)| segment >= begin && ends.get(&segment).is_none_or(|end| *end < to))
    }
}
