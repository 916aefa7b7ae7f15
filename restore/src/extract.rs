//! Writing a point into an empty directory, while replication goes on.
//!
//! One thread walks the view and makes directories; others write files, each under a temporary name in its own
//! directory, and rename it when bytes and metadata are complete: under its own name a file is whole. Directories get
//! their metadata when everything in them is there. The marker (below) is synced before the first file, and everything
//! before it goes: a power cut in between leaves a directory that says it is unfinished, in which no name counts. Reading is exact whatever apply does meanwhile (`journal::view`).
//!
//! The directory is a `TreeIo`, so every call names an open directory and one component: no name of the tree, however
//! hostile, leads outside, and paths may be of any length. It is also where what cannot be set for lack of privilege
//! is told apart from what fails: the first is listed and the rest goes on.
//!
//! While it is unfinished the directory holds a marker, `.rewind-unfinished-TOKEN`. A directory that is not empty is
//! refused, but for one with the marker of the same call: that one is emptied and written anew. So a daemon that was
//! restarted can finish what it began, and never empties what is not its own.
//!
//! Memory: open directories, a bounded queue of files, the names that changed since the point, and one path for each
//! file of several names until all of them were made.

mod links;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use crate::error::RestoreError;
use crate::monitor::Monitor;
use crate::scope::{Area, PathFilter, Scope};
use journal::view::View;
use journal::view::{Places, join};
use journal::{Name, RootNo, TreeIo};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use walk::Walker;
use write::Shared;

/// Where a root goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootLayout {
    /// The root.
    pub root: RootNo,
    /// The directory inside the target that becomes the root; `None`: the target itself.
    pub into: Option<Name>,
}

/// An extraction wanted.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Where the roots go; see [`layout`].
    pub roots: Vec<RootLayout>,
    /// Only these paths and what is below them; empty: everything. Directories above them are made, too.
    pub paths: Vec<PathFilter>,
    /// What the target is called in messages.
    pub directory: PathBuf,
    /// Tells this extraction from all others: letters, digits, dashes; at most 200 of them.
    pub token: String,
    /// The same call was made before and interrupted.
    pub again: bool,
    /// Threads that write files, at least 1.
    pub writers: usize,
}

/// Something that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Path within the target.
    pub path: Vec<u8>,
    /// What of it.
    pub what: &'static str,
    /// Why, as an error number.
    pub errno: i32,
}

/// How an extraction went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Regular files.
    pub files: u64,
    /// Directories, roots included.
    pub directories: u64,
    /// Links, pipes, sockets, devices.
    pub others: u64,
    /// Further names of files.
    pub links: u64,
    /// Bytes written; zeros are holes and not counted.
    pub bytes_written: u64,
    /// The first of what could not be kept.
    pub skipped: Vec<Skipped>,
    /// All of what could not be kept.
    pub skipped_count: u64,
}

/// Where roots go: a single one becomes the directory itself; several become directories in it, named like the last
/// component of their paths (`root-N` where it has none). Names that occur twice get the root's number behind a dot.
#[must_use]
pub fn layout(roots: &[(RootNo, &Path)]) -> Vec<RootLayout> {
    use std::os::unix::ffi::OsStrExt;
    if let [(root, _)] = roots {
        return vec![RootLayout { root: *root, into: None }];
    }
    let mut taken = BTreeSet::new();
    let mut layout = Vec::new();
    for (root, path) in roots {
        let base = path
            .file_name()
            .map_or_else(|| format!("root-{}", root.0).into_bytes(), |n| n.as_bytes().to_vec());
        let mut name = base.clone();
        while !taken.insert(name.clone()) {
            let room = base.get(..base.len().min(240)).unwrap_or_default();
            name =
                [room, format!(".{}", root.0).as_bytes(), if name == base { b"".as_slice() } else { b"_" }]
                    .concat();
            if name.len() > 255 {
                break;
            }
        }
        layout.push(RootLayout { root: *root, into: Name::new(&name) });
    }
    layout
}

