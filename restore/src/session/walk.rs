//! The walk of a session: every tree once, depth first, each object decided about and handed to a visitor.
//!
//! A tree is read as a stream; its directories wait in a list of small entries until their turn. So memory is the tree
//! under way and the directories that wait on the path to it, which have a limit; depth has one, too. Nothing recurses.
//! A directory that a repository shows under a thousand paths is walked a thousand times, as it should be; whoever made
//! it without end is stopped by the depth.

use super::decide::{Action, Rules, Wanted, decide, is_half_made, is_ours, is_whole, other_name};
use super::error::{SessionRestoreError, at, is_store_down, repository};
use super::meta::Meta;
use super::paths::Paths;
use super::receipt::{Listed, chain};
use super::target::Found;
use super::trees::Trees;
use snapshot::repository::{Id, Node, NodeKind, Repository, read_tree};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;

/// Directories below each other.
pub(super) const DEPTH_MAX: usize = 4096;
/// Directories that wait for their turn.
const WAITING_MAX: u64 = 4_000_000;
/// Objects of a session, directories and repetitions included.
pub(super) const OBJECTS_MAX: u64 = 1 << 32;
/// Other names that are tried for an object.
const NAMES_MAX: u32 = 1000;

pub(super) type Result<T> = std::result::Result<T, SessionRestoreError>;

/// What a session is compared with: a directory, or a tree as a journal shows it.
pub(super) trait Standing {
    /// A directory of it.
    type Dir: Clone;
    /// What stands at a name; `None` if nothing does.
    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Found>>;
    /// Calls `each` for every name in a directory. `NotFound` if it is gone.
    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&[u8])) -> io::Result<()>;
    /// Whether no other object will fare better after this error.
    fn is_fatal(&self, error: &io::Error) -> bool;
}

/// An object to be made, and how.
pub(super) struct Step<'s, D> {
    /// The directory in the target; `None` if it does not exist yet.
    pub dir: Option<&'s D>,
    /// The name it gets.
    pub name: Vec<u8>,
    pub action: Action,
    /// Absolute path in the session.
    pub path: &'s [u8],
    /// What it gets; nothing of use for the top.
    pub meta: &'s Meta,
}

/// What is below a directory that was entered.
pub(super) enum Entered<D> {
    /// It is here; `None` if it does not exist yet. Whether it gets its metadata at the end.
    Here(Option<D>, bool),
    /// It is left out, with all below it.
    Out,
}

