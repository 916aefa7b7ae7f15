//! An archive as a session of a repository.
//!
//! Contents are saved as they come; a node goes into its tree when its content was proved, never before. The record is
//! written when the verdict on the whole archive is there. If that is not good, nothing is recorded, unless the caller
//! wants what there is: then the session holds what was proved, and its record counts what it lacks.
//!
//! A repository can also be given the trees and the record only ([`Keep::Trees`]): contents are cut and hashed as they come,
//! for the ids that the nodes name, and are not saved. The ids and the trees are the same then, so the repository shows
//! what the session holds without holding it.
//!
//! Reading and recording are two steps ([`take`], [`Held::record`]) for those who record what is durable elsewhere.
//!
//! What was saved for a session that is not recorded is removed by the next prune, like that of any backup that was
//! broken off.

use super::carrier::TapeKey;
use super::label::SessionLabel;
use super::links::LINKED_MAX;
use super::member::{Member, MemberKind};
use super::reader::{Content, Flow, Proof, SessionReader, Visitor};
use super::spill::Spill;
use super::trees::Trees;
use super::verdict::Verdict;
use super::{ArchiveError, LISTED_MAX, Result};
use crate::repository::chunk::Chunker;
use crate::repository::writer::Commit;
use crate::repository::{
    BlobWriter, Id, Lock, Node, NodeKind, Repository, RepositoryError, RepositoryErrorKind, SessionRecord,
    WriterOptions,
};
use crate::session::{Missed, Monitor, Totals};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Where the summary of a listed session says which session of a repository it is a copy of.
pub const COPIED_FROM: &str = "copied_from";

/// What to do with an archive that is not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unfit {
    /// Record nothing.
    #[default]
    Refuse,
    /// Record what was proved; the record says how much is missing.
    Record,
}

/// What of a session the repository gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    #[default]
    All,
    /// Trees and the record. The record's `original` is the session that was read, whatever that is a copy of.
    Trees,
}

/// What is read into the repository, and how.
#[derive(Clone, Debug, Default)]
pub struct IntoOptions {
    /// Paths on the master, with all below them; none: everything.
    pub wanted: Vec<Vec<u8>>,
    /// What to do with an archive that is not whole.
    pub unfit: Unfit,
    /// What is saved.
    pub keep: Keep,
    /// What opens it if it is encrypted.
    pub key: Option<TapeKey>,
}

/// A session that was read.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its id in the repository.
    pub id: Id,
    /// Its tree.
    pub tree: Id,
    /// What it holds.
    pub totals: Totals,
    /// Objects that were wanted and are not in it.
    pub missed_count: u64,
    /// The first of them.
    pub missed: Vec<Missed>,
    /// Wanted paths that the archive does not hold.
    pub not_found: Vec<Vec<u8>>,
    /// What is right of the archive.
    pub verdict: Verdict,
}

/// A session whose blobs are saved and whose record is not written.
pub struct Held {
    writer: BlobWriter,
    record: SessionRecord,
    taken: Taken,
}

