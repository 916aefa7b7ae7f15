//! The state of a running agent, and what is between the kernel's notifications and its hints.

use super::CaptureConfig;
use super::CaptureError;
use super::draft::Out;
use super::hints::{Hints, ListHint};
use super::index::{Index, Row};
use super::limbo::Limbo;
use super::look::look_open;
use super::node::Directories;
use super::roots::{Origins, Root};
use super::watch::{Notice, Watch};
use journal::{Edge, Kind, NodeId, RootNo};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::RandomState;
use std::os::fd::AsFd;
use std::time::Instant;

/// Notices read at once: a writer that never pauses must not keep the agent reading.
const NOTICES_MAX: usize = 1 << 16;

/// What was captured since the start; for progress and the report of a synchronization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub files: u64,
    pub directories: u64,
    pub bytes: u64,
}

/// Everything the agent's thread owns.
pub(super) struct Core {
    pub config: CaptureConfig,
    pub roots: Vec<Root>,
    /// Which directories they were.
    pub origins: Option<Origins>,
    pub index: Index,
    pub watch: Watch,
    pub hints: Hints,
    pub directories: Directories,
    pub out: Out,
    pub limbo: Limbo,
    /// Directories that cannot be watched for want of watches.
    pub unwatched: HashSet<NodeId>,
    /// Notifications were lost.
    pub overflowed: bool,
    /// Cookies that came out.
    pub cookies: VecDeque<Vec<u8>>,
    /// Roots whose own directory was moved, removed or unmounted, say notifications.
    pub doubted: HashSet<RootNo>,
    /// Those among them that could not be listed or watched.
    pub unreadable: HashSet<RootNo>,
    /// Large files rest between readings.
    pub rests: HashMap<NodeId, Instant>,
    /// Files of which it is known that bytes were written, but which were not there when they should be read.
    pub owed: HashSet<NodeId>,
    /// Nodes whose bytes, and whose metadata, are told again whatever the index says; see the agent's `scrub`.
    pub anew: HashSet<NodeId>,
    pub anew_meta: HashSet<NodeId>,
    /// Directories, removed as far as the stream goes, of which hints came to nothing: compared if they hang in the tree
    /// again.
    pub dropped: HashMap<NodeId, ListHint>,
    /// Names that could not be looked at, and nobody tells when they can.
    pub obstacles: BTreeSet<Edge>,
    /// When something was last changed through a name under which it was not found.
    pub unattributed: Option<Instant>,
    /// Names that files with other names had: who opened one of them may write through it yet.
    pub former: HashMap<Edge, NodeId>,
    /// Names of our own below the roots, for as long as the tree is being written.
    pub hidden: HashSet<Edge>,
    /// Gives the names of a directory an order.
    pub hashes: RandomState,
    /// How many names are in the index's table of skips.
    pub skip_count: usize,
    pub buffer: Vec<u8>,
    pub counters: Counters,
    /// A barrier waits: nothing rests.
    pub hurry: bool,
}

impl Core {
    pub(super) fn new(
        config: CaptureConfig,
        index: Index,
        watch: Watch,
        out: Out,
    ) -> Result<Self, CaptureError> {
        let mut roots = config.roots.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?;
        let origins = config.origins.as_deref().map(Origins::open);
        for root in &mut roots {
            root.expect(origins.as_ref().and_then(|origins| origins.get(root.number)));
        }
        let skip_count = index.skips().count();
        index.begin()?;
        let mut core = Core {
            config,
            roots,
            origins,
            index,
            watch,
            hints: Hints::default(),
            directories: Directories::default(),
            out,
            limbo: Limbo::default(),
            unwatched: HashSet::new(),
            overflowed: false,
            cookies: VecDeque::new(),
            doubted: HashSet::new(),
            unreadable: HashSet::new(),
            rests: HashMap::new(),
            owed: HashSet::new(),
            anew: HashSet::new(),
            anew_meta: HashSet::new(),
            dropped: HashMap::new(),
            obstacles: BTreeSet::new(),
            unattributed: None,
            former: HashMap::new(),
            hidden: HashSet::new(),
            hashes: RandomState::new(),
            skip_count,
            buffer: Vec::new(),
            counters: Counters::default(),
            hurry: false,
        };
        core.ensure_roots()?;
        Ok(core)
    }

