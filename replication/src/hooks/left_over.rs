//! What a daemon that ended while an application was held left behind: the next one thaws first of all.
//!
//! A quiesce hook that still runs is killed before, for else it could hold the application after it was thawed. What
//! the note says is run even if the configuration has become stricter meanwhile: it was allowed when the application
//! was held, the file is the master's own, and an application that stays held is worse.

use super::{Hook, Note, Setting};
use crate::chain::chain;
use std::path::Path;
use std::time::Instant;

/// An application that was found held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOver {
    /// The scenario; empty if the note cannot be read.
    pub scenario: String,
    /// Why it may still be held: a person must look.
    pub failure: Option<String>,
}

/// Whether there is anything to thaw, which may take a while.
#[must_use]
pub fn is_any_left_over(directory: &Path) -> bool {
    Note::list(directory).is_ok_and(|notes| !notes.is_empty())
}

/// Thaws what the notes of a directory name, all at once; returns when the last thaw hook has ended, which its time
/// limit sees to. A note goes when its hook has succeeded.
#[must_use]
pub fn thaw_left_over(directory: &Path) -> Vec<LeftOver> {
    let notes = match Note::list(directory) {
        Ok(notes) => notes,
        Err(error) => {
            let failure = Some(format!("read {}: {error}", directory.display()));
            return vec![LeftOver { scenario: String::new(), failure }];
        }
    };
    std::thread::scope(|threads| {
        let running: Vec<_> = notes.iter().map(|path| threads.spawn(|| thaw(path))).collect();
        let dead = || LeftOver { scenario: String::new(), failure: Some("the thaw did not end well".into()) };
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| dead())).collect()
    })
}

fn thaw(path: &Path) -> LeftOver {
    let unread = |what: String| LeftOver { scenario: String::new(), failure: Some(what) };
    let note = match Note::read(path) {
        Ok(Some(note)) => note,
        Ok(None) => return unread(format!("{} is damaged", path.display())),
        Err(error) => return unread(format!("read {}: {error}", path.display())),
    };
    let scenario = note.scenario.clone();
    if note.quiesce.as_ref().is_some_and(|quiesce| !quiesce.kill_group()) {
        tracing::error!(scenario, "the quiesce hook of an earlier run does not die");
    }
    let setting = Setting { scenario: note.scenario, id: note.id, roots: note.roots };
    let thawed = Hook::prepare("thaw", &note.thaw, &setting).and_then(|mut hook| {
        let done = hook.run(Instant::now() + note.limit, None);
        tracing::info!(scenario, hook = "thaw", output = hook.written(), "a hook has ended");
        done
    });
    let failure = match thawed {
        Ok(()) => Note::remove(path).err().map(|error| format!("remove {}: {error}", path.display())),
        Err(error) => Some(chain(&error)),
    };
    LeftOver { scenario, failure }
}