/// Reads a session from `input` into a repository, and waits until it is durable. `lock` is the caller's on the repository.
/// Scratch files are made in `scratch`.
///
/// # Errors
/// `NotASession`, `NotWhole`, `Label`, `Version`, `KeyWanted`, `WrongKey`, `Carrier` of the archive; `Repository`, `Removed`; `Scratch`, `Cancelled`.
pub fn into_repository<R: Read>(
    input: R,
    options: &IntoOptions,
    (repository, lock): (&Arc<Repository>, &Lock),
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Taken> {
    take(input, options, repository, scratch, monitor)?.record(lock)
}

/// As [`into_repository`], up to the record.
///
/// # Errors
/// As there, but for `Removed`.
pub fn take<R: Read>(
    input: R,
    options: &IntoOptions,
    repository: &Arc<Repository>,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Held> {
    let reader = SessionReader::open_with(input, options.key.as_ref(), scratch)?;
    let writer = BlobWriter::new(Arc::clone(repository), WriterOptions::default())?;
    let mut taker = Taker::new(&writer, options, monitor, scratch)?;
    let verdict = reader.read(&mut taker)?;
    if options.unfit == Unfit::Refuse {
        whole(&verdict)?;
    }
    let Some(label) = verdict.label.clone() else {
        return Err(ArchiveError::Label { what: "it is damaged, and so is the catalog that repeats it" });
    };
    taker.count_lost(&verdict);
    let Taker { trees, totals, missed_count, missed, found, .. } = taker;
    let not_found = options.wanted.iter().zip(&found).filter(|(_, found)| !**found);
    let not_found: Vec<Vec<u8>> = not_found.map(|(path, _)| path.clone()).collect();
    let tree = trees.finish()?;
    let record = record_of(&label, tree, (totals, missed_count), options.keep);
    let taken = Taken { id: label.id(), tree, totals, missed_count, missed, not_found, verdict };
    Ok(Held { writer, record, taken })
}

/// Refuses what is not whole, with the first damaged member named.
///
/// # Errors
/// `NotWhole`.
pub fn whole(verdict: &Verdict) -> Result<()> {
    let Some(reason) = verdict.fault() else { return Ok(()) };
    let first = verdict.damaged.first().map(|first| String::from_utf8_lossy(&first.path).into_owned());
    let (count, first) = (verdict.damaged_count, first.unwrap_or_default());
    Err(ArchiveError::NotWhole { count, first, reason })
}

fn record_of(label: &SessionLabel, tree: Id, (totals, missed): (Totals, u64), keep: Keep) -> SessionRecord {
    let fields = label.fields();
    let mut summary =
        fields.summary.clone().filter(serde_json::Value::is_object).unwrap_or_else(|| serde_json::json!({}));
    totals.write(&mut summary);
    let before = summary.get("missed").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if let Some(summary) = summary.as_object_mut() {
        summary.insert("missed".to_owned(), before.saturating_add(missed).into());
        // The record's own word for it is taken: it is what the listing goes by.
        if let Some(original) = fields.original.filter(|_| keep == Keep::Trees) {
            summary.insert(COPIED_FROM.to_owned(), original.to_string().into());
        }
    }
    SessionRecord {
        time: fields.time,
        parent: None,
        tree,
        paths: fields.paths.clone(),
        hostname: fields.master.clone(),
        username: "root".to_owned(),
        uid: 0,
        gid: 0,
        excludes: fields.excludes.clone(),
        tags: fields.tags.clone(),
        original: Some(fields.original.filter(|_| keep == Keep::All).unwrap_or(label.id())),
        program_version: concat!("rewind ", env!("CARGO_PKG_VERSION")).to_owned(),
        summary: Some(summary),
    }
}

impl Held {
    /// What was read; its id is the one on the label.
    #[must_use]
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Writes the record, and waits until all is durable.
    ///
    /// # Errors
    /// `Repository`, `Removed`.
    pub fn record(self, lock: &Lock) -> Result<Taken> {
        let Held { writer, record, taken } = self;
        match writer.commit(lock, &record)? {
            Commit::Recorded(id) => Ok(Taken { id, ..taken }),
            Commit::Missing(_) => Err(ArchiveError::Removed),
        }
    }
}

/// The chunks of a file as a repository would name them.
fn chunks(chunker: &mut Chunker, content: &mut dyn Read) -> std::result::Result<Vec<Id>, RepositoryError> {
    chunker.restart();
    let mut ids = Vec::new();
    while let Some(chunk) = chunker.next(content)? {
        ids.push(Id::of(chunk));
    }
    Ok(ids)
}

impl Taker<'_> {
    /// Counts what was never handed out: members that are lost, and what could not even be archived.
    fn count_lost(&mut self, verdict: &Verdict) {
        let lost = verdict.damaged.iter().filter(|one| one.is_lost);
        let mut all_listed = 0;
        for one in lost {
            all_listed += 1;
            if self.wants(&one.path) {
                self.miss(&one.path, one.reason.clone());
            }
        }
        for (path, reason) in &verdict.missed {
            if self.wants(path) {
                self.miss(path, reason.clone());
            }
        }
        // Whether those that are not listed were wanted nobody knows: they count.
        let lost = verdict.lost_count.saturating_sub(all_listed);
        let missed = verdict.totals.map_or(0, |totals| totals.missed);
        let missed = missed.saturating_sub(verdict.missed.len() as u64);
        self.missed_count = self.missed_count.saturating_add(lost).saturating_add(missed);
        // Nobody knows what a stream without an end had in it.
        if let Some(fault) = verdict.fault().filter(|_| self.missed_count == 0) {
            self.miss(b"", fault);
        }
    }

    fn wants(&self, path: &[u8]) -> bool {
        let wanted = &self.options.wanted;
        wanted.is_empty() || wanted.iter().any(|above| is_at_or_below(path, trimmed(above)))
    }
}

/// A node that waits for its proof.
struct Waiting {
    path: Vec<u8>,
    node: Node,
    is_wanted: bool,
}

/// Blobs of a file some of whose names are still to come.
struct Linked {
    at: u64,
    count: usize,
    left: u64,
    size: u64,
}

/// Puts members into the repository.
struct Taker<'w> {
    writer: &'w BlobWriter,
    options: &'w IntoOptions,
    monitor: &'w dyn Monitor,
    trees: Trees<'w>,
    chunker: Chunker,
    waiting: Option<Waiting>,
    /// By the SHA-256 of the first name's path.
    linked: HashMap<Id, Linked>,
    blobs: Spill,
    totals: Totals,
    missed_count: u64,
    missed: Vec<Missed>,
    /// Which of the wanted paths were found.
    found: Vec<bool>,
}

