//! Segment files: the streams of redo and undo.
//!
//! Two layers live here. This file says what one record of the redo stream means to the rest of the crate ([`Part`]);
//! everything below `log/` stores records without knowing what is in them. `FORMAT.md` is normative for the bytes.
//!
//! Why it is correct, in one paragraph: a record counts when a commit frame behind it is whole and all bytes between
//! match their checksums; a commit frame is followed by an fsync before anybody is told, and before the next batch is
//! written. So of all batches at most the last one can be torn by a power cut, and every frame carries the position
//! that was known durable when it was written. Recovery cuts an incomplete tail only if nothing says that the place
//! had been durable; otherwise the bytes have rotted, and it stops.
//!
//! | module | owns |
//! | --- | --- |
//! | `codec` | taking integers from bytes nobody trusts |
//! | `frame` | one frame: header, checksums, hash chain |
//! | `segment` | header and footer of a segment, its index by LSN |
//! | `pack` | payloads made shorter, and expanded again |
//! | `manifest` | the one file that says which segments count, replaced in one step |
//! | `scan` | walking frames, one after the other or across damage |
//! | `recover` | telling a torn tail from rot when a journal is opened |
//! | `writer` | the batch under way in the live segment |
//! | `shared` | the steps of commit, sealing and cutting; what readers see of them |
//! | `stream` | [`Log`]: one stream, all its segments |
//! | `reader` | [`LogReader`]: committed records in order |
//! | `set` | [`LogSet`]: both streams, the lock, retention |
//! | `group` | [`GroupCommit`]: one thread, many submissions an fsync |
//! | `thinned` | a sealed segment without the payloads that were given up |
//! | `verify` | reading everything to find damage |
//! | `shipped` | raw bytes of segments for keeping elsewhere, and records out of them |

mod codec;
mod frame;
mod group;
mod manifest;
mod pack;
mod reader;
mod recover;
mod scan;
mod segment;
mod set;
mod shared;
mod shipped;
mod stream;
#[cfg(test)]
mod tests;
mod thinned;
mod types;
mod verify;
mod writer;

pub use frame::{HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_COUNT_MAX};
pub use group::{GroupCommit, GroupOptions, Ticket};
pub use manifest::{FileEntry, Identity};
pub use reader::LogReader;
pub use set::{LogSet, Retire};
pub use shipped::ShippedSegment;
pub use stream::Log;
pub(crate) use thinned::Gone;
pub use types::{Appended, LogOptions, RecordAt, RecordDraft, SegmentInfo, StoredRecord, Stream};
pub use verify::{Damage, VerifyProgress, VerifyReport, verify};

/// A captured or local change as it lies in the redo stream: all of a capture, or one part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Position within the capture, from 0. Part 0 discards what an unfinished capture of the same LSN left.
    pub number: u32,
    /// Whether the capture is complete with it.
    pub last: bool,
    /// The events of this part, with the header of the capture.
    pub capture: crate::event::Capture,
}
