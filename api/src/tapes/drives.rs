//! Which job has which drive.
//!
//! A drive does one thing at a time. A job that wants one that another job has is refused at once (`TAPE_BUSY`), with the
//! other one named; work in the background gives way instead: it is told to stop, and the job waits for that. What does not
//! come through here (labels, inventories, other programs) meets the lock of the drive itself.

use crate::engine::{EngineError, EngineResult, Interrupt};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::codes;

/// Between two looks whether the job that waits was interrupted.
const LOOK: Duration = Duration::from_millis(50);

/// The drives of a daemon that are in use.
#[derive(Default)]
pub struct Drives {
    held: Mutex<BTreeMap<String, Holder>>,
    freed: Condvar,
}

struct Holder {
    what: String,
    /// Set when somebody wants the drive; `None`: the holder does not give way.
    wanted: Option<Arc<AtomicBool>>,
}

/// A drive that nobody else of this daemon uses as long as this lives.
pub struct Hold {
    drives: Arc<Drives>,
    url: String,
    wanted: Arc<AtomicBool>,
}

impl Hold {
    /// Whether a job waits for the drive.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.drives.held.lock().remove(&self.url);
        self.drives.freed.notify_all();
    }
}

impl Drives {
    /// For a job; `what` is told to others.
    ///
    /// # Errors
    /// `TAPE_BUSY`; `CANCELLED`.
    pub fn take(
        self: &Arc<Self>,
        url: &str,
        what: &str,
        interrupted: &dyn Fn() -> Option<Interrupt>,
    ) -> EngineResult<Hold> {
        let mut held = self.held.lock();
        loop {
            match held.get(url) {
                None => break,
                Some(Holder { wanted: Some(wanted), .. }) => wanted.store(true, Ordering::SeqCst),
                Some(Holder { what, .. }) => {
                    let text = format!("the drive at {url} is in use: {what}");
                    return Err(EngineError::new(&codes::TAPE_BUSY, text));
                }
            }
            if let Some(interrupt) = interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            self.freed.wait_for(&mut held, LOOK);
        }
        held.insert(url.to_owned(), Holder { what: what.to_owned(), wanted: None });
        Ok(Hold { drives: Arc::clone(self), url: url.to_owned(), wanted: Arc::default() })
    }

    /// For work in the background, which looks at [`Hold::is_wanted`] all the time; `None` if somebody has it.
    #[must_use]
    pub fn take_unless_held(self: &Arc<Self>, url: &str, what: &str) -> Option<Hold> {
        let mut held = self.held.lock();
        if held.contains_key(url) {
            return None;
        }
        let wanted = Arc::<AtomicBool>::default();
        let holder = Holder { what: what.to_owned(), wanted: Some(Arc::clone(&wanted)) };
        held.insert(url.to_owned(), holder);
        Some(Hold { drives: Arc::clone(self), url: url.to_owned(), wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "tape:///t";

    #[test]
    fn jobs_are_refused_and_the_background_gives_way() {
        let drives = Arc::<Drives>::default();
        let never = || None;
        let job = drives.take(URL, "a backup", &never).unwrap();
        let other = drives.take(URL, "another", &never).err().unwrap();
        assert_eq!(other.code().id, "RW1131");
        assert!(other.to_string().contains("a backup"), "{other}");
        assert!(drives.take_unless_held(URL, "background").is_none());
        assert!(drives.take("tape:///u", "another", &never).is_ok());
        drop(job);

        let background = drives.take_unless_held(URL, "background").unwrap();
        assert!(!background.is_wanted());
        let giving = std::thread::spawn(move || {
            while !background.is_wanted() {
                std::thread::yield_now();
            }
        });
        let job = drives.take(URL, "a backup", &never).unwrap();
        giving.join().unwrap();
        drop(job);
        // Who waits can be stopped.
        let _background = drives.take_unless_held(URL, "background").unwrap();
        let stopped = drives.take(URL, "a backup", &|| Some(Interrupt::Cancelled)).err().unwrap();
        assert_eq!(stopped.code(), &codes::CANCELLED);
    }
}
