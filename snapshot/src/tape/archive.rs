//! A session as one POSIX pax tar stream. `archive/FORMAT.md` is normative.
//!
//! The stream is an ordinary tar: first the label, then each object under its full path on the master, in the order of a
//! depth-first walk, last the catalog. GNU tar restores it with nothing of ours. What tar has no place for (inode,
//! whole device numbers, sockets) stands in `comment` records, which every tar ignores without a word.
//!
//! **Why damage is noticed at once.** Each member's extended header ends in a comment of ours: the session, the member's
//! offset in the stream, a CRC-32C of all of the header, and the SHA-256 of the content of the member *before*. So a header is
//! proved before it is believed, and a content as soon as the next header is there: a stream that breaks off is good up
//! to the last member, without a catalog. The catalog at the end says which members there must be, so that none goes
//! missing unseen.
//!
//! **Why a reader finds its place again.** After damage it looks block by block for a header that proves itself, says this
//! session, and a greater offset. A tar inside a file does not: it is of no session, or of another one.
//!
//! **Memory** is bounded: what grows with the session (the catalog, what was seen, names of files with several names) lies
//! in scratch files that have no name.
//!
//! Refused when reading: names that are absolute, or hold empty parts, `.`, `..` or NUL; lengths beyond the limits below;
//! archives that are not ours. Nothing is allocated on the say-so of a length.

mod acl;
mod ahead;
mod carrier;
mod catalog;
mod error;
mod from_repository;
mod from_view;
mod into_repository;
mod label;
mod links;
mod member;
mod pax;
mod reader;
mod scan;
mod sparse;
mod spill;
mod trees;
mod ustar;
mod verdict;
mod writer;

pub use carrier::{BadKey, CarrierLabel, Compression, Encoder, Encoding, TapeKey};
pub use error::{ArchiveError, ArchiveErrorKind};
pub use from_repository::from_repository;
pub use from_view::from_view;
pub use into_repository::{COPIED_FROM, Held, IntoOptions, Keep, Taken, Unfit, into_repository, take, whole};
pub use label::{LabelFields, SessionLabel};
pub use member::{Member, MemberKind};
pub use reader::{Content, Flow, Proof, SessionReader, Visitor};
pub use sparse::data_of;
pub use verdict::{CatalogState, Damaged, Verdict};
pub use writer::{SessionWriter, Source, SourceFailure, Stored, Totals, Wrote};

use crate::repository::walk::{PATH_BYTES_MAX, TREE_DEPTH_MAX};

/// A block of tar.
pub const BLOCK_BYTES: usize = 512;
/// Most members of a session.
pub const MEMBERS_MAX: u64 = 1 << 32;
/// Largest file with holes, in bytes: zeros cost no tape, but time.
pub const SPARSE_BYTES_MAX: u64 = 1 << 44;
/// Most bytes of the extended header of a member.
pub const RECORDS_BYTES_MAX: u64 = 16 << 20;
/// Most damaged or missed objects that are listed; more are counted.
pub const LISTED_MAX: usize = 1000;

/// What all reports say; short, since many are kept.
type Result<T> = std::result::Result<T, ArchiveError>;

/// Zeros, as many as are hashed or written at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Bytes up to the next block.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK_BYTES as u64) - size) as usize
}

/// Why a path is not acceptable; paths are those of members, without a slash in front or behind.
fn path_refusal(path: &[u8]) -> Option<&'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Some("its path is too long");
    }
    if path.contains(&0) {
        return Some("its path has a NUL byte");
    }
    let mut parts = 0;
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" => return Some("its path has an empty part"),
            b"." | b".." => return Some("its path has a dot name"),
            _ => parts += 1,
        }
    }
    (parts > TREE_DEPTH_MAX).then_some("its path has too many parts")
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // Lists of extents are often of one.
pub(super) mod tests;