impl<'w> Taker<'w> {
    fn new(
        writer: &'w BlobWriter,
        options: &'w IntoOptions,
        monitor: &'w dyn Monitor,
        scratch: &Path,
    ) -> Result<Self> {
        Ok(Self {
            writer,
            options,
            monitor,
            trees: Trees::new(writer),
            chunker: Chunker::new(),
            waiting: None,
            linked: HashMap::new(),
            blobs: Spill::new(scratch)?,
            totals: Totals::default(),
            missed_count: 0,
            missed: Vec::new(),
            found: vec![false; options.wanted.len()],
        })
    }

    /// Whether a member is wanted, or is a directory on the way to what is.
    fn is_wanted(&mut self, member: &Member) -> bool {
        let mut wanted = self.options.wanted.is_empty();
        for (path, found) in self.options.wanted.iter().zip(&mut self.found) {
            let path = trimmed(path);
            if is_at_or_below(&member.path, path) {
                (wanted, *found) = (true, true);
            } else if member.node.kind == NodeKind::Directory && is_at_or_below(path, &member.path) {
                wanted = true;
            }
        }
        wanted
    }

    fn miss(&mut self, path: &[u8], reason: String) {
        self.missed_count += 1;
        if self.missed.len() < LISTED_MAX {
            self.missed.push(Missed { path: [b"/", path].concat(), reason });
        }
    }

