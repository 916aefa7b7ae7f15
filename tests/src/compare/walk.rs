//! The walk over both trees at once, by several threads.
//!
//! What waits is a directory by its name and its open parent; it is opened when its turn comes, the newest first, so
//! that open descriptors grow with the depth of the trees and not with their breadth.

use super::entry::{self, Both, Buffers};
use super::{Groups, Options, Report};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{FileType, Mode, OFlags, Statx};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// A pair of directories to be compared; without a name, the parents themselves.
struct Job {
    parents: Arc<Both<OwnedFd>>,
    name: Vec<u8>,
    path: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Job>,
    busy: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    groups: [Mutex<Groups>; 2],
}

impl Shared {
    /// The next job, or `None` when none is left and none can come.
    fn take(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.waiting.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }

    fn done(&self, found: Vec<Job>) {
        let mut queue = self.queue.lock();
        queue.waiting.extend(found);
        queue.busy -= 1;
        self.changed.notify_all();
    }
}

/// Compares everything but which names share a file, which is returned for both sides.
pub(super) fn walk(a: &Path, b: &Path, options: &Options) -> io::Result<(Report, [Groups; 2])> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let tops = Arc::new(Both { a: open(a)?, b: open(b)? });
    let shared = Shared::default();
    shared.queue.lock().waiting.push(Job { parents: tops, name: Vec::new(), path: Vec::new() });

    let mut report = Report::default();
    std::thread::scope(|scope| {
        let work = || {
            let mut worker =
                Worker { shared: &shared, options, report: Report::default(), buffers: Buffers::new() };
            worker.run();
            worker.report
        };
        let threads: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            report.add(thread.join().expect("a thread that compares does not panic"), options.limit);
        }
    });
    Ok((report, shared.groups.map(Mutex::into_inner)))
}

struct Worker<'a> {
    shared: &'a Shared,
    options: &'a Options,
    report: Report,
    buffers: Buffers,
}

impl Worker<'_> {
    fn run(&mut self) {
        while let Some(job) = self.shared.take() {
            let mut found = Vec::new();
            if let Err(e) = self.directory(&job, &mut found) {
                self.report.differ(self.options.limit, &job.path, format!("cannot be compared: {e}"));
            }
            self.shared.done(found);
        }
    }

    fn directory(&mut self, job: &Job, found: &mut Vec<Job>) -> io::Result<()> {
        self.report.directories += 1;
        let dirs = if job.name.is_empty() {
            if self.options.top {
                let stats = job.parents.each(|dir| entry::stat(dir.as_fd(), b""))?;
                self.attributes(&job.path, &stats, (&job.parents, b""))?;
            }
            Arc::clone(&job.parents)
        } else {
            Arc::new(job.parents.each(|dir| entry::open(dir.as_fd(), &job.name, true))?)
        };
        let lists = dirs.each(|dir| list(dir.as_fd()))?;
        let all: BTreeSet<&Vec<u8>> = lists.a.union(&lists.b).collect();
        for name in all {
            let path = crate::canonical::join(&job.path, name);
            match (lists.a.contains(name), lists.b.contains(name)) {
                (true, false) => self.report.differ(self.options.limit, &path, "only in A"),
                (false, true) => self.report.differ(self.options.limit, &path, "only in B"),
                _ => match self.entry(&dirs, name, &path) {
                    Ok(true) => found.push(Job { parents: Arc::clone(&dirs), name: name.clone(), path }),
                    Ok(false) => {}
                    Err(e) => {
                        self.report.differ(self.options.limit, &path, format!("cannot be compared: {e}"));
                    }
                },
            }
        }
        Ok(())
    }

    /// Compares an entry of both; true if it is a directory of both.
    fn entry(&mut self, dirs: &Both<OwnedFd>, name: &[u8], path: &[u8]) -> io::Result<bool> {
        let stats = dirs.each(|dir| entry::stat(dir.as_fd(), name))?;
        let kinds = (entry::file_type(&stats.a), entry::file_type(&stats.b));
        if kinds.0 != kinds.1 {
            self.report.differ(
                self.options.limit,
                path,
                format!("is {:?} in A, {:?} in B", kinds.0, kinds.1),
            );
            return Ok(false);
        }
        self.attributes(path, &stats, (dirs, name))?;
        if kinds.0 == FileType::Directory {
            return Ok(true);
        }
        for (stat, groups) in [&stats.a, &stats.b].into_iter().zip(&self.shared.groups) {
            if stat.stx_nlink > 1 {
                let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
                groups.lock().entry((device, stat.stx_ino)).or_default().push(path.to_vec());
            }
        }
        if kinds.0 != FileType::RegularFile {
            self.report.others += 1;
            return Ok(false);
        }
        self.report.files += 1;
        if stats.a.stx_size == stats.b.stx_size && stats.a.stx_size > 0 {
            let files = dirs.each(|dir| Ok(File::from(entry::open(dir.as_fd(), name, false)?)))?;
            entry::compare_bytes(path, &stats, &files, &mut self.buffers, self.options, &mut self.report)?;
        }
        Ok(false)
    }

    fn attributes(
        &mut self,
        path: &[u8],
        stats: &Both<Statx>,
        at: (&Both<OwnedFd>, &[u8]),
    ) -> io::Result<()> {
        entry::compare_attributes(path, stats, at, self.options, &mut self.report)
    }
}

fn list(dir: BorrowedFd<'_>) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}
