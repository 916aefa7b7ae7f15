//! Taking over a replica root that is not empty, before the first synchronization.
//!
//! The tree is journaled ([`replication::adopt`]) into a new directory beside the scenario's journal, under the same
//! identity, because the replica root names the journal it belongs to. Only when all of it is durable do the two
//! directories change places, in one step of the file system; the one that goes away holds nothing. So a crash, a
//! cancellation or an error at any time leaves either an empty journal and a tree nobody has touched, and the next run
//! starts over, or an adopted one.

use super::running::master_path;
use super::scene::Scene;
use crate::definition::Definition;
use crate::engine::{EngineError, EngineResult, Interrupt, Level, Progress, RunOptions, Skipped};
use crate::store::make_private;
use journal::journal::{Clock, Journal, SystemClock, TablesFactory};
use journal::log::{Identity, LogOptions};
use journal::tables::LsmTables;
use journal::{Class, JournalError, Lsn, OsDisk, RootNo, Tables, Timestamp, TreeIo};
use replication::adopt::{AdoptError, Adopted, adopt};
use replication::os_tree::OsTree;
use replication::replica::Replica;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wire::codes;

/// Tables of the journal being written: only hard links are remembered in them.
struct Scratch(PathBuf);

impl TablesFactory for Scratch {
    fn tables(&self, fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        let failed = |source| JournalError::File { operation: "remove", path: self.0.clone(), source };
        if fresh {
            remove(&self.0).map_err(failed)?;
        }
        Ok(Arc::new(LsmTables::open(&self.0)?))
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Name of the bookmark at the tree as it was found.
fn bookmark_name(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or_default();
    format!("adopted-{}", time.strftime("%Y-%m-%dT%H-%M-%SZ"))
}

impl Scene {
    /// Sees to it that the replica can be synchronized as asked; what of an adopted tree could not be taken over.
    ///
    /// # Errors
    /// `REPLICA_NOT_EMPTY`, `NOT_REPLICATING` if there is nothing to skip; what keeps a tree from being looked at.
    pub(super) fn prepare_replica(
        self: &Arc<Self>,
        options: &RunOptions,
        progress: &dyn Progress,
    ) -> EngineResult<Vec<Skipped>> {
        let left_out = self.adopt_if_due(progress)?;
        self.check_skip(options)?;
        Ok(left_out)
    }

    /// Takes over replica roots that hold something, if nothing was ever journaled; what could not be taken over.
    /// Without `--adopt` they are refused.
    ///
    /// # Errors
    /// `REPLICA_NOT_EMPTY`; what keeps the tree from being looked at. Nothing has changed then.
    fn adopt_if_due(self: &Arc<Self>, progress: &dyn Progress) -> EngineResult<Vec<Skipped>> {
        let replica = self.replica()?;
        let definition = self.definition();
        if replica.journal().journaled() != Lsn::ZERO {
            return Ok(Vec::new());
        }
        let Some(root) = first_filled(&definition, &replica)? else { return Ok(Vec::new()) };
        if !definition.adopt {
            let message = format!("replica root {} is not empty", root.display());
            return Err(EngineError::new(&codes::REPLICA_NOT_EMPTY, message));
        }
        let directory = self.layout.journal(&format!(".{}.adopting", self.name()));
        let scratch = self.layout.tables(&format!(".{}.adopting", self.name()));
        let adopted = journal_tree(&replica, &definition, &directory, &scratch, progress);
        drop(replica);
        let adopted = adopted.and_then(|adopted| self.take_place(&directory).map(|()| adopted));
        // What an attempt leaves is removed by the next one too.
        drop((remove(&directory), remove(&scratch)));
        let adopted = adopted?;
        let Adopted { lsn, files, directories, skipped, left_out, .. } = adopted;
        let found =
            format!("{files} files and {directories} directories found, {skipped} names left out in part");
        self.note(Level::Info, &format!("the replica tree was adopted as LSN {lsn}: {found}"));
        let left_out = left_out.into_iter().map(|left| Skipped {
            path: master_path(&definition, left.root, &left.path),
            what: left.what.word(),
            error: std::io::Error::from_raw_os_error(left.errno).to_string(),
        });
        Ok(left_out.collect())
    }

    /// Whether there is a synchronization to be skipped: before the first one the replica holds nothing.
    fn check_skip(&self, options: &RunOptions) -> EngineResult<()> {
        let synchronized = self.replica()?.journal().with_controls(|controls| controls.first_point != 0);
        if synchronized || !options.skip_sync {
            return Ok(());
        }
        let message = format!("scenario \"{}\" has never been synchronized", self.name());
        Err(EngineError::new(&codes::NOT_REPLICATING, message)
            .because("Only what is on both sides already can be skipped.")
            .advise(
                "Run it without `--skip-sync`, or create it with `--adopt` over a replica that is equal.",
            ))
    }

    /// Puts the new journal in the place of the empty one.
    fn take_place(self: &Arc<Self>, new: &Path) -> EngineResult<()> {
        self.shutdown(Duration::from_secs(20));
        let place = self.layout.journal(self.name());
        let tables = self.layout.tables(self.name());
        let changed =
            remove(&tables).map_err(|error| EngineError::io("remove", &tables, error)).and_then(|()| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, &place, flags)
                    .map_err(std::io::Error::from)
                    .and_then(|()| std::fs::File::open(place.parent().unwrap_or(&place))?.sync_all())
                    .map_err(|error| {
                        EngineError::io("put the journal of the adopted tree in place of", &place, error)
                    })
            });
        self.reopen();
        changed
    }
}

