//! Listing directories: new ones, and all of them in a rescan.
//!
//! Names that are as the index says are passed over at once, so a rescan of an unchanged tree takes the memory of one
//! directory. A listing that finds too much for one round is divided ([`Span`]) and goes on in a later one: names that
//! are never as the index says (not readable, kept in part) do not make it begin at the same ones again and again, so
//! it ends. What is left out by the operator is not even looked at.

use super::CaptureError;
use super::core::Core;
use super::facts::{Facts, Seen};
use super::hints::ListHint;
use super::index::Row;
use super::look::{Look, Sort, look_at, open_list};
use super::node::Place;
use super::span::Span;
use super::watch::{WatchError, Why};
use journal::{Edge, Name, NodeId, SkippedWhat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

/// Names of a directory remembered while the index is compared; of larger ones each name is looked at instead.
const NAMES_MAX: usize = 1 << 16;

/// How far a listing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    All,
    Stopped,
    Denied,
}

impl Core {
    /// Watches a directory, then has it listed. `fresh`: it is new, and so is all in it.
    pub(super) fn adopt_directory(
        &mut self,
        facts: &mut Facts,
        node: NodeId,
        edge: &Edge,
        fresh: bool,
    ) -> Result<(), CaptureError> {
        let hint = ListHint { epoch: facts.epoch, recursive: true, compare: !fresh, tries: 0 };
        if !fresh || facts.len() > self.config.looks_max || self.owes_comparison(Some(edge))? {
            self.hints.list(node, hint);
            return Ok(());
        }
        let Place::Open(directory) = self.directory(facts, node)? else {
            // It, or a directory above it, moved on: it is looked for and listed when it has its place in the index.
            self.hints.list(node, ListHint { compare: true, ..hint });
            return Ok(());
        };
        if !self.watch_directory(facts, node, &directory, Some(edge))? {
            self.hints.list(node, ListHint { compare: true, ..hint });
            return Ok(());
        }
        let complete = self.for_each_name(facts, node, &directory, |core, facts, name| {
            let edge = Edge::new(node, name);
            if !core.is_passed_over(facts, &edge)? {
                facts.queue.push_back((edge, Why::default()));
            }
            Ok(facts.len() <= core.config.looks_max)
        })?;
        if complete == Listing::Stopped {
            self.hints.list(node, hint);
        }
        Ok(())
    }

    /// Adds the watch of a directory. `false`: it is gone, listing it is of no use.
    pub(super) fn watch_directory(
        &mut self,
        facts: &Facts,
        node: NodeId,
        directory: &OwnedFd,
        edge: Option<&Edge>,
    ) -> Result<bool, CaptureError> {
        match self.watch.add(node, directory.as_fd()) {
            Ok(()) => {
                self.unwatched.remove(&node);
                Ok(true)
            }
            Err(WatchError::Gone) => Ok(false),
            Err(WatchError::Limit) => {
                self.unwatched.insert(node);
                Ok(true)
            }
            Err(WatchError::Denied(errno)) => {
                match edge {
                    Some(edge) => self.obstruct(facts, edge, errno)?,
                    None => self.doubt_root(node, true),
                }
                self.reopen_ways(facts, node, errno)?;
                Ok(true)
            }
        }
    }

