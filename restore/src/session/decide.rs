//! What to do about one object, given what stands at its name. Pure: it looks at nothing but its arguments.

use super::IfExists;
use super::meta::Meta;
use super::target::{Found, is_unfinished};
use snapshot::repository::NodeKind;

/// The session's side of a decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'n> {
    pub meta: &'n Meta,
    /// Bytes of a file.
    pub size: u64,
    /// Device number of a device.
    pub device: u64,
}

/// What is done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is made; nothing stands there.
    Make,
    /// It is made in the place of what stands there, which is no directory.
    Replace,
    /// It is made in the place of a directory, which goes with all that is in it.
    ReplaceDirectory,
    /// A directory is there already; whether it gets the session's metadata.
    Merge { metadata: bool },
    /// An earlier run of the same restore has made it.
    Whole,
    /// What stands there stays.
    Skip,
    /// It is made under another name.
    Rename,
    /// What stands there forbids the restore.
    Conflict,
    /// A directory stands where something else should.
    InTheWay,
}

/// The rules of a restore.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub if_exists: IfExists,
    /// What the session does not hold is removed.
    pub delete: bool,
    /// An earlier run of the same restore did not end.
    pub again: bool,
    /// What a replica's run that did not end has half made is made whole, whatever the rule.
    pub half_made: bool,
}

/// Decides about an object.
pub(super) fn decide(wanted: Wanted<'_>, found: Option<&Found>, rules: Rules) -> Action {
    let Some(found) = found else { return Action::Make };
    let directory = wanted.meta.kind == NodeKind::Directory;
    if directory && found.kind == NodeKind::Directory {
        let metadata = rules.if_exists == IfExists::Overwrite || (rules.again && is_ours(wanted.meta, found));
        return Action::Merge { metadata };
    }
    if rules.half_made && wanted.meta.kind == NodeKind::File && is_half_made(found) {
        return Action::Replace;
    }
    if rules.again && !directory && is_whole(wanted, found) {
        return Action::Whole;
    }
    let replace = match (found.kind, directory) {
        (NodeKind::Directory, _) if rules.delete => Action::ReplaceDirectory,
        (NodeKind::Directory, _) => Action::InTheWay,
        _ => Action::Replace,
    };
    match rules.if_exists {
        IfExists::Overwrite => replace,
        IfExists::Newer if wanted.meta.modified > found.modified => replace,
        IfExists::Newer | IfExists::Skip => Action::Skip,
        IfExists::Rename => Action::Rename,
        IfExists::Fail => Action::Conflict,
    }
}

/// Whether a directory was made by a restore that did not end, or is like the session's in all that shows. Setting
/// its metadata is then what was begun, or changes nothing but what we ourselves do to its times.
pub(super) fn is_ours(wanted: &Meta, found: &Found) -> bool {
    // Bits that were withheld do not count.
    let same_mode = (found.mode ^ wanted.mode) & 0o1777 == 0;
    is_unfinished(found.mode) || (same_mode && found.modified == wanted.modified)
}

/// Mode and time of a file in a replica's tree that does not have all its bytes yet: nobody chooses both.
pub(super) const HALF_MADE_MODE: u32 = 0o1600;
pub(super) const HALF_MADE_TIME: i64 = 0;

/// Whether a file is one that a restore onto a replica began and did not end: made by a local change, with the mode and
/// the time of such.
pub(super) fn is_half_made(found: &Found) -> bool {
    let time = snapshot::repository::Timestamp { seconds: HALF_MADE_TIME, nanoseconds: 0 };
    let local = found.identity.1 >> 63 == 1;
    local && found.kind == NodeKind::File && found.mode == HALF_MADE_MODE && found.modified == time
}

/// Whether what stands there is what this restore would make, as far as its stat shows.
pub(super) fn is_whole(wanted: Wanted<'_>, found: &Found) -> bool {
    let meta = wanted.meta;
    // Set-id bits may have been withheld; a file is made private first and gets its mode when it is whole.
    let mode = meta.kind == NodeKind::Symlink || (meta.mode ^ found.mode) & 0o1777 == 0;
    let of_kind = match meta.kind {
        NodeKind::File => found.size == wanted.size,
        NodeKind::CharacterDevice | NodeKind::BlockDevice => found.device == wanted.device,
        _ => true,
    };
    meta.kind == found.kind && mode && of_kind && meta.modified == found.modified
}

/// The n-th name that something is restored under if its own is taken, n from 1: at most 255 bytes.
pub(super) fn other_name(name: &[u8], n: u32) -> Vec<u8> {
    let ending = if n == 1 { ".restored".to_owned() } else { format!(".restored-{n}") };
    let room = 255 - ending.len();
    [name.get(..room).unwrap_or(name), ending.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
