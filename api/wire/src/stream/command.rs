//! Commands of the replica and what came of them, to and from their generated form.
//!
//! Changes of a master's tree travel as an encoded part of a capture, so every rule on the values of captures holds
//! for them too. Like the parts of a batch they are decoded by whoever carries them out.

use super::control::{Command, Consistent, Finding, Outcome, SyncMode};
use super::convert::unknown;
use super::event::{class_from, class_into, path_ok, root};
use super::{ConvertError, LIST_MAX, NOT_WRITTEN_MAX, PART_BYTES_MAX, PATH_BYTES_MAX};
use super::{at_most, clip, count_field, proto, required, text};
use journal::{Lsn, NotWritten, Timestamp, Unwritten, Written};
use prost::Message;
use std::time::Duration;

/// Number of `list` in `message NotWrittenList`.
const LIST_TAG: u32 = 1;

impl From<(u64, Command)> for proto::Command {
    fn from((id, command): (u64, Command)) -> Self {
        use proto::command::Command as C;
        let command = match command {
            Command::Barrier { cookie, class } => {
                C::Barrier(proto::BarrierCommand { cookie, class: class_into(class) as i32 })
            }
            Command::Run { mode, ignore_same, skip, anew, definition } => C::Run(proto::RunCommand {
                mode: proto::SyncMode::from(mode) as i32,
                ignore_same,
                skip,
                anew,
                definition: Some(definition.into()),
            }),
            Command::Consistent(asked) => C::Consistent(proto::ConsistentCommand {
                cookie: asked.cookie,
                quiesce: asked.quiesce,
                thaw: asked.thaw,
                hold_millis: millis(asked.hold),
                thaw_millis: millis(asked.thaw_limit),
            }),
            Command::Scrub(ask) => C::Scrub(ask.into()),
            Command::Stop => C::Stop(proto::Nothing {}),
            Command::Suspend => C::Suspend(proto::Nothing {}),
            Command::Resume => C::Resume(proto::Nothing {}),
            Command::Verify => C::Verify(proto::Nothing {}),
            Command::Write { session, number, part, last } => {
                C::Write(proto::WriteCommand { session, part, last, number })
            }
        };
        proto::Command { id, command: Some(command) }
    }
}

pub(super) fn command_from(command: proto::command::Command) -> Result<Command, ConvertError> {
    use proto::command::Command as C;
    Ok(match command {
        C::Barrier(c) => Command::Barrier { cookie: c.cookie, class: class_from(c.class)? },
        C::Run(c) => Command::Run {
            mode: SyncMode::from_wire(c.mode)?,
            ignore_same: c.ignore_same,
            skip: c.skip,
            anew: c.anew,
            definition: required("definition", c.definition)?.try_into()?,
        },
        C::Consistent(c) => Command::Consistent(Consistent {
            cookie: c.cookie,
            quiesce: text("quiesce", c.quiesce)?,
            thaw: text("thaw", c.thaw)?,
            hold: Duration::from_millis(c.hold_millis),
            thaw_limit: Duration::from_millis(c.thaw_millis),
        }),
        C::Scrub(ask) => Command::Scrub(ask.try_into()?),
        C::Stop(_) => Command::Stop,
        C::Suspend(_) => Command::Suspend,
        C::Resume(_) => Command::Resume,
        C::Verify(_) => Command::Verify,
        C::Write(c) => {
            at_most("part", c.part.len(), PART_BYTES_MAX)?;
            Command::Write { session: c.session, number: c.number, part: c.part, last: c.last }
        }
    })
}

