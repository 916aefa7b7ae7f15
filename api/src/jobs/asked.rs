//! What a client asked, out of a request as it is kept.
//!
//! A kept request also says what its words meant when the job was taken in. A client that submits the same words again,
//! because it does not know whether the first attempt arrived, means the same job, whatever they would mean by now.

use prost::Message;
use wire::v1::{self, JobKind};

/// The request without what the server added.
pub(super) fn asked(kind: JobKind, request: &[u8]) -> Vec<u8> {
    let without = match kind {
        JobKind::Rewind => v1::RewindRequest::decode(request).map(|mut request| {
            request.resolved.clear();
            request.encode_to_vec()
        }),
        JobKind::Backup => v1::BackupRequest::decode(request).map(|mut request| {
            request.resolved.clear();
            request.encode_to_vec()
        }),
        JobKind::Restore => v1::RestoreRequest::decode(request)
            .map(|kept| if kept.asked.is_empty() { request.to_vec() } else { kept.asked.to_vec() }),
        _ => return request.to_vec(),
    };
    // What cannot be decoded equals nothing but itself.
    without.unwrap_or_else(|_| request.to_vec())
}
