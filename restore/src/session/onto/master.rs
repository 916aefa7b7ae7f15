//! A master that makes a session's tree its own, while its replica follows.
//!
//! As with a rewind: what was done on the master until now is brought into the replica, a bookmark is set there, what
//! differs is written to the master, and then the two are compared again, which finds nothing unless people went on
//! changing what was being put back. Only what the session names is touched, and with `delete` what it does not hold;
//! files that people made meanwhile are neither.
//!
//! The master knows new files only within one request, so a further name that comes later waits for the next pass, when
//! the file has come back as a capture.

use super::changer::{Changer, path_key};
use super::filler::Sink;
use super::replica::{bookmark, refuse_conflicts, verify};
use super::{Onto, OntoReport};
use crate::rewind::ReplicaControl;
use crate::session::error::{SessionRestoreError, journal};
use crate::session::receipt::Listed;
use crate::session::walk::Result;
use crate::session::{Monitor, Receipt};
use journal::master::{MasterChanges, MasterLink, NotWritten, Unwritten};
use journal::state::PointKind;
use journal::view::View;
use journal::{Event, Lsn, NodeId, RootNo, Timestamp, TreeIo};
use std::collections::HashSet;

/// How often what people changed meanwhile is put back again.
const PASSES_MAX: u32 = 5;
/// Later changes that are named.
const DIFFERING_MAX: usize = 100;
/// What travels in one request.
const BATCH_BYTES_MAX: u64 = 2 << 20;
const BATCH_WEIGHT_MAX: u64 = 1 << 20;
const BATCH_EVENTS_MAX: usize = 4096;

/// Restores onto a master. The replica follows it before and afterwards.
///
/// # Errors
/// `Conflicts` under the rule `fail`; as [`Onto::list`]; `Master`, `Journal`, `Cancelled`. What was changed stays, under
/// the bookmark; the same call goes on.
pub fn restore_master<R: ReplicaControl>(
    replica: &R,
    link: &dyn MasterLink,
    onto: &Onto<'_>,
    now: Timestamp,
    monitor: &dyn Monitor,
) -> Result<OntoReport> {
    let mut report = passes(replica, link, onto, now, monitor)?;
    report.receipt.lack(onto.options.missed, &onto.entity);
    Ok(report)
}

fn passes<R: ReplicaControl>(
    replica: &R,
    link: &dyn MasterLink,
    onto: &Onto<'_>,
    now: Timestamp,
    monitor: &dyn Monitor,
) -> Result<OntoReport> {
    let mut head = flush(replica, link)?;
    let mut report = OntoReport::default();
    let mut sink = Batches::new(link, onto.root);
    let mut written = HashSet::new();
    let mut left_out = false;
    for pass in 0..PASSES_MAX {
        let view = replica.view(head).map_err(journal("open a view"))?;
        let then = onto.made_at().and_then(|lsn| replica.view(lsn).ok());
        let then = then.as_deref();
        if pass == 0 {
            refuse_conflicts(onto, (&view, then), monitor)?;
        }
        // What exists by now was made by the pass before.
        let later = onto.clone().again();
        let onto = if pass == 0 { onto } else { &later };
        // What could not be read the first time is listed, and left as it is.
        let failed: HashSet<u64> =
            report.receipt.failures.iter().map(|listed| path_key(&listed.path)).collect();
        let mut differs = false;
        onto.list(&view, then, monitor, &mut |planned| {
            differs |= !failed.contains(&path_key(&planned.path));
        })?;
        let known = onto.known(&view, then, monitor)?;
        if !differs {
            if pass == 0 {
                let mut nobody = |_| {};
                let mut counted = Changer::planning(onto, (&view, known.as_ref()), monitor, &mut nobody);
                onto.walk(&view, &mut counted)?;
                report.receipt = std::mem::take(&mut counted.receipt);
            }
            if onto.options.verify {
                verify(onto, &view, &written, monitor, &mut report.receipt)?;
            }
            return Ok(report);
        }
        if report.before.is_none() {
            report.before = Some(bookmark(replica, head, now)?);
        }
        let skipped = sink.skipped_count;
        let mut nobody = |_| {};
        let mut changer = Changer::doing(onto, (&view, known.as_ref()), monitor, &mut nobody, &mut sink);
        let walked = onto.walk(&view, &mut changer).and_then(|()| changer.finish());
        written.extend(changer.take_written());
        let receipt = std::mem::take(&mut changer.receipt);
        if pass == 0 {
            report.receipt = receipt;
        } else {
            report.receipt.bytes_written += receipt.bytes_written;
        }
        sink.end(walked)?;
        head = flush(replica, link)?;
        // What cannot be written will not be written the next time either.
        left_out = sink.skipped_count > skipped;
        if left_out {
            break;
        }
    }
    let view = replica.view(head).map_err(journal("open a view"))?;
    let onto = onto.clone().again();
    list_skipped(&mut report.receipt, &onto, &sink);
    settle(&mut report.receipt, (&onto, left_out), &view, monitor)?;
    Ok(report)
}

