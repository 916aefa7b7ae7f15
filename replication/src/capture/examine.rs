//! One node: does the stream have its bytes, attributes and extended attributes as they are?

use super::CaptureError;
use super::content::{Have, Pass, block_bits};
use super::core::Core;
use super::draft::clock;
use super::facts::{Facts, NodeFact};
use super::hints::Hint;
use super::index::Row;
use super::look::{Look, Sort, XattrsOf, look_open, open_file, origin_of, xattrs, xattrs_hash};
use super::node::Place;
use super::watch::Why;
use journal::{Attributes, Edge, Event, NodeId, RootNo, SkippedWhat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Passes over a file that moves while it is read; then it is captured as it was read last.
const PASSES_MAX: usize = 3;
/// A change so close before a look may be followed by another that leaves the same times.
const RACY_NANOSECONDS: i64 = 20_000_000;
/// Readings shorter than this need no rest.
const REST_FROM: Duration = Duration::from_millis(20);
/// A large file that is written all the time is read for at most a fifth of the time.
const REST_FACTOR: u32 = 4;
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(60);
/// Re-blocking: a file that outgrew its block size this many times gets a larger one, and is sent whole once.
const OUTGROWN_BITS: u8 = 4;

/// What came of reading a file.
struct Reading {
    /// As it was before the last pass: whoever compares later, after a crash too, sees by newer times that it moved on.
    look: Look,
    /// Its extended attributes, if they may have changed.
    set: Option<journal::Xattrs>,
    failure: Option<Errno>,
    /// It moved in every pass.
    restless: bool,
}

/// The attributes of which the stream speaks, for a directory: its ctime changes with every entry.
fn differs(directory: bool, a: &Attributes, b: &Attributes) -> bool {
    (a.mode, a.uid, a.gid, a.mtime) != (b.mode, b.uid, b.gid, b.mtime) || (!directory && a.ctime != b.ctime)
}

impl Core {
    /// Opens a file if it is still that node. `NOENT`: it is not there.
    pub(super) fn open_node(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
    ) -> Result<Result<OwnedFd, Errno>, CaptureError> {
        let directory = match self.directory(facts, edge.parent)? {
            Place::Open(directory) => directory,
            Place::Gone(_) => return Ok(Err(Errno::NOENT)),
            Place::Denied(_, errno) => return Ok(Err(errno)),
        };
        let file = match open_file(directory.as_fd(), &edge.name) {
            Ok(file) => file,
            // A link or a device took its place.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(Err(Errno::NOENT)),
            Err(Errno::STALE) => {
                self.reopen_ways(facts, edge.parent, Errno::STALE)?;
                return Ok(Err(Errno::NOENT));
            }
            Err(errno) => return Ok(Err(errno)),
        };
        let (root, origin) = match facts.nodes.get(&node) {
            Some(fact) => (fact.root, fact.origin),
            None => match self.index.row(node)? {
                Some(row) => (row.root, row.origin),
                None => return Ok(Err(Errno::NOENT)),
            },
        };
        let Some(root) = self.root(root) else { return Ok(Err(Errno::NOENT)) };
        let same = look_open(file.as_fd()).is_ok_and(|look| {
            origin_of(file.as_fd(), b"", &look, root.device_of(&look)) == origin && look.sort == Sort::File
        });
        Ok(if same { Ok(file) } else { Err(Errno::NOENT) })
    }

    /// Compares a node of the picture with the index and tells what differs, within the capture under way or in one
    /// of its own. `file`: it is open already.
    pub(super) fn examine(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
        file: Option<&OwnedFd>,
    ) -> Result<(), CaptureError> {
        let (Some(fact), Some(row)) = (facts.nodes.get(&node), self.index.row(node)?) else { return Ok(()) };
        let (look, epoch) = (fact.look, fact.epoch);
        let want = look.sort == Sort::File && self.wants_content(node, fact, &row, edge)?;
        let moved = differs(false, &row.attributes, &look.attributes);
        if !want && !moved && !fact.attributes && !self.lacks(edge, SkippedWhat::Xattrs)? {
            return Ok(());
        }
        if want && !self.hurry && self.rests.get(&node).is_some_and(|until| *until > Instant::now()) {
            let content = fact.content || !self.anew.contains(&node);
            let why = Why { content, attributes: true, ..Why::default() };
            let not_before = self.rests.get(&node).copied();
            self.hints.put_back(edge.clone(), Hint { why, epoch, not_before, ..Hint::default() });
            return Ok(());
        }
        if look.sort == Sort::File {
            return self.examine_file(facts, node, edge, row, file, want, epoch);
        }
        let path = self.path_of_edge(facts, edge)?;
        self.within(row.root, path, |core| {
            let mut row = row;
            let Some(set) = core.xattrs_of(facts, edge, None)? else {
                return core.look_later(facts, edge);
            };
            core.tell_meta(node, &mut row, &look, Some(set), facts, edge)
        })
    }

    /// Whether the bytes of a file may differ from what the stream has.
    pub(super) fn wants_content(
        &self,
        node: NodeId,
        fact: &NodeFact,
        row: &Row,
        edge: &Edge,
    ) -> Result<bool, CaptureError> {
        let (old, new) = (&row.attributes, &fact.look.attributes);
        let times = old.mtime != new.mtime || row.size != fact.look.size;
        // Of a node that the replica had before no change time is known: size and modification time have to do.
        let touched = old.ctime != new.ctime && !row.ctime_unknown();
        let doubt = fact.compare && (touched || row.racy() || !self.config.ignore_same);
        let told = fact.content || self.owed.contains(&node) || self.anew.contains(&node);
        Ok(told || times || doubt || row.content_unknown() || self.lacks(edge, SkippedWhat::Content)?)
    }

    /// A file that a listing doubts although its stat is as known.
    pub(super) fn examine_now(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
        row: &Row,
    ) -> Result<(), CaptureError> {
        self.examine_file(facts, node, edge, row.clone(), None, true, facts.epoch)
    }

    /// Runs `tell` within the capture under way, or within one of its own.
    fn within(
        &mut self,
        root: RootNo,
        path: Vec<u8>,
        tell: impl FnOnce(&mut Self) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        if self.out.is_inside() {
            return tell(self);
        }
        self.out.begin(root, path)?;
        tell(self)?;
        self.out.end()
    }

    #[allow(clippy::too_many_arguments)]
    fn examine_file(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
        row: Row,
        file: Option<&OwnedFd>,
        want: bool,
        epoch: u64,
    ) -> Result<(), CaptureError> {
        let opened;
        let file = match file {
            Some(file) => file,
            None => match self.open_node(facts, node, edge)? {
                Ok(file) => {
                    opened = file;
                    &opened
                }
                // It moved, or a directory above it did: it is looked for again under this name, and read wherever
                // it is found.
                Err(Errno::NOENT) => {
                    if want {
                        self.owed.insert(node);
                    }
                    let why = Why { content: want, attributes: true, ..Why::default() };
                    return self.again(facts, edge.clone(), why, epoch);
                }
                Err(errno) => return self.examine_closed_file(facts, node, edge, row, want, errno),
            },
        };
        let path = self.path_of_edge(facts, edge)?;
        let root = row.root;
        self.within(root, path, |core| core.tell_file(facts, node, edge, row, file, want, epoch))
    }

    /// A file that may not be read: its attributes are kept all the same.
    fn examine_closed_file(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
        mut row: Row,
        want: bool,
        errno: Errno,
    ) -> Result<(), CaptureError> {
        if want {
            self.skip(edge, SkippedWhat::Content, errno, facts)?;
            row.set_content_unknown(true);
        }
        let Some(look) = facts.nodes.get(&node).map(|fact| fact.look) else { return Ok(()) };
        let path = self.path_of_edge(facts, edge)?;
        self.within(row.root, path, |core| {
            let Some(set) = core.xattrs_of(facts, edge, None)? else {
                return core.look_later(facts, edge);
            };
            core.tell_meta(node, &mut row, &look, Some(set), facts, edge)
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn tell_file(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
        mut row: Row,
        file: &OwnedFd,
        want: bool,
        epoch: u64,
    ) -> Result<(), CaptureError> {
        let started = Instant::now();
        let Some(reading) = self.read_passes(facts, node, edge, &mut row, file, want)? else { return Ok(()) };
        match reading.failure {
            Some(errno) => {
                row.set_content_unknown(true);
                self.skip(edge, SkippedWhat::Content, errno, facts)?;
            }
            None if want => {
                self.owed.remove(&node);
                row.set_content_unknown(false);
                self.unskip_what(edge, SkippedWhat::Content)?;
            }
            None => {}
        }
        if self.roots.len() > 1 && differs(false, &row.attributes, &reading.look.attributes) {
            self.hint_other_roots(&row, epoch)?;
        }
        self.tell_meta(node, &mut row, &reading.look, reading.set, facts, edge)?;
        self.rest(node, started.elapsed());
        if reading.restless {
            let why = Why { content: want, attributes: true, ..Why::default() };
            // Whatever was written before this reading is in the stream: the next one is owed to a later epoch.
            let epoch = self.hints.epoch().max(epoch);
            let not_before = self.rests.get(&node).copied();
            self.hints.put_back(edge.clone(), Hint { why, epoch, not_before, ..Hint::default() });
        }
        Ok(())
    }

    /// Reads a file until it does not move meanwhile, or often enough. `None`: it cannot be looked at.
    fn read_passes(
        &mut self,
        facts: &Facts,
        node: NodeId,
        edge: &Edge,
        row: &mut Row,
        file: &OwnedFd,
        want: bool,
    ) -> Result<Option<Reading>, CaptureError> {
        // A clock that is too coarse may show the same times before and after.
        let told = facts.nodes.get(&node).is_some_and(|fact| fact.attributes);
        let Ok(mut before) = look_open(file.as_fd()) else { return Ok(None) };
        let mut reading = Reading { look: before, set: None, failure: None, restless: true };
        for _ in 0..PASSES_MAX {
            let began = clock();
            if want && !self.leave_rot(facts, node, row, file, &before)? {
                reading.failure = self.read_once(node, row, file, &before)?.err();
            }
            if told
                || row.attributes.ctime != before.attributes.ctime
                || self.lacks(edge, SkippedWhat::Xattrs)?
            {
                reading.set = match xattrs(XattrsOf::Open(file.as_fd())) {
                    Ok(set) => Some(set),
                    Err(_) => self.xattrs_of(facts, edge, None)?,
                };
                self.unskip_what(edge, SkippedWhat::Xattrs)?;
            }
            reading.look = before;
            let Ok(after) = look_open(file.as_fd()) else { break };
            let changed = after.attributes.mtime.max(after.attributes.ctime).0;
            // Only a reading tells that the bytes are no longer in doubt.
            row.set_racy((!want && row.racy()) || began.0.saturating_sub(changed) < RACY_NANOSECONDS);
            if before.same_as(&after) || reading.failure.is_some() {
                reading.restless = false;
                break;
            }
            before = after;
        }
        Ok(Some(reading))
    }

    /// A file with names in several roots is a node of each; only one of them is told of by notifications.
    fn hint_other_roots(&mut self, row: &Row, epoch: u64) -> Result<(), CaptureError> {
        let others: Vec<RootNo> =
            self.roots.iter().map(|root| root.number).filter(|root| *root != row.root).collect();
        for root in others {
            let Some(node) = self.index.by_origin(root, &row.origin)? else { continue };
            if let Some(edge) =
                self.index.names_of(node)?.into_iter().find(|edge| !edge.parent.is_kept_area())
            {
                self.hints.name(edge, Why { content: true, attributes: true, ..Why::default() }, epoch);
            }
        }
        Ok(())
    }

    fn rest(&mut self, node: NodeId, took: Duration) {
        if took < REST_FROM {
            self.rests.remove(&node);
            return;
        }
        let now = Instant::now();
        self.rests.retain(|_, until| *until > now);
        self.rests.insert(node, now + (took * REST_FACTOR).min(REST_MAX));
    }

    /// One pass over the bytes; the row takes over size and block size.
    fn read_once(
        &mut self,
        node: NodeId,
        row: &mut Row,
        file: &OwnedFd,
        look: &Look,
    ) -> Result<Result<(), Errno>, CaptureError> {
        let wanted = block_bits(look.size);
        let outgrown = row.block_bits > 0 && wanted >= row.block_bits && {
            let room = 1u64 << (u64::BITS - 1).min(u32::from(row.block_bits) + 16 + u32::from(OUTGROWN_BITS));
            wanted > row.block_bits && look.size > room
        };
        let asked = self.ask_hashes(node, row, file, look)?;
        // Once: a further pass compares with what this one tells, which the replica does not show yet.
        let kept = !self.anew.remove(&node) && !row.content_unknown() && !outgrown;
        let hashes = asked || (row.block_bits > 0 && kept);
        let fresh = row.size == 0;
        let bits = if hashes && !fresh && !asked { row.block_bits } else { wanted };
        // A file without a byte in the stream needs no hashes to be known entirely.
        let have = Have {
            node,
            size: row.size,
            block_bits: bits,
            hashes: hashes || (fresh && !row.content_unknown()),
        };
        let before = row.size;
        let pass = Pass::new(&self.index, &mut self.out, file, &mut self.buffer, have);
        let (have, _, result) = pass.run(look)?;
        row.size = have.size;
        row.block_bits = have.block_bits;
        // Kept even if the pass failed: what it told stands, and hashes of blocks it did not reach are told unknown.
        row.set_content_unknown(result.is_err());
        self.counters.bytes = self.counters.bytes.saturating_add(have.size).saturating_sub(before);
        Ok(result)
    }

    /// Tells of extended attributes and attributes, and stores the row.
    fn tell_meta(
        &mut self,
        node: NodeId,
        row: &mut Row,
        look: &Look,
        set: Option<journal::Xattrs>,
        facts: &Facts,
        edge: &Edge,
    ) -> Result<(), CaptureError> {
        debug_assert!(facts.epoch <= self.hints.epoch(), "{edge:?}");
        let anew = self.anew_meta.remove(&node);
        if anew && look.sort == Sort::File && !row.content_unknown() {
            // Whatever the replica has behind the end.
            self.out.push(Event::Resize { node, size: row.size })?;
        }
        if let Some(set) = set {
            let hash = xattrs_hash(&set);
            if (hash != row.xattrs || anew) && !self.lacks(edge, SkippedWhat::Xattrs)? {
                row.xattrs = hash;
                self.out.push(Event::SetXattrs { node, xattrs: set })?;
            }
        }
        if anew || differs(look.sort == Sort::Directory, &row.attributes, &look.attributes) {
            self.out.push(Event::SetAttributes { node, attributes: look.attributes })?;
        }
        row.attributes = look.attributes;
        let mut batch = self.index.batch();
        self.index.put_row(&mut batch, node, row)?;
        self.index.commit(batch)
    }

    /// The attributes of a directory itself.
    pub(super) fn examine_directory(&mut self, facts: &Facts, node: NodeId) -> Result<(), CaptureError> {
        let Some(mut row) = self.index.row(node)? else { return Ok(()) };
        let directory = match self.directory(facts, node)? {
            Place::Open(directory) => directory,
            // Looked for again under its name, unless that cannot be looked at now.
            Place::Gone(Some(doubt)) if !facts.blocked.contains(&doubt) => {
                if let Some(edge) = self.index.names_of(node)?.into_iter().next()
                    && self.is_attached(node)?
                {
                    let why = Why { attributes: true, ..Why::default() };
                    self.again(facts, edge, why, facts.epoch)?;
                }
                return Ok(());
            }
            Place::Denied(at, errno) => return self.obstruct(facts, &at, errno),
            Place::Gone(_) => return Ok(()),
        };
        let look = match look_open(directory.as_fd()) {
            Ok(look) => look,
            Err(errno) => return self.directory_fails(facts, node, errno),
        };
        let doubted =
            facts.touched.contains_key(&node) || facts.nodes.get(&node).is_some_and(|fact| fact.attributes);
        if !doubted && row.attributes == look.attributes {
            return Ok(());
        }
        let edge = self.index.names_of(node)?.into_iter().next();
        let set = self.xattrs_of_directory(facts, edge.as_ref(), &directory)?;
        let anew = self.anew_meta.remove(&node);
        let told = anew
            || differs(true, &row.attributes, &look.attributes)
            || set.as_ref().is_some_and(|set| xattrs_hash(set) != row.xattrs);
        if !told {
            row.attributes = look.attributes;
            let mut batch = self.index.batch();
            self.index.put_row(&mut batch, node, &row)?;
            return self.index.commit(batch);
        }
        let path = self.path_of(facts, node)?;
        let root = row.root;
        self.within(root, path, |core| {
            if let Some(set) = set {
                let hash = xattrs_hash(&set);
                if anew || hash != row.xattrs {
                    row.xattrs = hash;
                    core.out.push(Event::SetXattrs { node, xattrs: set })?;
                }
            }
            if anew || differs(true, &row.attributes, &look.attributes) {
                core.out.push(Event::SetAttributes { node, attributes: look.attributes })?;
            }
            row.attributes = look.attributes;
            let mut batch = core.index.batch();
            core.index.put_row(&mut batch, node, &row)?;
            core.index.commit(batch)
        })
    }

    fn xattrs_of_directory(
        &mut self,
        facts: &Facts,
        edge: Option<&Edge>,
        directory: &OwnedFd,
    ) -> Result<Option<journal::Xattrs>, CaptureError> {
        match (xattrs(XattrsOf::Place(directory.as_fd())), edge) {
            (Ok(set), Some(edge)) => {
                self.unskip_what(edge, SkippedWhat::Xattrs)?;
                Ok(Some(set))
            }
            (Ok(set), None) => Ok(Some(set)),
            (Err(errno), edge) => {
                // What is left out as a whole is said once.
                if let Some(edge) = edge
                    && !self.lacks(edge, SkippedWhat::Node)?
                {
                    self.skip(edge, SkippedWhat::Xattrs, errno, facts)?;
                }
                Ok(None)
            }
        }
    }

    /// A directory that was open says nothing any more: it is looked for under its name.
    fn directory_fails(&mut self, facts: &Facts, node: NodeId, errno: Errno) -> Result<(), CaptureError> {
        self.reopen_ways(facts, node, errno)?;
        match self.index.names_of(node)?.into_iter().next() {
            Some(edge) => self.again(facts, edge, Why { attributes: true, ..Why::default() }, facts.epoch),
            None => {
                self.doubt_root(node, true);
                Ok(())
            }
        }
    }
}
