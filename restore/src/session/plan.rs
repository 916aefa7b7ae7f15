//! What a restore would do: the same walk and the same decisions as doing it, with counting in the place of acting.

use super::decide::{Action, Rules};
use super::error::at;
use super::links::{LinkKey, Links};
use super::marker::Mark;
use super::meta::Meta;
use super::paths::Paths;
use super::receipt::{LISTED_MAX, Listed};
use super::target::{Dir, Target};
use super::walk::{Entered, OBJECTS_MAX, Result, Step, Visitor, Walk};
use super::{IfExists, Monitor, Options};
use journal::state::PointKind;
use snapshot::repository::{BlobKind, Id, Node, NodeKind, Repository, RepositoryError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Conflicts that are named.
const CONFLICTS_MAX: usize = 20;
/// Names to be removed that are named.
const REMOVALS_MAX: usize = 20;

/// A restore that was decided on. Holds counts, not objects.
#[derive(Clone, Debug)]
pub struct Plan<'r> {
    pub(super) repository: &'r Repository,
    pub(super) tree: Id,
    pub(super) paths: Arc<Paths>,
    pub(super) mark: Mark,
    pub(super) target: PathBuf,
    pub(super) options: Options,
    /// What it comes to.
    pub totals: Totals,
}

/// What a restore comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Regular files to be written.
    pub files: u64,
    /// Directories to be made or entered.
    pub directories: u64,
    /// Links, pipes, sockets, devices to be made.
    pub others: u64,
    /// Further names of files.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Of the objects, those that take the place of others.
    pub replaced: u64,
    /// Of the objects, those that get another name.
    pub renamed: u64,
    /// Objects that stay as they are by the rule.
    pub skipped: u64,
    /// Objects that an earlier run of the same restore has made.
    pub resumed: u64,
    /// Names to be removed, each with all below it.
    pub removed: u64,
    /// The first of them, as absolute paths in the session.
    #[serde(serialize_with = "lossy")]
    pub removals: Vec<Vec<u8>>,
    /// Objects in the way under the rule `fail`: with any the restore is refused.
    pub conflicts: u64,
    /// The first of them.
    #[serde(serialize_with = "lossy")]
    pub first_conflicts: Vec<Vec<u8>>,
    /// Objects that cannot be restored.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Listed>,
    /// Whether an earlier run of the same restore goes on.
    pub resumes: bool,
    /// Bytes that are free in the target, where it exists.
    pub free_bytes: Option<u64>,
}

fn lossy<S: serde::Serializer>(paths: &[Vec<u8>], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| String::from_utf8_lossy(path)))
}

impl Totals {
    /// Files and others that a run meets.
    pub(super) fn objects(&self) -> u64 {
        self.files + self.others + self.links + self.skipped + self.resumed + self.failed
    }
}

/// One change of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// `Created`, `Modified` (made in the place of what stands there, or other bytes), `Attributes` or `Removed`.
    pub kind: PointKind,
    /// Absolute path in the session.
    pub path: Vec<u8>,
    /// Bytes to be written.
    pub bytes: u64,
}

/// Takes the changes of a plan one by one, as far as somebody wants to see them.
pub type EachPlanned<'a> = dyn FnMut(Planned) + 'a;

/// As [`plan_listed`], without the list.
///
/// # Errors
/// As there.
pub fn plan<'r>(
    repository: &'r Repository,
    tree: Id,
    paths: &[Vec<u8>],
    target: &Path,
    options: Options,
    monitor: &dyn Monitor,
) -> Result<Plan<'r>> {
    plan_listed(repository, tree, (paths, target, options), monitor, &mut |_| {})
}