    /// Takes whatever the paths of roots lead to, and remembers it: somebody asked for a synchronization.
    pub(super) fn accept_roots(&mut self) -> Result<(), CaptureError> {
        let mut any = false;
        for root in self.roots.iter_mut().filter(|root| root.lost) {
            any |= root.reopen(true);
        }
        if any {
            self.directories.clear();
        }
        self.remember_roots()
    }

    /// Remembers which directories the roots are; lost ones stay what they were.
    pub(super) fn remember_roots(&mut self) -> Result<(), CaptureError> {
        match &mut self.origins {
            Some(origins) if self.roots.iter().all(|root| !root.lost) => origins.set(self.roots.iter()),
            _ => Ok(()),
        }
    }

    /// Roots have rows of their own, so that their attributes are captured like those of other directories.
    fn ensure_roots(&mut self) -> Result<(), CaptureError> {
        let mut batch = self.index.batch();
        for root in &self.roots {
            let node = NodeId::root(root.number);
            if self.index.row(node)?.is_none() {
                let Ok(mut look) = look_open(root.fd.as_fd()) else { continue };
                // No stream has said anything of it: whatever it is like differs from this.
                look.attributes.mode = u32::MAX;
                self.index.put_row(
                    &mut batch,
                    node,
                    &Row::new(root.number, root.origin, &look, &Kind::Directory),
                )?;
            }
        }
        self.index.commit(batch)
    }

    /// Reads what the kernel queued into hints.
    pub(super) fn drain(&mut self) -> Result<(), CaptureError> {
        let Core { watch, hints, overflowed, cookies, doubted, .. } = self;
        let take = |notice| match notice {
            Notice::Name { directory, name, why } => {
                let epoch = hints.epoch();
                hints.name(Edge::new(directory, name), why, epoch);
            }
            Notice::Directory(directory) => {
                let epoch = hints.epoch();
                hints.directory(directory, epoch);
            }
            Notice::Cookie(name) => cookies.push_back(name),
            Notice::Overflow => *overflowed = true,
            Notice::Gone(directory) => doubted.extend(directory.as_root_or_kept()),
        };
        let drained = watch.drain(NOTICES_MAX, take);
        drained
            .map_err(|errno| CaptureError::Watch { operation: "read notifications", source: errno.into() })?;
        let waiting = self.hints.told() + self.owed.len() + self.dropped.len();
        self.overflowed |= waiting > self.config.hints_max;
        Ok(())
    }

    /// Something is wrong with a root's own directory, which has no name that could be skipped. `unreadable`: it is as
    /// good as lost, whatever its path leads to.
    pub(super) fn doubt_root(&mut self, node: NodeId, unreadable: bool) {
        if let Some(root) = node.as_root_or_kept().filter(|_| !node.is_kept_area()) {
            self.doubted.insert(root);
            if unreadable {
                self.unreadable.insert(root);
            }
        }
    }

    /// Has a whole root compared with the index.
    pub(super) fn rescan(&mut self, root: RootNo, epoch: u64) {
        self.hints.list(NodeId::root(root), ListHint { epoch, recursive: true, compare: true, tries: 0 });
    }

    /// A hint at something in a directory that left the tree: whoever finds the directory has it compared.
    pub(super) fn drop_hint(&mut self, directory: NodeId, hint: ListHint) {
        self.dropped.entry(directory).or_insert(hint).merge(hint);
    }

    /// Has directories compared that are back in the tree, and of which hints had been dropped.
    pub(super) fn take_dropped(&mut self) -> Result<(), CaptureError> {
        let directories: Vec<NodeId> = self.dropped.keys().copied().collect();
        for directory in directories {
            if self.index.row(directory)?.is_none() {
                self.dropped.remove(&directory);
            } else if self.is_attached(directory)?
                && let Some(hint) = self.dropped.remove(&directory)
            {
                // Of its old epoch: a barrier that waits for where it moved to waits for this too.
                self.hints.list(directory, ListHint { compare: true, tries: 0, ..hint });
            }
        }
        Ok(())
    }
}
