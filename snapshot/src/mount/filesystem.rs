//! What the kernel calls: each request goes through the [`Door`] to the thread that has the view.

use super::server::Server;
use fuser::{
    Errno, FileHandle, FopenFlags, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr, Request,
};
use journal::TreeIo;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Requests that wait; the kernel's queue holds the rest.
const QUEUE_MAX: usize = 64;

/// A request: what to answer and how.
pub(super) type Answer<T> = Box<dyn for<'v> FnOnce(&mut Server<'v, T>) + Send>;

/// The way to the thread that has the view, until it is closed.
pub(super) struct Door<T: TreeIo>(Mutex<Option<SyncSender<Answer<T>>>>);

impl<T: TreeIo> Door<T> {
    pub fn new() -> (Self, Receiver<Answer<T>>) {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        (Door(Mutex::new(Some(sender))), receiver)
    }

    /// Lets nobody in any more. What is in is answered.
    pub fn close(&self) {
        drop(self.0.lock().take());
    }

    /// Hands a request in; false if the door is closed. The request is dropped then, and its reply with it, which the
    /// kernel is told as an error of the device.
    fn ask(&self, answer: Answer<T>) {
        let sender = self.0.lock().clone();
        if let Some(sender) = sender {
            // The receiver lives as long as any sender.
            let _ = sender.send(answer);
        }
    }
}

/// The file system, for the kernel.
pub(super) struct Filesystem<T: TreeIo>(Arc<Door<T>>);

impl<T: TreeIo> Filesystem<T> {
    pub fn new(door: Arc<Door<T>>) -> Self {
        Filesystem(door)
    }
}

impl<T: TreeIo> fuser::Filesystem for Filesystem<T> {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        self.0.ask(Box::new(move |server| match server.lookup(parent.0, &name) {
            Ok(attr) => reply.entry(&super::server::FOR_EVER, &attr, fuser::Generation(0)),
            Err(error) => reply.error(error),
        }));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.0.ask(Box::new(move |server| match server.attr(ino.0) {
            Ok(attr) => reply.attr(&super::server::FOR_EVER, &attr),
            Err(error) => reply.error(error),
        }));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.0.ask(Box::new(move |server| match server.link_target(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.ask(Box::new(move |server| match server.read(ino.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.0.ask(Box::new(move |server| match server.open_directory(ino.0) {
            Ok(number) => reply.opened(FileHandle(number), FopenFlags::FOPEN_CACHE_DIR),
            Err(error) => reply.error(error),
        }));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        directory: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.0.ask(Box::new(move |server| {
            let full = |entry: super::listing::Listed<'_>| {
                reply.add(INodeNo(entry.inode), entry.next, entry.kind, OsStr::from_bytes(entry.name))
            };
            match server.read_directory(directory.0, offset, full) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error),
            }
        }));
    }

    fn releasedir(&self, _: &Request, _: INodeNo, directory: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.ask(Box::new(move |server| {
            server.close_directory(directory.0);
            reply.ok();
        }));
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        self.0.ask(Box::new(move |server| give(server.xattr(ino.0, &name), size, reply)));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.0.ask(Box::new(move |server| give(server.xattr_names(ino.0), size, reply)));
    }
}

/// Who asks with no room wants to know how much is needed.
fn give(value: Result<Vec<u8>, Errno>, room: u32, reply: ReplyXattr) {
    match value {
        Err(error) => reply.error(error),
        Ok(value) if room == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() <= room as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::ERANGE),
    }
}