/// Compares once more, in full, where not all could be written or people went on changing it: what differs and is not
/// listed as left out was changed meanwhile. Where something is `left_out`, directories have other times than they should,
/// which need not be said too; else whatever differs is said.
fn settle<T: TreeIo>(
    receipt: &mut Receipt,
    (onto, left_out): (&Onto<'_>, bool),
    view: &View<T>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let listed: HashSet<u64> = receipt.failures.iter().map(|listed| path_key(&listed.path)).collect();
    let (mut differing, mut attributes) = (Vec::new(), Vec::new());
    let (_, alike) = onto.compare(view, None, monitor, &mut |planned| {
        let of_kind = if planned.kind == PointKind::Attributes { &mut attributes } else { &mut differing };
        if !listed.contains(&path_key(&planned.path)) && of_kind.len() < DIFFERING_MAX {
            of_kind.push(planned.path);
        }
    })?;
    // Some were left out before the list was full.
    let complete = receipt.failed == receipt.failures.len() as u64;
    if onto.options.verify {
        (receipt.verified, receipt.verified_files) = (Some(differing.is_empty()), alike);
    }
    for path in differing.into_iter().filter(|_| complete) {
        let reason = "it was changed meanwhile and differs from the session; restore it again".to_owned();
        receipt.fail(Listed { path, what: "later change", reason, errno: None });
    }
    for path in attributes.into_iter().filter(|_| complete && !left_out) {
        let reason = "they differ from those of the session; restore it again".to_owned();
        receipt.warn(Listed { path, what: word(Unwritten::Attributes), reason, errno: None });
    }
    Ok(())
}

/// Lists what could not be written.
fn list_skipped(receipt: &mut Receipt, onto: &Onto<'_>, sink: &Batches<'_>) {
    for skipped in &sink.skipped {
        let path = [onto.entity.as_slice(), b"/", &skipped.path].concat();
        let reason = std::io::Error::from_raw_os_error(skipped.errno).to_string();
        let (what, errno) = (word(skipped.what), Some(skipped.errno));
        let listed = Listed { path, what, reason, errno };
        match skipped.what {
            Unwritten::Node | Unwritten::Removal => receipt.fail(listed),
            Unwritten::Attributes | Unwritten::Xattrs => receipt.warn(listed),
        }
    }
    let more = sink.skipped_count.saturating_sub(sink.skipped.len() as u64);
    if more > 0 {
        let reason = format!("{more} more objects could not be written; the first are listed");
        receipt.fail(Listed { path: onto.entity.clone(), what: "node", reason, errno: None });
    }
}

fn word(what: Unwritten) -> &'static str {
    match what {
        Unwritten::Node => "node",
        Unwritten::Attributes => "owner, mode or times",
        Unwritten::Xattrs => "extended attributes",
        Unwritten::Removal => "removal",
    }
}

fn flush<R: ReplicaControl>(replica: &R, link: &dyn MasterLink) -> Result<Lsn> {
    let lsn = link.flush().map_err(|source| SessionRestoreError::Master { operation: "flush", source })?;
    // What came after it may be there already.
    Ok(lsn.max(Lsn::captured(replica.applied().captured)))
}