/// Decides on a restore of `paths` (absolute, with all below them; none: everything) of the session whose tree is
/// `tree`, into the directory `target`, which need not exist. Changes nothing.
///
/// # Errors
/// `NoSuchPath`, `PathRefused`, `PathBlocked`, `Repository`, `Target`, `Limit`, `Options`, `ForeignMarker`, `Cancelled`.
/// Conflicts are no error here: see [`Totals::conflicts`].
pub fn plan_listed<'r>(
    repository: &'r Repository,
    tree: Id,
    (paths, target, options): (&[Vec<u8>], &Path, Options),
    monitor: &dyn Monitor,
    each: &mut EachPlanned<'_>,
) -> Result<Plan<'r>> {
    options.check()?;
    let wanted = Arc::new(Paths::new(paths)?);
    let mark = Mark::new(&tree, paths);
    let mut plan = Plan {
        repository,
        tree,
        paths: wanted,
        mark,
        target: target.into(),
        options,
        totals: Totals::default(),
    };
    let opened = plan.open_target()?;
    let again = match &opened {
        Some(opened) => plan.began() || plan.mark.is_there(opened, target)?,
        None => false,
    };
    let free_bytes = opened.as_ref().map(Target::free_bytes).transpose().map_err(at("look at", b""))?;
    let totals = Totals { resumes: again, free_bytes, ..Totals::default() };
    let links = Links::new();
    let mut count = Count { target: opened.as_ref(), repository, monitor, totals, links, each };
    plan.walk(opened.as_ref(), again).run(&mut count)?;
    plan.totals = count.totals;
    Ok(plan)
}

impl Plan<'_> {
    /// Whether what stands there was made by a run of which no mark tells. Only the rule `fail` says so much: by it
    /// nothing stood there when the run began. By any other what stands there may be somebody else's.
    pub(super) fn began(&self) -> bool {
        self.options.began && self.options.if_exists == IfExists::Fail
    }

    pub(super) fn open_target(&self) -> Result<Option<Target>> {
        Target::open(&self.target).map_err(at("open", self.target.as_os_str().as_encoded_bytes()))
    }

    pub(super) fn walk<'w>(&'w self, target: Option<&'w Target>, again: bool) -> Walk<'w, Target> {
        let (if_exists, delete) = (self.options.if_exists, self.options.delete);
        let rules = Rules { if_exists, delete, again, half_made: false };
        Walk {
            repository: self.repository,
            tree: self.tree,
            prefix: Vec::new(),
            top_meta: None,
            paths: self.paths.clone(),
            rules,
            standing: target.map(|target| (target, target.top().clone())),
            objects_max: OBJECTS_MAX,
            own_prefixes: vec![self.mark.name(), self.mark.temporary_prefix()],
        }
    }
}

/// What the blobs of a file come to, or why they cannot be the file.
pub(super) fn content_bytes(repository: &Repository, node: &Node) -> std::result::Result<u64, ContentError> {
    if !repository.holds_contents() {
        // They come from elsewhere, whole or not at all.
        return Ok(node.size);
    }
    let index = repository.index()?;
    let mut bytes = 0_u64;
    for id in &node.content {
        let kind = BlobKind::Data;
        let place = index.lookup(kind, id).ok_or(RepositoryError::BlobNotFound { kind, id: *id })?;
        bytes = bytes.saturating_add(place.plain_bytes());
    }
    if bytes == node.size { Ok(bytes) } else { Err(ContentError::Size { announced: node.size, bytes }) }
}

/// Why the content of a file is not one.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("look for the content")]
    Repository {
        #[from]
        source: RepositoryError,
    },
    #[error("its size is given as {announced} and its content has {bytes} bytes")]
    Size { announced: u64, bytes: u64 },
}

struct Count<'c, 'e> {
    target: Option<&'c Target>,
    repository: &'c Repository,
    monitor: &'c dyn Monitor,
    totals: Totals,
    links: Links<()>,
    each: &'c mut EachPlanned<'e>,
}