    /// Calls `each` with every name of a directory until it says no. A directory that may not be read is
    /// skipped.
    fn for_each_name(
        &mut self,
        facts: &mut Facts,
        node: NodeId,
        directory: &OwnedFd,
        mut each: impl FnMut(&mut Self, &mut Facts, Name) -> Result<bool, CaptureError>,
    ) -> Result<Listing, CaptureError> {
        let mut entries = match open_list(directory.as_fd()) {
            Ok(entries) => entries,
            // It was removed, and held nothing then.
            Err(Errno::NOENT) => return Ok(Listing::All),
            Err(errno) => return self.skip_directory(facts, node, errno),
        };
        while let Some(entry) = entries.read() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT) => return Ok(Listing::All),
                Err(errno) => return self.skip_directory(facts, node, errno),
            };
            if let Some(name) = Name::new(entry.file_name().to_bytes())
                && !each(self, facts, name)?
            {
                return Ok(Listing::Stopped);
            }
        }
        Ok(Listing::All)
    }

    fn skip_directory(&mut self, facts: &Facts, node: NodeId, errno: Errno) -> Result<Listing, CaptureError> {
        let edge = match facts.place(node) {
            Some(edge) => Some(edge.clone()),
            None => self.index.names_of(node)?.into_iter().next(),
        };
        if let Some(edge) = edge {
            self.obstruct(facts, &edge, errno)?;
        } else {
            self.doubt_root(node, true);
        }
        self.reopen_ways(facts, node, errno)?;
        Ok(Listing::Denied)
    }

    /// Whether a name is left out, and the stream has nothing of it either.
    fn is_passed_over(&self, facts: &Facts, edge: &Edge) -> Result<bool, CaptureError> {
        let Some(root) = self.root_of(facts, edge.parent)? else { return Ok(false) };
        Ok(self.is_excluded(facts, root, edge)?
            && self.index.child(edge)?.is_none()
            && !self.has_skip(edge)?)
    }

    /// Lists a stretch of a directory the index knows, compares, and queues what differs.
    pub(super) fn list(
        &mut self,
        facts: &mut Facts,
        node: NodeId,
        hint: ListHint,
        span: Span,
    ) -> Result<(), CaptureError> {
        let directory = match self.directory(facts, node)? {
            Place::Open(directory) => directory,
            Place::Gone(Some(doubt)) => {
                // Where it is now is found out first.
                facts.queue.push_back((doubt.clone(), Why::default()));
                facts.unlisted.push((node, hint, doubt));
                return Ok(());
            }
            Place::Denied(at, errno) => return self.obstruct(facts, &at, errno),
            // It is compared as a whole when its root is back.
            Place::Gone(None) if self.is_lost(facts, node)? => return Ok(()),
            // In a directory that was removed.
            Place::Gone(None) => {
                self.drop_hint(node, hint);
                return Ok(());
            }
        };
        let edge = self.index.names_of(node)?.into_iter().next();
        let owing = self.owes_comparison(edge.as_ref())?;
        facts.compare |= owing;
        let hint = ListHint { recursive: hint.recursive || owing, compare: hint.compare || owing, ..hint };
        if !self.watch_directory(facts, node, &directory, edge.as_ref())? {
            if let Some(edge) = edge {
                facts.queue.push_back((edge.clone(), Why::default()));
                facts.unlisted.push((node, hint, edge));
            }
            return Ok(());
        }
        facts.directories.insert(node);
        match self.list_span(facts, node, &directory, hint, span)? {
            Listing::All => {}
            Listing::Stopped => {
                self.hints.list_on(node, hint, span.half().unwrap_or(span));
                return Ok(());
            }
            Listing::Denied => return Ok(()),
        }
        if let Some(next) = span.next(facts.len() < self.config.looks_max / 4) {
            self.hints.list_on(node, hint, next);
            return Ok(());
        }
        // Where a watch is refused the skip stands, and has it listed again and again.
        if let Some(edge) = edge.filter(|_| self.watch.has(node) || self.unwatched.contains(&node)) {
            self.unskip_what(&edge, SkippedWhat::Node)?;
        }
        Ok(())
    }

    fn list_span(
        &mut self,
        facts: &mut Facts,
        node: NodeId,
        directory: &OwnedFd,
        hint: ListHint,
        span: Span,
    ) -> Result<Listing, CaptureError> {
        // What cannot be divided is looked at however much it is.
        let most = if span.half().is_some() { self.config.looks_max } else { usize::MAX };
        let mut names: HashSet<Name> = HashSet::new();
        let complete = self.for_each_name(facts, node, directory, |core, facts, name| {
            if !span.contains(&core.hashes, &name) {
                return Ok(true);
            }
            if names.len() < NAMES_MAX {
                names.insert(name.clone());
            }
            core.compare_name(facts, Edge::new(node, name), directory, hint)?;
            Ok(facts.len() <= most)
        })?;
        if complete != Listing::All {
            return Ok(complete);
        }
        for child in self.index.children(node) {
            let (edge, _) = child?;
            let known = names.contains(&edge.name) || facts.seen.contains_key(&edge);
            if known || !span.contains(&self.hashes, &edge.name) {
                continue;
            }
            if !matches!(look_at(directory.as_fd(), &edge.name), Ok(Some(_))) {
                facts.queue.push_back((edge, Why { attributes: true, ..Why::default() }));
            }
            if facts.len() > most {
                return Ok(Listing::Stopped);
            }
        }
        if self.skip_count > 0 {
            // What could not be kept may be in no row, and gone meanwhile.
            for edge in self.index.skips_in(node)? {
                let known = names.contains(&edge.name) || facts.seen.contains_key(&edge);
                if !known && span.contains(&self.hashes, &edge.name) {
                    facts.queue.push_back((edge, Why { attributes: true, ..Why::default() }));
                }
            }
        }
        Ok(Listing::All)
    }

    /// Queues a name unless it is exactly as the index says.
    fn compare_name(
        &mut self,
        facts: &mut Facts,
        edge: Edge,
        directory: &OwnedFd,
        hint: ListHint,
    ) -> Result<(), CaptureError> {
        match facts.seen.get(&edge) {
            Some(Seen::There(node)) => {
                let directory = facts.nodes.get(node).is_some_and(|fact| fact.look.sort == Sort::Directory);
                if directory && hint.recursive && hint.compare {
                    self.hints.list(*node, hint);
                }
                return Ok(());
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if let Some(node) = self.index.child(&edge)?
            && let Some(row) = self.index.row(node)?
            && let Ok(Some(look)) = look_at(directory.as_fd(), &edge.name)
            && self.is_as_known(facts, node, &edge, &row, &look, hint)?
        {
            return Ok(());
        }
        if !self.is_passed_over(facts, &edge)? {
            facts.queue.push_back((edge, Why { attributes: true, ..Why::default() }));
        }
        Ok(())
    }

    /// Whether a name needs no closer look. Sees to it that a directory is listed too, and reads a file at once whose
    /// stat is as known but not trusted.
    fn is_as_known(
        &mut self,
        facts: &mut Facts,
        node: NodeId,
        edge: &Edge,
        row: &Row,
        look: &Look,
        hint: ListHint,
    ) -> Result<bool, CaptureError> {
        let one_inode = row.sort() == look.sort
            && row.origin.inode == look.inode
            && self.root(row.root).is_some_and(|root| root.device_of(look) == row.origin.device);
        if !one_inode || self.is_mount(row.root, look) || self.is_excluded(facts, row.root, edge)? {
            return Ok(false);
        }
        if look.sort == Sort::Directory && hint.recursive {
            // The inode number may be used again: the generation is compared before the directory is listed.
            self.hints.list(node, hint);
        }
        if !row.same_as(look) || row.content_unknown() || self.has_skip(edge)? {
            return Ok(false);
        }
        match look.sort {
            Sort::Directory => Ok(self.watch.has(node)),
            Sort::File if hint.compare && (row.racy() || !self.config.ignore_same) => {
                self.examine_now(facts, node, edge, row)?;
                Ok(true)
            }
            _ => Ok(true),
        }
    }
}
