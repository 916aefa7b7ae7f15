//! A sync that fails, as the kernel has it: told once, to whoever asks first.

use super::*;

/// No file system has it.
const NOWHERE: u64 = u64::MAX;

impl Target {
    /// A sync fails as often as `work` asks for one, and afterwards the kernel would say that all is well.
    pub(in crate::session) fn while_syncs_fail<R>(&self, work: impl FnOnce() -> R) -> R {
        // The kernel syncs by no descriptor that is a place only.
        let place = rustix::fs::openat(&*self.top_fd, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        self.file_systems.lock().insert(NOWHERE, Arc::new(place.unwrap()));
        let done = work();
        self.file_systems.lock().remove(&NOWHERE);
        done
    }
}

#[test]
fn a_sync_that_failed_once_fails_for_good() {
    let place = tempfile::tempdir().unwrap();
    let target = Target::open(place.path()).unwrap().unwrap();
    target.sync().unwrap();
    let first = target.while_syncs_fail(|| target.sync().unwrap_err());
    assert_eq!(Errno::from_io_error(&first), Some(Errno::BADF));
    // Also for other threads: those that did not ask first.
    for _ in 0..2 {
        let later = std::thread::scope(|scope| scope.spawn(|| target.sync()).join().unwrap()).unwrap_err();
        assert_eq!(later.to_string(), "an earlier sync of the target failed");
    }
    // It is about what was written by then, not about the place.
    Target::open(place.path()).unwrap().unwrap().sync().unwrap();
}