/// Events as requests to a master. One is held back, so that the last can be told to be the last.
struct Batches<'l> {
    link: &'l dyn MasterLink,
    root: RootNo,
    events: Vec<Event>,
    bytes: u64,
    weight: u64,
    held: Option<Vec<Event>>,
    /// New nodes of the request under way.
    made: HashSet<NodeId>,
    /// The tree moved under the hands of the master: the rest is about a tree that is not there any more.
    moved: bool,
    skipped: Vec<NotWritten>,
    skipped_count: u64,
}

const SKIPPED_MAX: usize = 200;

impl<'l> Batches<'l> {
    fn new(link: &'l dyn MasterLink, root: RootNo) -> Self {
        let (events, made, skipped) = (Vec::new(), HashSet::new(), Vec::new());
        let (bytes, weight, held, moved) = (0, 0, None, false);
        Self { link, root, events, bytes, weight, held, made, moved, skipped, skipped_count: 0 }
    }

    fn send(&mut self, events: Vec<Event>, last: bool) -> Result<()> {
        let written = self
            .link
            .write(MasterChanges { root: self.root, events, last })
            .map_err(|source| SessionRestoreError::Master { operation: "write", source })?;
        self.skipped_count += written.skipped_count;
        let room = SKIPPED_MAX.saturating_sub(self.skipped.len());
        self.skipped.extend(written.skipped.into_iter().take(room));
        self.moved |= written.moved;
        Ok(())
    }

    fn cut(&mut self) -> Result<()> {
        self.made.clear();
        (self.bytes, self.weight) = (0, 0);
        let events = std::mem::take(&mut self.events);
        if events.is_empty() {
            return Ok(());
        }
        match self.held.replace(events) {
            Some(ready) if !self.moved => self.send(ready, false),
            _ => Ok(()),
        }
    }

    /// Ends a pass, however it went: the master clears away what it keeps for what is under way.
    fn end(&mut self, walked: Result<()>) -> Result<()> {
        let last = match (&walked, self.moved) {
            (Ok(()), false) => self.held.take().unwrap_or_default(),
            _ => Vec::new(),
        };
        self.held = None;
        self.events.clear();
        self.moved = false;
        let ended = self.send(last, true);
        // The first error is the one that counts.
        walked.and(ended)
    }
}

/// About what an event takes on the wire, its payload aside.
fn weight(event: &Event) -> u64 {
    let xattrs = match event {
        Event::Create { meta, .. } => &meta.xattrs,
        Event::SetXattrs { xattrs, .. } => xattrs,
        _ => return 400,
    };
    let xattrs: usize = xattrs.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
    // Longer than any link target.
    5000 + xattrs as u64
}

impl Sink for Batches<'_> {
    fn names_first(&self) -> bool {
        false
    }

    fn put(&mut self, _: &[u8], events: Vec<Event>) -> Result<()> {
        if self.moved {
            return Ok(());
        }
        let late = events.iter().any(|event| match event {
            Event::Link { node, .. } => node.0 >> 63 == 1 && !self.made.contains(node),
            _ => false,
        });
        if late {
            return Ok(());
        }
        // Names stay together, so that what is replaced is exchanged in one step.
        let (names, content): (u64, u64) =
            (events.iter().map(weight).sum(), events.iter().map(Event::payload_bytes).sum());
        let whole = content <= BATCH_BYTES_MAX;
        if self.bytes + content > BATCH_BYTES_MAX
            || self.weight + names > BATCH_WEIGHT_MAX
            || self.events.len() + events.len() > BATCH_EVENTS_MAX
        {
            self.cut()?;
        }
        for event in events {
            if !whole && self.bytes + event.payload_bytes() > BATCH_BYTES_MAX {
                self.cut()?;
            }
            if let Event::Create { node, .. } = &event {
                self.made.insert(*node);
            }
            self.bytes += event.payload_bytes();
            self.weight += weight(&event);
            self.events.push(event);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.cut()
    }
}
