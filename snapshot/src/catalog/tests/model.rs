//! A catalog as one would write it without thinking: every session with its whole listing.

use super::*;
use std::collections::BTreeMap;

pub(super) type Listing = BTreeMap<Vec<u8>, Row>;

#[derive(Clone, Debug)]
pub(super) struct ModelSession {
    pub info: SessionInfo,
    pub order: usize,
    pub listing: Listing,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub sessions: Vec<ModelSession>,
    /// In the order in which they came to be.
    pub entities: Vec<Entity>,
    pub loaded: usize,
}

/// A result that can be compared: path, index of the entity, newest row, number of sessions, first, last.
pub(super) type Line = (Vec<u8>, usize, Row, u32, SessionId, SessionId);

impl Model {
    pub(super) fn add(&mut self, info: SessionInfo, listing: Listing) {
        if !self.entities.contains(&info.entity) {
            self.entities.push(info.entity.clone());
        }
        self.loaded += 1;
        self.sessions.push(ModelSession { info, order: self.loaded, listing });
    }

    pub(super) fn forget(&mut self, id: SessionId) {
        self.sessions.retain(|session| session.info.id != id);
        self.entities.retain(|entity| self.sessions.iter().any(|session| session.info.entity == *entity));
    }

    /// Of one entity, the oldest first.
    pub(super) fn of(&self, entity: &Entity) -> Vec<&ModelSession> {
        let mut own: Vec<_> = self.sessions.iter().filter(|s| s.info.entity == *entity).collect();
        own.sort_by_key(|session| (session.info.taken, session.order));
        own
    }

    pub(super) fn query(&self, matches: &dyn Fn(&[u8], &Entity) -> bool, filter: &Filter) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for (index, entity) in self.entities.iter().enumerate() {
            let is = |wanted: &Option<String>, have: &String| wanted.as_ref().is_none_or(|w| w == have);
            if !is(&filter.scenario, &entity.scenario) || !is(&filter.master, &entity.master) {
                continue;
            }
            let sessions = self.of(entity);
            let mut paths: Vec<&Vec<u8>> = sessions.iter().flat_map(|s| s.listing.keys()).collect();
            paths.sort();
            paths.dedup();
            for path in paths.into_iter().filter(|path| matches(path, entity)) {
                let newest = sessions.last().is_some_and(|session| session.listing.contains_key(path));
                if filter.deleted && newest {
                    continue;
                }
                let passes = |session: &&&ModelSession| {
                    let row = session.listing.get(path);
                    row.is_some_and(|row| admits(filter, row))
                        && filter.session.is_none_or(|id| id == session.info.id)
                };
                let held: Vec<_> = sessions.iter().filter(passes).collect();
                if let (Some(first), Some(last)) = (held.first(), held.last()) {
                    let (first_id, last_id) = (first.info.id, last.info.id);
                    let row = last.listing[path];
                    lines.push((path.clone(), index, row, held.len() as u32, first_id, last_id));
                }
            }
        }
        lines.sort_by(|a, b| path_order(&a.0, &b.0).then(a.1.cmp(&b.1)));
        lines
    }

    /// Each version of a path by entity: row and sessions, the oldest first.
    pub(super) fn versions(&self, path: &[u8]) -> Vec<(usize, Row, Vec<SessionId>)> {
        let mut versions: Vec<(usize, Row, Vec<SessionId>)> = Vec::new();
        for (index, entity) in self.entities.iter().enumerate() {
            for session in self.of(entity) {
                let Some(row) = session.listing.get(path) else { continue };
                match versions.iter_mut().find(|(at, known, _)| *at == index && known == row) {
                    Some((_, _, ids)) => ids.push(session.info.id),
                    None => versions.push((index, *row, vec![session.info.id])),
                }
            }
        }
        versions
    }

    /// The entries of a directory in the newest session of each entity.
    pub(super) fn children(&self, directory: &[u8]) -> Vec<(Vec<u8>, usize, Option<Row>)> {
        let mut children = Vec::new();
        for (index, entity) in self.entities.iter().enumerate() {
            let newest = self.of(entity).pop().unwrap();
            let mut own: BTreeMap<Vec<u8>, Option<Row>> = BTreeMap::new();
            for (path, row) in &newest.listing {
                if parent(path) == Some(directory) {
                    own.insert(path.clone(), Some(*row));
                }
            }
            let mut at = entity.root.as_slice();
            while let Some(above) = parent(at) {
                if above == directory {
                    own.entry(at.to_vec()).or_insert(None);
                }
                at = above;
            }
            children.extend(own.into_iter().map(|(path, row)| (path, index, row)));
        }
        children.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        children
    }
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    let at = path.iter().rposition(|byte| *byte == b'/').filter(|_| path != b"/")?;
    Some(if at == 0 { b"/" } else { &path[..at] })
}

fn admits(filter: &Filter, row: &Row) -> bool {
    filter.kind.is_none_or(|kind| kind == row.kind)
        && filter.size_min.is_none_or(|least| row.size >= least)
        && filter.size_max.is_none_or(|most| row.size <= most)
        && filter.modified_since.is_none_or(|since| row.modified >= since)
        && filter.modified_before.is_none_or(|before| row.modified < before)
}
