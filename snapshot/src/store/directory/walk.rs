//! The walk over a directory store: every regular file below a directory whose name is an object's.
//!
//! One open directory a level, at most [`NAME_PARTS_MAX`] of them, so memory does not grow with the store. What has a
//! name that no object can have is passed over; unfinished files of ours that are a day old are removed on the way,
//! since this is the only place that meets them. Whoever wrote one for longer than that fails when it renames, and the
//! object is absent.

use super::super::cause::{Cause, failed};
use super::super::name::{NAME_BYTES_MAX, NAME_PARTS_MAX, is_part};
use super::super::{Entry, StoreError, StoreErrorKind};
use super::{ABANDONED_AFTER, is_unfinished, system};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// A directory being read, and the length of its name within the path.
struct Level {
    directory: OwnedFd,
    entries: Dir,
    path_length: usize,
}

/// Calls `each` for every object below an open directory called `name`.
pub(super) fn walk(
    directory: OwnedFd,
    name: &str,
    each: &mut dyn FnMut(Entry) -> bool,
) -> Result<(), StoreError> {
    let mut path = name.to_owned();
    let mut levels = vec![level(directory, &path)?];
    while let Some(top) = levels.last_mut() {
        path.truncate(top.path_length);
        let entry = match top.entries.read() {
            None => {
                levels.pop();
                continue;
            }
            Some(entry) => entry.map_err(|errno| system("list", &path, errno))?,
        };
        let part = entry.file_name().to_bytes();
        if is_unfinished(part) {
            remove_abandoned(&top.directory, part);
            continue;
        }
        let (true, Ok(part)) = (is_part(part), std::str::from_utf8(part)) else { continue };
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
        match look(&top.directory, part, &path)? {
            Found::Nothing => {}
            Found::Object(entry) => {
                if !each(entry) {
                    return Ok(());
                }
            }
            Found::Directory(below) => levels.push(level(below, &path)?),
        }
    }
    Ok(())
}

/// What an entry is to a listing.
enum Found {
    Nothing,
    Object(Entry),
    Directory(OwnedFd),
}

fn look(directory: &OwnedFd, part: &str, path: &str) -> Result<Found, StoreError> {
    let stat = match rustix::fs::statat(directory, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // Removed since the directory was read.
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        Err(errno) => return Err(system("list", path, errno)),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if path.len() <= NAME_BYTES_MAX => Ok(Found::Object(to_entry(path, &stat))),
        // A link to a directory is followed as when an object in it is opened; any other is no object.
        FileType::Directory | FileType::Symlink => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat(directory, part, flags, Mode::empty()) {
                Ok(below) if path.split('/').count() < NAME_PARTS_MAX => Ok(Found::Directory(below)),
                Ok(_) => {
                    let cause = Cause::TooDeep { parts_max: NAME_PARTS_MAX };
                    Err(failed("list", path, StoreErrorKind::Other, cause))
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Found::Nothing),
                // A directory that we may not read may hold objects: passing it over could make a prune believe that
                // they are gone. (`lost+found` is no object's name.)
                Err(errno) => Err(system("list", path, errno)),
            }
        }
        _ => Ok(Found::Nothing),
    }
}

fn level(directory: OwnedFd, path: &str) -> Result<Level, StoreError> {
    let entries = Dir::read_from(&directory).map_err(|errno| system("list", path, errno))?;
    Ok(Level { directory, entries, path_length: path.len() })
}

fn to_entry(path: &str, stat: &Stat) -> Entry {
    Entry {
        name: path.to_owned(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Some(stat.st_mtime),
    }
}

/// Removes an unfinished file if no living writer can own it. That it cannot be removed (a reader without rights to
/// write, for instance) is nobody's failure.
fn remove_abandoned(directory: &OwnedFd, name: &[u8]) {
    let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let written = std::time::Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    if now.saturating_sub(written) > ABANDONED_AFTER {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
    }
}
