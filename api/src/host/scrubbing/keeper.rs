//! Where it is kept how far a scrub is, for the daemon that comes after this one.
//!
//! A file that is replaced as a whole and not synced: it proves nothing, and a scrub that finds none, or half of one, begins
//! at the beginning. So nothing that goes wrong here ends a scrub; it is said once in the daemon's log.

use crate::store::make_private;
use replication::replica::SCRUB_CURSOR_MAX;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The file of one scenario, in the hands of one job.
pub(super) struct Keeper {
    path: PathBuf,
    /// What is no job never comes again.
    in_use: bool,
    /// That it cannot be written has been said.
    said: AtomicBool,
}

impl Keeper {
    pub(super) fn new(place: &Path, job: Option<u64>) -> Self {
        let path = place.join("cursor");
        Keeper { path, in_use: job.is_some(), said: AtomicBool::new(false) }
    }

    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// What the last one that was kept says; whose it is, it says itself.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        if !self.in_use {
            return None;
        }
        let mut bytes = Vec::new();
        let most = SCRUB_CURSOR_MAX as u64 + 1;
        let read = File::open(&self.path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        match read {
            Ok(_) => Some(bytes),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(path = %self.path.display(), %error, "how far a scrub was cannot be read: it begins anew");
                }
                None
            }
        }
    }

    pub(super) fn keep(&self, cursor: &[u8]) {
        if !self.in_use {
            return;
        }
        if let Err(error) = self.write(cursor) {
            let _ = std::fs::remove_file(self.unfinished());
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    path = %self.path.display(),
                    %error,
                    "how far a scrub is cannot be kept: after an end of the daemon it begins anew, or further back"
                );
            }
        }
    }

    fn write(&self, cursor: &[u8]) -> io::Result<()> {
        if let Some(place) = self.path.parent().filter(|place| !place.exists()) {
            make_private(place).map_err(io::Error::other)?;
        }
        std::fs::write(self.unfinished(), cursor)?;
        std::fs::rename(self.unfinished(), &self.path)
    }

    pub(super) fn remove(&self) {
        for path in [self.unfinished(), self.path.clone()] {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "what a scrub that has ended kept is left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_last_is_read_and_what_is_too_long_is_cut() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().join("scrub/docs");
        let keeper = Keeper::new(&place, Some(7));
        assert_eq!(keeper.read(), None);
        for bytes in [&b"first"[..], b"second"] {
            keeper.keep(bytes);
            assert_eq!(Keeper::new(&place, Some(7)).read().as_deref(), Some(bytes));
        }
        assert_eq!(Keeper::new(&place, None).read(), None, "what is no job does not come again");
        File::create(place.join("cursor")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(keeper.read().map(|bytes| bytes.len()), Some(SCRUB_CURSOR_MAX + 1));
        std::fs::write(place.join("cursor.new"), b"half").unwrap();
        keeper.remove();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_ends_nothing() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let keeper = Keeper::new(&file.join("docs"), Some(7));
        keeper.keep(b"first");
        keeper.keep(b"second");
        assert!(keeper.read().is_none());
        keeper.remove();
    }
}
