//! Parts of captures as bytes: what the spool keeps, the stream carries and the replica decodes.
//!
//! The same rules are checked before encoding and after decoding. Payload bytes of a decoded part are slices of the
//! message: nothing is copied, and the message lives as long as any of them.

use super::event::{check_event, event_from, event_into, path_ok};
use super::{ConvertError, PART_BYTES_MAX, PART_EVENTS_MAX, at_most, count_field, proto};
use bytes::Bytes;
use journal::{Capture, Lsn, Part, Provenance, RootNo, Timestamp};
use prost::Message;

/// Number of `events` in `message Part`.
const EVENTS_TAG: u32 = 8;

/// Whether a part may travel: everything a receiver checks but its encoded length.
///
/// # Errors
/// The first rule it breaks.
pub fn check_part(part: &Part) -> Result<(), ConvertError> {
    let capture = &part.capture;
    if capture.lsn.is_local() || capture.lsn.captured == 0 {
        return Err(ConvertError::Invalid { field: "captured", what: "not an LSN that a master mints" });
    }
    if capture.root.0 >= RootNo::COUNT_MAX {
        return Err(ConvertError::Invalid { field: "root", what: "no such root" });
    }
    if capture.provenance == Provenance::Local {
        return Err(ConvertError::Invalid { field: "provenance", what: "local captures never travel" });
    }
    path_ok("path", &capture.path)?;
    at_most("events", capture.events.len(), PART_EVENTS_MAX)?;
    capture.events.iter().try_for_each(check_event)
}

/// A part as it travels.
///
/// # Errors
/// If a receiver would refuse it.
pub fn encode_part(part: &Part) -> Result<Bytes, ConvertError> {
    check_part(part)?;
    let capture = &part.capture;
    let message = proto::Part {
        captured: capture.lsn.captured,
        number: part.number,
        last: part.last,
        time: capture.time.0,
        provenance: match capture.provenance {
            Provenance::Exact => proto::Provenance::Exact,
            Provenance::Derived => proto::Provenance::Derived,
            Provenance::Rescan => proto::Provenance::Rescan,
            Provenance::Synchronization => proto::Provenance::Synchronization,
            Provenance::Local => proto::Provenance::Unspecified,
        } as i32,
        root: u32::from(capture.root.0),
        path: Bytes::copy_from_slice(&capture.path),
        events: capture.events.iter().map(event_into).collect::<Result<_, _>>()?,
    };
    at_most("part", message.encoded_len(), PART_BYTES_MAX)?;
    Ok(message.encode_to_vec().into())
}

/// The part that travelled as `bytes`.
///
/// # Errors
/// If it breaks a rule of the protocol.
pub fn decode_part(bytes: Bytes) -> Result<Part, ConvertError> {
    at_most("part", bytes.len(), PART_BYTES_MAX)?;
    at_most("events", count_field(&bytes, EVENTS_TAG)?, PART_EVENTS_MAX)?;
    let message = proto::Part::decode(bytes)?;
    let part = Part {
        number: message.number,
        last: message.last,
        capture: Capture {
            lsn: Lsn::captured(message.captured),
            time: Timestamp(message.time),
            provenance: provenance(message.provenance)?,
            root: super::event::root(message.root)?,
            path: message.path.to_vec(),
            events: message.events.into_iter().map(event_from).collect::<Result<_, _>>()?,
        },
    };
    check_part(&part)?;
    Ok(part)
}

fn provenance(value: i32) -> Result<Provenance, ConvertError> {
    match proto::Provenance::try_from(value) {
        Ok(proto::Provenance::Exact) => Ok(Provenance::Exact),
        Ok(proto::Provenance::Derived) => Ok(Provenance::Derived),
        Ok(proto::Provenance::Rescan) => Ok(Provenance::Rescan),
        Ok(proto::Provenance::Synchronization) => Ok(Provenance::Synchronization),
        _ => Err(ConvertError::Unknown { field: "provenance", value: i64::from(value) }),
    }
}
