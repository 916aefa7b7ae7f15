//! Commands that change the protected tree, handed to the agent.

use super::{Master, failed, spawn};
use crate::capture::{CaptureError, WriteRequest};
use crate::stream::Replier;
use bytes::Bytes;
use journal::RootNo;
use std::sync::Arc;
use wire::stream::{Failed, Outcome, decode_part};

fn refuse(code: &str, text: String) -> Outcome {
    Outcome::Failed(Failed { code: code.to_owned(), text })
}

/// The code of what the agent could not do.
fn code_of(error: &CaptureError) -> &'static str {
    match error {
        CaptureError::File { source, .. }
            if matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            "RW1018"
        }
        CaptureError::File { .. } | CaptureError::RootLost { .. } => "RW1024",
        _ => "RW0465",
    }
}

impl Master {
    pub(super) fn write(
        self: &Arc<Self>,
        (session, number): (u64, u32),
        part: Bytes,
        last: bool,
        reply: Replier,
    ) {
        let (root, events) = match part.is_empty() {
            true => (RootNo(0), Vec::new()),
            false => match decode_part(part) {
                Ok(part) => (part.capture.root, part.capture.events),
                Err(error) => return reply.reply(failed("RW0472", &error)),
            },
        };
        let agent = self.inner.lock().agent.clone();
        let Some(agent) = agent else {
            return reply.reply(refuse("RW0465", "capture is not running".to_owned()));
        };
        let answer = agent.begin_write(WriteRequest { session, number, root, events, last });
        drop(agent);
        spawn("write", move || {
            let written = answer.and_then(|answer| answer.recv().unwrap_or(Err(CaptureError::Stopped)));
            reply.reply(match written {
                Ok(written) => Outcome::Written(written),
                Err(error) => failed(code_of(&error), &error),
            });
        });
    }
}
