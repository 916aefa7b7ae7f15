//! Sessions that are compressed or encrypted: an archive inside another one.
//!
//! The archive of such a session is made as any other. Its bytes are compressed, then encrypted, as is asked for, and cut
//! into the members of an outer tar, the *carrier*: a label in clear, pieces of the bytes, an end. So volumes, parts and
//! every tar see an archive, and `tar -xO | age -d | zstd -d | tar -x` restores it with nothing of ours. `FORMAT.md`
//! (section "Carrier") is normative.
//!
//! **One id.** The session's id is that of the archive inside. The carrier's label names it, its headers begin with it.
//!
//! **Damage.** Compressed alone, each piece is a zstd frame of at most [`PLAIN_BYTES_MAX`] bytes and its header says where
//! they belong: a piece that is lost is read as zeros, and the archive's own proofs name what lay in it. Encrypted, what is
//! behind a damaged piece cannot be had: the bytes end there, and that is said.
//!
//! **What is secret.** Of an encrypted session nothing in clear says a path, a tag or a pattern. Its id is a hash of a label
//! that says them, so that label has random digits in it.
//!
//! Refused when reading: pieces and frames beyond the limits below, heads of age that are longer than [`AGE_HEADER_BYTES_MAX`] or
//! ask for more work than [`WORK_FACTOR_MAX`], words that nobody knows, carriers in carriers.

mod frames;
mod key;
mod label;
mod pieces;
mod source;
mod writer;

pub use key::{BadKey, TapeKey};
pub use label::{CarrierLabel, Compression, Encoding};
pub(super) use pieces::{Pieces, Report};
pub(super) use source::Source;
pub use writer::Encoder;

/// Bytes of the archive in a frame at most.
pub(super) const PLAIN_BYTES_MAX: usize = 1 << 20;
/// Bytes of an encrypted piece, but for the last.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of any piece at most: a frame may be longer than what is in it.
const PIECE_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Bytes of the head of what age encrypted, at most.
const AGE_HEADER_BYTES_MAX: usize = 16 << 10;
/// Work of a passphrase that is written, as a power of two: 256 MiB, about a second.
const WORK_FACTOR: u8 = 18;
/// Work of a passphrase that is read at most: 1 GiB.
const WORK_FACTOR_MAX: u8 = 20;
/// How a carrier's label is called, behind the session.
pub(super) const LABEL_NAME: &[u8] = b"/label.json";
/// Bytes of a carrier that a piece takes at least: its header.
const PIECE_COST_MIN: u64 = 1536;

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // Lists of extents are often of one.
mod tests;
