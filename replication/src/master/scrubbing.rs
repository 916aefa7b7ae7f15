//! Questions of a scrub, answered on a thread of their own.
//!
//! One question after the other, each bounded by what it asks for; the pace is the replica's. The agent is asked for
//! hashes of what was captured and to capture anew, never to read a file for a scrub.

use super::{Master, failed, roots, spawn};
use crate::capture::{Actual, Agent, CaptureError, KnownBlocks};
use crate::stream::Replier;
use journal::{NodeId, RootNo};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;
use wire::stream::{Failed, Outcome, ScrubAnswer, ScrubAsk};

/// How long the agent may take to give some hashes, or to take note of names.
const AGENT_WAIT: Duration = Duration::from_secs(60);

impl Master {
    /// Answers one question.
    pub(super) fn scrub(self: &Arc<Self>, ask: ScrubAsk, reply: Replier) {
        let master = Arc::clone(self);
        spawn("scrub", move || {
            let _one = master.scrubbing.lock();
            reply.reply(match master.answer_scrub(ask) {
                Ok(answer) => Outcome::Scrub(answer),
                Err(outcome) => outcome,
            });
        });
    }

    fn answer_scrub(&self, ask: ScrubAsk) -> Result<ScrubAnswer, Outcome> {
        match ask {
            ScrubAsk::Examine { root, items, bytes_max } => {
                let agent = self.inner.lock().agent.as_ref().map(Arc::downgrade);
                let known = |node, range| known(agent.as_ref()?, node, range);
                Ok(ScrubAnswer::Examined(self.actual(root)?.examine(&items, bytes_max, &known)))
            }
            ScrubAsk::List { root, path, after } => Ok(self.actual(root)?.list(&path, after.as_ref())),
            ScrubAsk::Capture { items } => {
                let names = items.into_iter().map(|item| (item.at, item.node)).collect();
                let answer = {
                    let agent = self.inner.lock().agent.clone();
                    agent.ok_or(CaptureError::Stopped).and_then(|agent| agent.begin_anew(names))
                };
                let noted = answer.and_then(|answer| {
                    answer.recv_timeout(AGENT_WAIT).map_err(|_| CaptureError::TimedOut(AGENT_WAIT))
                });
                noted.map(|()| ScrubAnswer::Capturing).map_err(|error| failed("RW0465", &error))
            }
        }
    }

    fn actual(&self, root: RootNo) -> Result<Actual, Outcome> {
        let definition = self.inner.lock().welcome.as_ref().map(|welcome| welcome.definition.clone());
        let roots = definition.map(|definition| roots(&definition)).unwrap_or_default();
        let Some(config) = roots.into_iter().find(|config| config.number == root) else {
            let text = format!("there is no root {}", root.0);
            return Err(Outcome::Failed(Failed { code: "RW0472".to_owned(), text }));
        };
        Actual::open_captured(&config, &self.paths.origins).map_err(|error| failed("RW0467", &error))
    }
}

/// What the index knows of a range. The agent is not held while it is waited for: a stop must not wait for a scrub.
fn known(agent: &Weak<Agent>, node: NodeId, range: Range<u64>) -> Option<KnownBlocks> {
    let answer = agent.upgrade()?.begin_known(node, range).ok()?;
    answer.recv_timeout(AGENT_WAIT).ok().flatten()
}
