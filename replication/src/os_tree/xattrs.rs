//! Extended attributes, ACLs and file capabilities among them.
//!
//! They are reached through `/proc/self/fd`, the one way that works for every kind of node (links, pipes and devices
//! cannot be opened for it) and never follows a link.
//!
//! Labels of security modules (`security.*` but for capabilities) belong to the policy of the host they are on: they
//! are neither listed nor removed here, and set only when asked for.

use super::lift::magic_path;
use journal::Xattrs;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";

/// A buffer for most; whoever needs more is asked for the size.
const BUFFER_BYTES: usize = 1024;

/// The whole set, sorted by name; empty where the file system has none.
pub(super) fn get(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    let path = magic_path(fd);
    let mut found = Xattrs::new();
    for name in names(&path)? {
        // One that vanished since the listing is no error.
        if let Some(value) = value(&path, &name)? {
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the set equal to `wanted`. Does all it can; the first refusal is returned afterwards.
pub(super) fn set(fd: BorrowedFd<'_>, wanted: &Xattrs) -> io::Result<()> {
    let now = get(fd)?;
    let path = magic_path(fd);
    let mut outcome: io::Result<()> = Ok(());
    for (name, _) in &now {
        if !wanted.iter().any(|(other, _)| other == name) {
            outcome = outcome.and(remove(&path, name));
        }
    }
    // An access ACL goes last, because it is the owner's mode bits too and may take away the right to set the others.
    let (acls, others): (Vec<_>, Vec<_>) =
        wanted.iter().filter(|pair| !now.contains(pair)).partition(|(name, _)| name == ACL_ACCESS);
    for (name, value) in others.into_iter().chain(acls) {
        let set = rustix::fs::setxattr(&path, name.as_slice(), value, XattrFlags::empty());
        outcome = outcome.and(set.map_err(io::Error::from));
    }
    outcome
}

/// The file's capabilities, raw.
pub(super) fn capability(fd: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    value(&magic_path(fd), CAPABILITY)
}

/// Sets the file's capabilities.
pub(super) fn set_capability(fd: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::setxattr(magic_path(fd), CAPABILITY, value, XattrFlags::empty())?)
}

/// Whether what is made in this directory inherits an ACL.
pub(super) fn has_default_acl(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let mut nothing = [0_u8; 0];
    match rustix::fs::fgetxattr(dir, ACL_DEFAULT, &mut nothing[..]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Removes both ACLs.
pub(super) fn remove_acls(fd: BorrowedFd<'_>) -> io::Result<()> {
    let path = magic_path(fd);
    remove(&path, ACL_ACCESS)?;
    // Only a directory can have one; others answer EACCES.
    if rustix::fs::fstat(fd)?.st_mode & 0o170_000 == 0o040_000 { remove(&path, ACL_DEFAULT) } else { Ok(()) }
}

fn remove(path: &str, name: &[u8]) -> io::Result<()> {
    match rustix::fs::removexattr(path, name) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn is_ours(name: &[u8]) -> bool {
    !name.starts_with(b"security.") || name == CAPABILITY
}

fn names(path: &str) -> io::Result<Vec<Vec<u8>>> {
    let list = match sized(|buffer| rustix::fs::listxattr(path, buffer), || rustix::fs::listxattr_query(path))
    {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_ours(name));
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn value(path: &str, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let get = |buffer: &mut [u8]| rustix::fs::getxattr(path, name, buffer);
    match sized(get, || rustix::fs::getxattr_query(path, name)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Reads something whose size is not known and may change between asking and reading.
fn sized(
    read: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    query: impl Fn() -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match read(&mut buffer) {
            Ok(bytes) => {
                buffer.truncate(bytes);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => buffer.resize(query()?.max(buffer.len() * 2), 0),
            Err(e) => return Err(e),
        }
    }
}