/// Does something about objects, or only counts them.
pub(super) trait Visitor<D> {
    /// A directory before what is in it.
    fn enter(&mut self, step: Step<'_, D>) -> Result<Entered<D>>;
    /// A directory after what is in it, if it gets its metadata.
    fn leave(&mut self, dir: D, meta: Meta, path: &[u8]) -> Result<()>;
    /// Anything else.
    fn object(&mut self, step: Step<'_, D>, node: Node, meta: Meta) -> Result<()>;
    /// A name that the session does not hold, in a directory that it does, whose path is `above`.
    fn extra(&mut self, dir: &D, name: &[u8], above: &[u8]) -> Result<()>;
    /// An object that cannot be restored.
    fn failed(&mut self, listed: Listed) -> Result<()>;
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// A directory that waits.
struct Sub {
    name: Vec<u8>,
    tree: Id,
    meta: Meta,
    paths: Arc<Paths>,
}

struct Frame<D> {
    dir: Option<D>,
    /// What it gets at the end.
    meta: Option<Meta>,
    /// Length of its path.
    path: usize,
    /// Last one first.
    subs: Vec<Sub>,
}

/// What is walked.
pub(super) struct Walk<'w, S: Standing> {
    pub repository: &'w Repository,
    /// Tree of the directory that is walked from.
    pub tree: Id,
    /// Its path; empty for the top of the session.
    pub prefix: Vec<u8>,
    /// Its own metadata, where it is to be set.
    pub top_meta: Option<Meta>,
    /// What is wanted of it.
    pub paths: Arc<Paths>,
    pub rules: Rules,
    /// `None` if it does not exist yet.
    pub standing: Option<(&'w S, S::Dir)>,
    /// Most objects that are accepted. Trees that are shown under many paths can come to any number.
    pub objects_max: u64,
    /// What names of ours in the target begin with.
    pub own_prefixes: Vec<String>,
}

struct Walker<'w, 'v, S: Standing> {
    walk: &'w Walk<'w, S>,
    visitor: &'v mut dyn Visitor<S::Dir>,
    trees: Trees<'w>,
    stack: Vec<Frame<S::Dir>>,
    path: Vec<u8>,
    waiting: usize,
    objects: u64,
}

impl<S: Standing> Walk<'_, S> {
    /// Walks the session from its top.
    pub fn run(&self, visitor: &mut dyn Visitor<S::Dir>) -> Result<()> {
        let trees = Trees::new(self.repository);
        let mut walker = Walker {
            walk: self,
            visitor,
            trees,
            stack: Vec::new(),
            path: self.prefix.clone(),
            waiting: 0,
            objects: 0,
        };
        walker.top()?;
        while let Some(frame) = walker.stack.last_mut() {
            match frame.subs.pop() {
                Some(sub) => walker.directory(sub)?,
                None => walker.leave()?,
            }
        }
        Ok(())
    }
}

impl<S: Standing> Walker<'_, '_, S> {
    fn top(&mut self) -> Result<()> {
        let tree = self.walk.tree;
        let json = self
            .trees
            .load(&tree, std::iter::empty())
            .map_err(repository("read the session's first tree"))?;
        let dir = self.walk.standing.as_ref().map(|(_, top)| top.clone());
        self.visitor.enter(Step {
            dir: None,
            name: Vec::new(),
            action: Action::Merge { metadata: false },
            path: &self.path,
            meta: self.walk.top_meta.as_ref().unwrap_or(&Meta::NONE),
        })?;
        self.scan(&tree, &json, dir, self.walk.top_meta.clone(), &self.walk.paths.clone())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let left = match (frame.dir, frame.meta) {
            (Some(dir), Some(meta)) => self.visitor.leave(dir, meta, &self.path),
            _ => Ok(()),
        };
        self.path.truncate(self.stack.last().map_or(self.walk.prefix.len(), |frame| frame.path));
        left
    }

    fn failed(&mut self, what: &'static str, reason: String, errno: Option<i32>) -> Result<()> {
        self.visitor.failed(Listed { path: self.path.clone(), what, reason, errno })
    }

    fn directory(&mut self, sub: Sub) -> Result<()> {
        if self.visitor.cancelled() {
            return Err(SessionRestoreError::Cancelled);
        }
        self.waiting -= 1;
        let above = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&sub.name);
        if self.stack.len() >= DEPTH_MAX {
            self.failed("directory", format!("it lies deeper than {DEPTH_MAX} directories"), None)?;
            self.path.truncate(above);
            return Ok(());
        }
        // Read before it is made: one that is damaged is not created.
        let next = self.stack.iter().rev().flat_map(|frame| frame.subs.iter().rev().map(|sub| sub.tree));
        let json = match self.trees.load(&sub.tree, next) {
            Ok(json) => json,
            Err(error) => {
                if is_store_down(&error) {
                    return Err(repository("read a directory of the session")(error));
                }
                self.failed("directory", chain(&error), None)?;
                self.path.truncate(above);
                return Ok(());
            }
        };
        let entered = self.enter(&sub)?;
        match entered {
            Some((dir, metadata)) => {
                self.scan(&sub.tree, &json, dir, Some(sub.meta).filter(|_| metadata), &sub.paths)
            }
            None => {
                self.path.truncate(above);
                Ok(())
            }
        }
    }

    fn enter(&mut self, sub: &Sub) -> Result<Option<(Option<S::Dir>, bool)>> {
        let parent = self.stack.last().and_then(|frame| frame.dir.clone());
        let wanted = Wanted { meta: &sub.meta, size: 0, device: 0 };
        let decided = if sub.paths.whole {
            self.walk.choose(parent.as_ref(), &sub.name, wanted)
        } else {
            self.above(parent.as_ref(), sub)?
        };
        let (name, action) = match decided {
            Ok(decided) => decided,
            Err(error) => {
                stat_failed(self.walk, self.visitor, &self.path, error)?;
                return Ok(None);
            }
        };
        let step = Step { dir: parent.as_ref(), name, action, path: &self.path, meta: &sub.meta };
        match self.visitor.enter(step)? {
            Entered::Here(dir, metadata) => Ok(Some((dir, metadata))),
            Entered::Out => Ok(None),
        }
    }

    /// A directory above what is wanted: what stands there is not ours to change.
    fn above(&self, parent: Option<&S::Dir>, sub: &Sub) -> Result<io::Result<Chosen>> {
        let found = match self.walk.stat(parent, &sub.name) {
            Ok(found) => found,
            Err(error) => return Err(at("look at", &self.path)(error)),
        };
        let action = match &found {
            None => Action::Make,
            Some(found) if found.kind == NodeKind::Directory => {
                Action::Merge { metadata: self.walk.rules.again && is_ours(&sub.meta, found) }
            }
            Some(_) => return Err(SessionRestoreError::PathBlocked { path: self.path.clone() }),
        };
        Ok(Ok((sub.name.clone(), action)))
    }

    /// Reads a tree: its directories wait, everything else goes to the visitor.
    fn scan(
        &mut self,
        tree: &Id,
        json: &[u8],
        dir: Option<S::Dir>,
        meta: Option<Meta>,
        paths: &Arc<Paths>,
    ) -> Result<()> {
        let (walk, above) = (self.walk, self.path.len());
        let delete = walk.rules.delete && paths.whole && dir.is_some();
        let (mut subs, mut names, mut outcome) = (Vec::new(), HashSet::new(), Ok(()));
        let mut unseen: HashSet<&Vec<u8>> = paths.names().collect();
        let read = read_tree(tree, json, &mut |mut node| {
            let Some(below) = paths.below(&node.name) else { return true };
            unseen.remove(&node.name);
            if delete {
                names.insert(node.name.clone());
            }
            self.path.push(b'/');
            self.path.extend_from_slice(&node.name);
            let meta = Meta::take(&mut node);
            outcome = match node.subtree {
                Some(tree) => {
                    subs.push(Sub { name: node.name, tree, meta, paths: below });
                    Ok(())
                }
                // Nothing is below it.
                None if !below.whole => Err(SessionRestoreError::NoSuchPath { path: self.path.clone() }),
                None => object(walk, self.visitor, dir.as_ref(), (node, meta), &self.path),
            };
            self.path.truncate(above);
            if outcome.is_ok() && self.visitor.cancelled() {
                outcome = Err(SessionRestoreError::Cancelled);
            }
            self.objects += 1;
            let many = [
                ("the number of objects", self.objects, walk.objects_max),
                ("the number of directories at hand", (self.waiting + subs.len()) as u64, WAITING_MAX),
            ];
            if let Some((what, _, limit)) = many.into_iter().find(|(_, count, limit)| count > limit) {
                outcome = Err(SessionRestoreError::Limit { what, limit, path: self.path.clone() });
            }
            outcome.is_ok()
        });
        outcome?;
        match read {
            Err(error) => self.failed("directory", chain(&error), None)?,
            Ok(()) => {
                if let Some(name) = unseen.into_iter().next() {
                    let path = [self.path.as_slice(), b"/", name].concat();
                    return Err(SessionRestoreError::NoSuchPath { path });
                }
                // Only where the session's own list was read to its end.
                if let Some(dir) = dir.as_ref().filter(|_| delete) {
                    self.extras(dir, &names)?;
                }
            }
        }
        self.waiting += subs.len();
        subs.reverse();
        self.stack.push(Frame { dir, meta, path: self.path.len(), subs });
        Ok(())
    }

    fn extras(&mut self, dir: &S::Dir, names: &HashSet<Vec<u8>>) -> Result<()> {
        let Some((standing, _)) = &self.walk.standing else { return Ok(()) };
        let own =
            |name: &[u8]| self.walk.own_prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
        let mut extras = Vec::new();
        let listed = standing.list(dir, &mut |name| {
            if !names.contains(name) && !own(name) {
                extras.push(name.to_vec());
            }
        });
        match listed {
            // One that the plan sees and that is no longer there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(at("list", &self.path))?,
        }
        extras.sort();
        extras.iter().try_for_each(|name| self.visitor.extra(dir, name, &self.path))
    }
}

/// A name and what is done there.
type Chosen = (Vec<u8>, Action);

fn object<S: Standing>(
    walk: &Walk<'_, S>,
    visitor: &mut dyn Visitor<S::Dir>,
    dir: Option<&S::Dir>,
    (node, meta): (Node, Meta),
    path: &[u8],
) -> Result<()> {
    let wanted = Wanted { meta: &meta, size: node.size, device: node.device };
    match walk.choose(dir, &node.name, wanted) {
        Ok((name, action)) => {
            visitor.object(Step { dir, name, action, path, meta: &meta }, node, meta.clone())
        }
        Err(error) => stat_failed(walk, visitor, path, error),
    }
}

fn stat_failed<S: Standing>(
    walk: &Walk<'_, S>,
    visitor: &mut dyn Visitor<S::Dir>,
    path: &[u8],
    error: io::Error,
) -> Result<()> {
    if walk.standing.as_ref().is_some_and(|(standing, _)| standing.is_fatal(&error)) {
        return Err(at("look at", path)(error));
    }
    let (reason, errno) = (error.to_string(), error.raw_os_error());
    visitor.failed(Listed { path: path.to_vec(), what: "name", reason, errno })
}

impl<S: Standing> Walk<'_, S> {
    fn stat(&self, dir: Option<&S::Dir>, name: &[u8]) -> io::Result<Option<Found>> {
        match (&self.standing, dir) {
            (Some((standing, _)), Some(dir)) => standing.stat(dir, name),
            _ => Ok(None),
        }
    }

    /// Decides about a name, and about the next ones while it has to be another.
    fn choose(&self, dir: Option<&S::Dir>, name: &[u8], wanted: Wanted<'_>) -> io::Result<Chosen> {
        let found = self.stat(dir, name)?;
        let action = decide(wanted, found.as_ref(), self.rules);
        if action != Action::Rename {
            return Ok((name.to_vec(), action));
        }
        for n in 1..=NAMES_MAX {
            let other = other_name(name, n);
            let Some(found) = self.stat(dir, &other)? else { return Ok((other, Action::Rename)) };
            let directory = wanted.meta.kind == NodeKind::Directory && found.kind == NodeKind::Directory;
            if self.rules.again && directory && is_ours(wanted.meta, &found) {
                return Ok((other, Action::Merge { metadata: true }));
            }
            if self.rules.half_made && wanted.meta.kind == NodeKind::File && is_half_made(&found) {
                return Ok((other, Action::Replace));
            }
            if self.rules.again && !directory && is_whole(wanted, &found) {
                return Ok((other, Action::Whole));
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}