    /// Saves a file's content; `None` if the archive does not give it: the proof will say why.
    fn save(&mut self, content: &mut Content<'_>) -> Result<Option<Vec<Id>>> {
        let mut content = Watched { content, monitor: self.monitor };
        let saved = match self.options.keep {
            Keep::All => self.writer.save_file(&mut self.chunker, &mut content).map(|saved| saved.content),
            Keep::Trees => chunks(&mut self.chunker, &mut content),
        };
        match saved {
            Ok(content) => Ok(Some(content)),
            Err(RepositoryError::Source { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The content of a first name.
    fn linked(&mut self, member: &Member) -> Result<Option<Vec<Id>>> {
        let key = Id::of(&member.first);
        let known = self.linked.get_mut(&key).filter(|known| known.size == member.node.size);
        let Some(known) = known else { return Ok(None) };
        known.left = known.left.saturating_sub(1);
        let (at, count, is_last) = (known.at, known.count, known.left == 0);
        if is_last {
            self.linked.remove(&key);
        }
        let bytes = self.blobs.read_at(at, count * 32)?;
        Ok(Some(bytes.as_chunks::<32>().0.iter().map(|id| Id(*id)).collect()))
    }

    fn remember(&mut self, path: &[u8], node: &Node) -> Result<()> {
        if node.kind != NodeKind::File || node.links < 2 || self.linked.len() >= LINKED_MAX {
            return Ok(());
        }
        let ids: Vec<u8> = node.content.iter().flat_map(|blob| blob.0).collect();
        let (at, count) = (self.blobs.add(&ids)?, node.content.len());
        let linked = Linked { at, count, left: node.links - 1, size: node.size };
        self.linked.insert(Id::of(path), linked);
        Ok(())
    }

    fn keep(&mut self, waiting: Waiting, is_link: bool) -> Result<()> {
        let Waiting { path, node, is_wanted } = waiting;
        if !is_link {
            self.remember(&path, &node)?;
        }
        if !is_wanted {
            return Ok(());
        }
        let directory = node.kind == NodeKind::Directory;
        self.totals.files += u64::from(!directory);
        self.totals.directories += u64::from(directory);
        self.totals.bytes = self.totals.bytes.saturating_add(if directory { 0 } else { node.size });
        self.monitor.progress(self.totals.files + self.totals.directories, self.totals.bytes);
        match self.trees.add(&path, node) {
            Err(ArchiveError::Repository { source })
                if self.options.unfit == Unfit::Record && source.kind() == RepositoryErrorKind::Refused =>
            {
                self.miss(&path, crate::repository::chain(&source));
                Ok(())
            }
            outcome => outcome,
        }
    }
}

impl Visitor for Taker<'_> {
    fn member(&mut self, member: &Member, content: &mut Content<'_>) -> Result<Flow> {
        if self.monitor.cancelled() {
            return Ok(Flow::Stop);
        }
        let is_wanted = self.is_wanted(member);
        let mut node = member.node.clone();
        if member.kind == MemberKind::Link {
            // Its content was proved with its first name.
            match self.linked(member)? {
                Some(blobs) => node.content = blobs,
                None if is_wanted => {
                    self.miss(&member.path, "the first name of the file is damaged or missing".to_owned());
                    return Ok(Flow::On);
                }
                None => return Ok(Flow::On),
            }
            self.keep(Waiting { path: member.path.clone(), node, is_wanted }, true)?;
            return Ok(Flow::On);
        }
        // Another name of the file may be wanted.
        if node.kind == NodeKind::File && (is_wanted || node.links > 1) {
            node.content = self.save(content)?.unwrap_or_default();
            if self.monitor.cancelled() {
                return Ok(Flow::Stop);
            }
        }
        self.waiting = Some(Waiting { path: member.path.clone(), node, is_wanted });
        Ok(Flow::On)
    }

    fn cancelled(&self) -> bool {
        self.monitor.cancelled()
    }

    fn proof(&mut self, proof: Proof) -> Result<()> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        let reason = match proof {
            Proof::Right => return self.keep(waiting, false),
            Proof::Unread => "it could not be read when it was archived".to_owned(),
            Proof::Wrong(reason) => reason,
            Proof::Unknown => "what proves its content is damaged".to_owned(),
        };
        if waiting.is_wanted {
            self.miss(&waiting.path, reason);
        }
        Ok(())
    }
}

/// A content that ends when somebody asks to stop: zeros of a hole come without end.
struct Watched<'c, 'a, 'm> {
    content: &'c mut Content<'a>,
    monitor: &'m dyn Monitor,
}

impl Read for Watched<'_, '_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.monitor.cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.content.read(room)
    }
}

fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Whether a path is another one, or below it; all is below the empty path.
fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