/// Writes the tree as `view` shows it into `target`, whose root 0 is the directory and whose kept area is not used.
/// Returns when it is durable.
///
/// # Errors
/// `NotEmpty`, `NoSuchPath`, `Target`, `Cancelled`, and as the view. What was written stays, with the marker:
/// call again, or [`discard_unfinished`].
pub fn extract<T: TreeIo, D: TreeIo>(
    view: &View<T>,
    target: &D,
    options: &ExtractOptions,
    monitor: &dyn Monitor,
) -> Result<ExtractReport, RestoreError> {
    let scope = Scope::new(&options.paths);
    check_paths(view, &scope)?;
    let top = target.root(RootNo(0)).map_err(at("open", b""))?;
    let marker = marker(&options.token);
    prepare(target, &top, &marker, options)?;
    let shared = Shared::new(target, monitor);
    std::thread::scope(|threads| {
        let (jobs, receiver) = std::sync::mpsc::sync_channel(write::QUEUE_MAX);
        let receiver = parking_lot::Mutex::new(receiver);
        let receiver = std::sync::Arc::new(receiver);
        for _ in 0..options.writers.max(1) {
            let (shared, receiver) = (&shared, std::sync::Arc::clone(&receiver));
            threads.spawn(move || write::work(view, shared, &receiver));
        }
        drop(receiver);
        // The walker owns the sender: writers end when it does.
        Walker::new(view, &shared, jobs, &scope).run(options, &top)
    })?;
    if let Some(failure) = shared.failed() {
        return Err(failure);
    }
    sync(target)?;
    // From here on it is whole. The marker goes before the last times are set, since its going changes one.
    target.unlink(&top, &marker).map_err(at("remove the marker in", b""))?;
    walk::finish_top(view, &shared, &top, &options.roots)?;
    sync(target)?;
    Ok(shared.into_report())
}

/// Empties a directory that [`extract`] left unfinished under this token. Does nothing to any other.
///
/// # Errors
/// `Target`.
pub fn discard_unfinished<D: TreeIo>(target: &D, token: &str) -> Result<(), RestoreError> {
    let top = target.root(RootNo(0)).map_err(at("open", b""))?;
    let marker = marker(token);
    if target.stat(&top, &marker).map_err(at("stat the marker in", b""))?.is_some() {
        clear(target, &top, Some(&marker))?;
        target.unlink(&top, &marker).map_err(at("remove the marker in", b""))?;
    }
    Ok(())
}

fn check_paths<T: TreeIo>(view: &View<T>, scope: &Scope) -> Result<(), RestoreError> {
    let places = Places::new(view);
    let area = Area::new(&places, scope).map_err(RestoreError::journal("look for the paths"))?;
    for (filter, top) in scope.filters().iter().zip(area.tops()) {
        if top.node.is_none() {
            return Err(RestoreError::NoSuchPath { path: filter.path() });
        }
    }
    Ok(())
}

/// The marker's name. Characters that a token should not have are replaced, so it always is one.
fn marker(token: &str) -> Name {
    let safe: String = token
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(200)
        .collect();
    Name::new(format!(".rewind-unfinished-{safe}").as_bytes())
        .unwrap_or_else(|| journal::NodeId(0).kept_name())
}

fn prepare<D: TreeIo>(
    target: &D,
    top: &D::Dir,
    marker: &Name,
    options: &ExtractOptions,
) -> Result<(), RestoreError> {
    let names = target.list(top).map_err(at("list", b""))?;
    if names.is_empty() {
        target.create_file(top, marker).map_err(at("create the marker in", b""))?;
        return sync(target);
    }
    if !options.again || !names.contains(marker) {
        return Err(RestoreError::NotEmpty { path: options.directory.clone() });
    }
    clear(target, top, Some(marker))
}

/// Removes everything below a directory but `keep`. Depth is not limited by memory nor by open files: the walk goes
/// down to a directory without directories each time it has emptied one.
fn clear<D: TreeIo>(target: &D, top: &D::Dir, keep: Option<&Name>) -> Result<(), RestoreError> {
    loop {
        let mut dir = top.clone();
        let mut path = Vec::new();
        let mut above: Option<(D::Dir, Name)> = None;
        loop {
            let mut down = None;
            for name in target.list(&dir).map_err(at("list", &path))? {
                if above.is_none() && keep == Some(&name) {
                    continue;
                }
                let entry = join(&path, name.as_bytes());
                match target.stat(&dir, &name).map_err(at("stat", &entry))? {
                    Some(stat) if stat.kind.is_directory() => down = Some(name),
                    Some(_) => target.unlink(&dir, &name).map_err(at("remove", &entry))?,
                    None => {}
                }
            }
            let Some(name) = down else { break };
            path = join(&path, name.as_bytes());
            let below = target.open_dir(&dir, &name).map_err(at("open", &path))?;
            above = Some((std::mem::replace(&mut dir, below), name));
        }
        let Some((parent, name)) = above else { return Ok(()) };
        target.remove_dir(&parent, &name).map_err(at("remove", &path))?;
    }
}

fn sync<D: TreeIo>(target: &D) -> Result<(), RestoreError> {
    target.sync().map_err(at("sync", b""))
}

/// An error of the target at a path.
fn at<'p>(operation: &'static str, path: &'p [u8]) -> impl Fn(io::Error) -> RestoreError + use<'p> {
    move |source| RestoreError::Target { operation, path: path.to_vec(), source }
}