impl Count<'_, '_> {
    fn tell(&mut self, step: &Step<'_, Arc<Dir>>, bytes: u64) {
        let kind = match step.action {
            Action::Replace | Action::ReplaceDirectory => PointKind::Modified,
            Action::Merge { metadata: true } => PointKind::Attributes,
            Action::Merge { metadata: false } => return,
            _ => PointKind::Created,
        };
        (self.each)(Planned { kind, path: step.path.to_vec(), bytes });
    }

    /// Whether the object is made.
    fn count(&mut self, step: &Step<'_, Arc<Dir>>) -> Result<bool> {
        let totals = &mut self.totals;
        match step.action {
            Action::Make | Action::Merge { .. } => {}
            Action::Replace | Action::ReplaceDirectory => totals.replaced += 1,
            Action::Rename => totals.renamed += 1,
            Action::Whole => totals.resumed += 1,
            Action::Skip => totals.skipped += 1,
            Action::Conflict => {
                totals.conflicts += 1;
                if totals.first_conflicts.len() < CONFLICTS_MAX {
                    totals.first_conflicts.push(step.path.to_vec());
                }
            }
            Action::InTheWay => self.failed(in_the_way(step.path))?,
        }
        Ok(!matches!(step.action, Action::Whole | Action::Skip | Action::Conflict | Action::InTheWay))
    }
}

/// What is said of a directory where something else should be.
pub(super) fn in_the_way(path: &[u8]) -> Listed {
    const EISDIR: i32 = 21;
    let reason = "a directory stands there, and it is kept".to_owned();
    Listed { path: path.to_vec(), what: "name", reason, errno: Some(EISDIR) }
}

impl Visitor<Arc<Dir>> for Count<'_, '_> {
    fn enter(&mut self, step: Step<'_, Arc<Dir>>) -> Result<Entered<Arc<Dir>>> {
        if !self.count(&step)? {
            return Ok(Entered::Out);
        }
        self.totals.directories += u64::from(!step.path.is_empty());
        self.tell(&step, 0);
        let there = matches!(step.action, Action::Merge { .. });
        let dir = match (self.target, step.dir) {
            (Some(target), Some(dir)) if there => Some(target.child(dir, &step.name, None)),
            _ => None,
        };
        Ok(Entered::Here(dir, false))
    }

    fn leave(&mut self, _: Arc<Dir>, _: Meta, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn object(&mut self, step: Step<'_, Arc<Dir>>, node: Node, _: Meta) -> Result<()> {
        if !self.count(&step)? {
            return Ok(());
        }
        let key = LinkKey::of(&node);
        if key.is_some_and(|key| self.links.further(&key).is_some()) {
            self.totals.links += 1;
            self.tell(&step, 0);
            return Ok(());
        }
        if node.kind == NodeKind::File {
            match content_bytes(self.repository, &node) {
                Ok(bytes) => {
                    self.totals.bytes = self.totals.bytes.saturating_add(bytes);
                    self.tell(&step, bytes);
                }
                Err(error) => {
                    let (what, reason) = ("content", super::receipt::chain(&error));
                    return self.failed(Listed { path: step.path.to_vec(), what, reason, errno: None });
                }
            }
            self.totals.files += 1;
        } else {
            self.totals.others += 1;
            self.tell(&step, 0);
        }
        if let Some(key) = key {
            self.links.remember(key, node.links, ());
        }
        Ok(())
    }

    fn extra(&mut self, dir: &Arc<Dir>, name: &[u8], _: &[u8]) -> Result<()> {
        self.totals.removed += 1;
        (self.each)(Planned { kind: PointKind::Removed, path: dir.path(name), bytes: 0 });
        if self.totals.removals.len() < REMOVALS_MAX {
            self.totals.removals.push(dir.path(name));
        }
        Ok(())
    }

    fn failed(&mut self, listed: Listed) -> Result<()> {
        self.totals.failed += 1;
        if self.totals.failures.len() < LISTED_MAX {
            self.totals.failures.push(listed);
        }
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.monitor.cancelled()
    }
}
