//! Reading all that a session needs, and comparing it with its names: what a restore would read, without writing.
//!
//! Trees are walked as by a restore, so what is refused there is found here. Blobs are gathered, sorted by the packs they
//! lie in, and read by several threads, a batch at a time; a batch reads a blob once. Memory is that of a batch.

use super::decide::Rules;
use super::error::{SessionRestoreError, is_store_down, repository};
use super::links::LinkKey;
use super::meta::Meta;
use super::paths::Paths;
use super::plan::content_bytes;
use super::receipt::{LISTED_MAX, Listed, chain};
use super::target::{Dir, Target};
use super::walk::{Entered, OBJECTS_MAX, Result, Step, Visitor, Walk};
use super::{IfExists, Monitor, Progress};
use parking_lot::Mutex;
use snapshot::repository::read::{self, PackRead};
use snapshot::repository::{BlobKind, Id, Node, NodeKind, ObjectKind, Repository};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// References to blobs that are gathered before they are read.
const REFERENCES_MAX: usize = 400_000;
/// Files with several names that are counted once.
const LINKED_MAX: usize = 1_000_000;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Objects that are no directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Blobs of files that were read.
    pub blobs: u64,
    /// Objects that cannot be restored.
    pub damaged: u64,
    /// The first of them.
    pub failures: Vec<Listed>,
}

/// Reads everything that a restore of the session's tree would read.
///
/// # Errors
/// `Repository` if the store does not answer, or the first tree cannot be had; `Limit`; `Cancelled`.
pub fn verify(repository: &Repository, tree: Id, threads: usize, monitor: &dyn Monitor) -> Result<Verified> {
    let rules = Rules { if_exists: IfExists::Overwrite, delete: false, again: false, half_made: false };
    let walk: Walk<'_, Target> = Walk {
        repository,
        tree,
        prefix: Vec::new(),
        top_meta: None,
        paths: Arc::new(Paths::new(&[])?),
        rules,
        standing: None,
        objects_max: OBJECTS_MAX,
        own_prefixes: Vec::new(),
    };
    let mut reader = Reader {
        repository,
        monitor,
        threads: threads.clamp(1, 64),
        found: Verified::default(),
        paths: Vec::new(),
        references: Vec::new(),
        linked: HashSet::new(),
        bytes_read: AtomicU64::new(0),
    };
    walk.run(&mut reader)?;
    reader.read()?;
    Ok(reader.found)
}

struct Reader<'r> {
    repository: &'r Repository,
    monitor: &'r dyn Monitor,
    threads: usize,
    found: Verified,
    /// Files whose blobs are to be read.
    paths: Vec<Vec<u8>>,
    /// Blobs, and the files that need them.
    references: Vec<(Id, u32)>,
    linked: HashSet<LinkKey>,
    bytes_read: AtomicU64,
}

impl Reader<'_> {
    fn damaged(&mut self, listed: Listed) {
        self.found.damaged += 1;
        if self.found.failures.len() < LISTED_MAX {
            self.found.failures.push(listed);
        }
    }

    /// Reads what was gathered.
    fn read(&mut self) -> Result<()> {
        self.references.sort_unstable();
        let mut wanted: Vec<Id> = self.references.iter().map(|(id, _)| *id).collect();
        wanted.dedup();
        self.found.blobs += wanted.len() as u64;
        let wanted = wanted.into_iter().map(|id| (BlobKind::Data, id));
        let reads = read::plan(self.repository, wanted).map_err(repository("look for blobs"))?;
        let failed: Mutex<Vec<(Id, String)>> = Mutex::default();
        let fatal: Mutex<Option<SessionRestoreError>> = Mutex::default();
        let next = AtomicUsize::new(0);
        let over = || fatal.lock().is_some() || self.monitor.cancelled();
        let work = || {
            while let Some(pack) = reads.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !over()) {
                self.read_pack(pack, &failed, &fatal, &over);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(reads.len()) {
                // Where no thread can be had, this one does it all.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        if let Some(error) = fatal.into_inner() {
            return Err(error);
        }
        if self.monitor.cancelled() {
            return Err(SessionRestoreError::Cancelled);
        }
        self.blame(failed.into_inner());
        self.references.clear();
        self.paths.clear();
        Ok(())
    }

    fn read_pack(
        &self,
        pack: &PackRead,
        failed: &Mutex<Vec<(Id, String)>>,
        fatal: &Mutex<Option<SessionRestoreError>>,
        over: &dyn Fn() -> bool,
    ) {
        self.repository.read_pack(pack, &mut |place, bytes| {
            match bytes {
                Ok(bytes) => {
                    let length = bytes.len() as u64;
                    let bytes = self.bytes_read.fetch_add(length, Ordering::Relaxed) + length;
                    let files = self.found.files;
                    self.monitor.progress(Progress { files, bytes, ..Progress::default() });
                }
                Err(error) if is_store_down(&error) => {
                    fatal.lock().get_or_insert(repository("read the session's content")(error));
                }
                Err(error) => {
                    let pack = ObjectKind::Pack.name(&place.pack);
                    let (offset, cause) = (place.offset, chain(&error));
                    let reason = format!("data blob {} in {pack} at offset {offset}: {cause}", place.id);
                    failed.lock().push((place.id, reason));
                }
            }
            !over()
        });
    }

    /// Lists every file that needs a blob which cannot be had, once.
    fn blame(&mut self, failed: Vec<(Id, String)>) {
        let mut told: HashSet<u32> = HashSet::new();
        for (id, reason) in failed {
            let from = self.references.partition_point(|(blob, _)| *blob < id);
            let files: Vec<u32> = self
                .references
                .iter()
                .skip(from)
                .take_while(|(blob, _)| *blob == id)
                .map(|(_, file)| *file)
                .filter(|file| told.insert(*file))
                .collect();
            for file in files {
                let path = self.paths.get(file as usize).cloned().unwrap_or_default();
                self.damaged(Listed { path, what: "content", reason: reason.clone(), errno: None });
            }
        }
    }
}

impl Visitor<Arc<Dir>> for Reader<'_> {
    fn enter(&mut self, step: Step<'_, Arc<Dir>>) -> Result<Entered<Arc<Dir>>> {
        self.found.directories += u64::from(!step.path.is_empty());
        Ok(Entered::Here(None, false))
    }

    fn leave(&mut self, _: Arc<Dir>, _: Meta, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn object(&mut self, step: Step<'_, Arc<Dir>>, node: Node, _: Meta) -> Result<()> {
        self.found.files += 1;
        if node.kind != NodeKind::File {
            return Ok(());
        }
        if let Some(key) = LinkKey::of(&node)
            && self.linked.len() < LINKED_MAX
            && !self.linked.insert(key)
        {
            return Ok(());
        }
        match content_bytes(self.repository, &node) {
            Ok(bytes) => self.found.bytes = self.found.bytes.saturating_add(bytes),
            Err(error) => {
                let (what, reason) = ("content", chain(&error));
                self.damaged(Listed { path: step.path.to_vec(), what, reason, errno: None });
                return Ok(());
            }
        }
        for part in node.content.chunks(REFERENCES_MAX) {
            let file = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
            self.paths.push(step.path.to_vec());
            self.references.extend(part.iter().map(|id| (*id, file)));
            if self.references.len() >= REFERENCES_MAX {
                self.read()?;
            }
        }
        Ok(())
    }

    fn extra(&mut self, _: &Arc<Dir>, _: &[u8], _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn failed(&mut self, listed: Listed) -> Result<()> {
        self.damaged(listed);
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.monitor.cancelled()
    }
}