impl From<(u64, Outcome)> for proto::Reply {
    fn from((id, outcome): (u64, Outcome)) -> Self {
        use proto::reply::Outcome as O;
        let outcome = match outcome {
            Outcome::Done => O::Done(proto::Nothing {}),
            Outcome::Barrier { lsn, class, time } => O::Barrier(proto::BarrierReached {
                captured: lsn.captured,
                class: class_into(class) as i32,
                time: time.0,
            }),
            Outcome::Consistent { lsn, time, held } => O::Consistent(proto::ConsistentReached {
                captured: lsn.captured,
                time: time.0,
                held_nanos: u64::try_from(held.as_nanos()).unwrap_or(u64::MAX),
            }),
            Outcome::Verified(findings) => {
                let finding =
                    |f: Finding| proto::Finding { error: f.error, code: f.code, text: clip(&f.text) };
                O::Verified(proto::Verified {
                    findings: findings.into_iter().take(LIST_MAX / 8).map(finding).collect(),
                })
            }
            Outcome::Written(written) => O::Written(written_into(written)),
            Outcome::Scrub(answer) => O::Scrub(answer.into()),
            Outcome::Failed(failed) => O::Failed(failed.into()),
        };
        proto::Reply { id, outcome: Some(outcome) }
    }
}

pub(super) fn outcome_from(outcome: proto::reply::Outcome) -> Result<Outcome, ConvertError> {
    use proto::reply::Outcome as O;
    Ok(match outcome {
        O::Done(_) => Outcome::Done,
        O::Barrier(b) => Outcome::Barrier {
            lsn: Lsn::captured(b.captured),
            class: class_from(b.class)?,
            time: Timestamp(b.time),
        },
        O::Consistent(c) => Outcome::Consistent {
            lsn: Lsn::captured(c.captured),
            time: Timestamp(c.time),
            held: Duration::from_nanos(c.held_nanos),
        },
        O::Verified(v) => {
            at_most("findings", v.findings.len(), LIST_MAX)?;
            let finding = |f: proto::Finding| {
                Ok(Finding { error: f.error, code: text("code", f.code)?, text: text("text", f.text)? })
            };
            Outcome::Verified(v.findings.into_iter().map(finding).collect::<Result<_, ConvertError>>()?)
        }
        O::Written(written) => Outcome::Written(written_from(written)?),
        O::Scrub(reply) => Outcome::Scrub(reply.try_into()?),
        O::Failed(failed) => Outcome::Failed(failed.try_into()?),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is too much for a message is only counted.
fn written_into(written: Written) -> proto::Written {
    let mut list = Vec::new();
    let mut room = PATH_BYTES_MAX;
    for skipped in written.skipped.into_iter().take(NOT_WRITTEN_MAX) {
        let Some(left) = room.checked_sub(skipped.path.len()) else { continue };
        room = left;
        let what = match skipped.what {
            Unwritten::Node => proto::Unwritten::Node,
            Unwritten::Attributes => proto::Unwritten::Attributes,
            Unwritten::Xattrs => proto::Unwritten::Xattrs,
            Unwritten::Removal => proto::Unwritten::Removal,
        };
        list.push(proto::NotWritten {
            root: skipped.root.0.into(),
            path: skipped.path.into(),
            what: what as i32,
            errno: skipped.errno,
        });
    }
    let skipped = proto::NotWrittenList { list }.encode_to_vec().into();
    proto::Written { skipped, skipped_count: written.skipped_count, moved: written.moved }
}

fn written_from(written: proto::Written) -> Result<Written, ConvertError> {
    at_most("skipped", count_field(&written.skipped, LIST_TAG)?, NOT_WRITTEN_MAX)?;
    let list = proto::NotWrittenList::decode(written.skipped)?.list;
    let one = |skipped: proto::NotWritten| {
        path_ok("path", &skipped.path)?;
        let what = match proto::Unwritten::try_from(skipped.what) {
            Ok(proto::Unwritten::Node) => Unwritten::Node,
            Ok(proto::Unwritten::Attributes) => Unwritten::Attributes,
            Ok(proto::Unwritten::Xattrs) => Unwritten::Xattrs,
            Ok(proto::Unwritten::Removal) => Unwritten::Removal,
            Ok(proto::Unwritten::Unspecified) | Err(_) => return Err(unknown("what", skipped.what)),
        };
        Ok(NotWritten { root: root(skipped.root)?, path: skipped.path.to_vec(), what, errno: skipped.errno })
    };
    Ok(Written {
        skipped: list.into_iter().map(one).collect::<Result<_, ConvertError>>()?,
        skipped_count: written.skipped_count,
        moved: written.moved,
    })
}
