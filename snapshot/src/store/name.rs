//! Names of objects: what every store can hold, and nothing else.
//!
//! Letters, digits, `-`, `_`, `.`, and `/` between parts. Such a name means the same in a directory, in an URL and in an
//! object store's key: nothing is escaped anywhere, nothing can leave the root, and no two names fall together but on
//! file systems that ignore case (the repository's names are lower case). A part never begins with a dot, so a name of
//! an unfinished file of ours is never an object's, and neither is `.` or `..`.

use super::cause::{Cause, failed};
use super::{StoreError, StoreErrorKind};

/// Parts of a name at most; also how deep a listing looks.
pub const NAME_PARTS_MAX: usize = 16;
/// Bytes of a name at most.
pub const NAME_BYTES_MAX: usize = 512;
/// Bytes of one part at most: below the 255 of file systems.
const PART_BYTES_MAX: usize = 200;

/// Whether `part` can stand between slashes.
pub(crate) fn is_part(part: &[u8]) -> bool {
    !part.is_empty()
        && part.len() <= PART_BYTES_MAX
        && part.first() != Some(&b'.')
        && part.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether `name` can be the name of an object.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.split('/').count() <= NAME_PARTS_MAX
        && name.split('/').all(|part| is_part(part.as_bytes()))
}

/// Refuses what is not the name of an object.
pub(crate) fn check_name(operation: &'static str, name: &str) -> Result<(), StoreError> {
    if is_name(name) { Ok(()) } else { Err(bad_name(operation, name)) }
}

/// Refuses what is neither a directory's name nor empty.
pub(crate) fn check_directory(operation: &'static str, name: &str) -> Result<(), StoreError> {
    if name.is_empty() || is_name(name) { Ok(()) } else { Err(bad_name(operation, name)) }
}

/// Sixteen random hexadecimal digits, for a name that nobody else uses.
pub(crate) fn random_digits() -> std::io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(format!("{:016x}", u64::from_le_bytes(random)))
}

/// Directory and last part of a name.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

fn bad_name(operation: &'static str, name: &str) -> StoreError {
    let cause = Cause::BadName { parts_max: NAME_PARTS_MAX, bytes_max: NAME_BYTES_MAX };
    failed(operation, name, StoreErrorKind::Other, cause)
}

#[cfg(test)]
mod tests;