/// The first replica root that holds something.
fn first_filled(definition: &Definition, replica: &Replica<OsTree>) -> EngineResult<Option<PathBuf>> {
    for (number, root) in definition.roots.iter().enumerate() {
        let path = root.replica.clone().unwrap_or_default();
        let tree = replica.tree();
        let names = tree.root(RootNo(number as u16)).and_then(|dir| tree.list(&dir));
        let names = names.map_err(|error| EngineError::io("read the replica root", &path, error))?;
        if !names.is_empty() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn journal_tree(
    replica: &Replica<OsTree>,
    definition: &Definition,
    directory: &Path,
    scratch: &Path,
    progress: &dyn Progress,
) -> EngineResult<Adopted> {
    for path in [directory, scratch] {
        remove(path).map_err(|error| EngineError::io("remove", path, error))?;
        make_private(path)?;
    }
    let identity = Some(Identity(replica.journal().id()));
    let options = LogOptions { identity, ..LogOptions::default() };
    let factory = Scratch(scratch.to_owned());
    let opened = Journal::open(Arc::new(OsDisk), directory, options, &factory, Arc::new(SystemClock))?;
    let mut watch = |objects: u64| {
        progress.report("adopt", objects, None, "objects");
        progress.interrupted().is_none()
    };
    let roots = definition.roots.len() as u16;
    let adopted = adopt(&opened.journal, &**replica.tree(), roots, &mut watch);
    let adopted = adopted.map_err(|error| refused(definition, progress, error))?;
    let time = opened.journal.journaled_time();
    let name = bookmark_name(SystemClock.now());
    opened.journal.set_bookmark(&name, adopted.lsn, Class::Fuzzy, true, time)?;
    opened.journal.set().close()?;
    Ok(adopted)
}

fn refused(definition: &Definition, progress: &dyn Progress, error: AdoptError) -> EngineError {
    let place = |root: u16| {
        let root = definition.roots.get(usize::from(root)).and_then(|root| root.replica.clone());
        root.unwrap_or_default()
    };
    match error {
        AdoptError::Journal(error) => EngineError::from(error),
        AdoptError::Tree { operation, root, path, source } => {
            let message = format!("cannot adopt {}: {operation} {path}", place(root).display());
            EngineError::new(&codes::IO, message).caused_by(source)
        }
        AdoptError::Kept { root } => {
            let message =
                format!("what was removed from {} earlier still lies beside it", place(root).display());
            EngineError::new(&codes::REPLICA_NOT_EMPTY, message)
                .because("The kept area of an earlier scenario is there; its names would clash with new ones.")
                .advise("Remove the directory `.NAME.rewind` beside the replica root, then run the scenario again.")
        }
        AdoptError::Cancelled => {
            EngineError::interrupted(progress.interrupted().unwrap_or(Interrupt::Cancelled))
        }
        other => EngineError::new(&codes::INTERNAL, "cannot adopt the replica tree").caused_by(other),
    }
}
