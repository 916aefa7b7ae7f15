//! Finding bursts, and looking into a sample of their files.

use super::detect::{Detector, Limits, Span};
use super::facts::read_facts;
use super::sample::{BLOCK_BYTES, Verdict, verdict};
use crate::error::RestoreError;
use crate::monitor::Monitor;
use crate::rewind::ReplicaControl;
use journal::view::{Places, View, ViewFile};
use journal::{JournalError, Lsn, NodeId, RootNo, TreeIo};
use std::ops::ControlFlow;

/// What is unusual about a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BurstKind {
    /// Many files were rewritten within a minute.
    MassRewrite,
    /// Many files were renamed within a minute.
    MassRename,
    /// Contents turned from text or a known format into noise.
    EntropyJump,
}

/// How surely a burst is damage and not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Many files changed at once, as with a checkout or a conversion.
    Low,
    /// Many files were both rewritten and renamed.
    Medium,
    /// Contents became noise.
    High,
}

/// A file of a burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its root.
    pub root: RootNo,
    /// Its path before the burst, below the root.
    pub path: Vec<u8>,
    /// The path at the end of the burst of what became of it, if that is another one.
    pub to: Option<Vec<u8>>,
}

/// A burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Its bounds and numbers.
    pub span: Span,
    /// At least one.
    pub kinds: Vec<BurstKind>,
    /// How surely it is damage.
    pub confidence: Confidence,
    /// Files that were looked into and could be judged.
    pub judged: usize,
    /// Those of them that became noise.
    pub spoiled: usize,
    /// Some of the files.
    pub examples: Vec<Example>,
}

/// Files shown of a burst.
const EXAMPLES_MAX: usize = 5;
/// Fewer spoiled files are no evidence.
const SPOILED_MIN: usize = 3;
/// Places of a file that are looked at.
const BLOCKS_MAX: usize = 4;
/// Changed extents from which those places are chosen.
const EXTENTS_MAX: usize = 64;

/// Finds the bursts among captures after `after`, up to `upto`, oldest first, until `each` breaks. A burst that goes
/// on at `upto` is one that ends there. None goes beyond one of the captures `cuts`, ascending, after which something
/// else began.
///
/// # Errors
/// `Cancelled`; as the tables and the replica tree.
pub fn find<R: ReplicaControl>(
    replica: &R,
    after: Lsn,
    upto: Lsn,
    (cuts, limits): (&[u64], &Limits),
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Burst) -> ControlFlow<()>,
) -> Result<(), RestoreError> {
    let mut cuts = cuts.iter().peekable();
    let mut detector = Detector::new(*limits);
    let mut left = ControlFlow::Continue(());
    read_facts(replica, after, upto, monitor, &mut |fact| {
        let mut over = None;
        while cuts.next_if(|cut| **cut < fact.lsn).is_some() {
            over = over.or(detector.cut());
        }
        if let Some(span) = over {
            left = each(look_into(replica, span, limits, monitor)?);
        }
        if let Some(span) = detector.fact(&fact).filter(|_| left.is_continue()) {
            left = each(look_into(replica, span, limits, monitor)?);
        }
        Ok(left)
    })?;
    match detector.finish() {
        Some(span) if left.is_continue() => drop(each(look_into(replica, span, limits, monitor)?)),
        _ => {}
    }
    Ok(())
}

fn look_into<R: ReplicaControl>(
    replica: &R,
    span: Span,
    limits: &Limits,
    monitor: &dyn Monitor,
) -> Result<Burst, RestoreError> {
    let failed = RestoreError::journal("look into the files of a burst");
    let end = Lsn::captured(span.last);
    let mut verdicts = Vec::new();
    for one in &span.sample {
        if monitor.cancelled() {
            return Err(RestoreError::Cancelled);
        }
        let before = Lsn::captured(one.lsn.saturating_sub(1));
        verdicts.push(judge(replica, (one.node, before), (one.by.unwrap_or(one.node), end))?);
    }
    let (judged, spoiled) = count(&verdicts);
    let mut kinds = Vec::new();
    kinds.extend((span.rewritten_most >= limits.files).then_some(BurstKind::MassRewrite));
    kinds.extend((span.renamed_most >= limits.files).then_some(BurstKind::MassRename));
    let confidence = match () {
        () if is_evidence(judged, spoiled) => {
            kinds.push(BurstKind::EntropyJump);
            Confidence::High
        }
        () if kinds.len() > 1 && span.rescanned * 2 < span.rewritten + span.renamed => Confidence::Medium,
        () => Confidence::Low,
    };
    let (first, last) = (replica.view(Lsn::captured(span.first.saturating_sub(1))), replica.view(end));
    let (first, last) = (first.map_err(&failed)?, last.map_err(&failed)?);
    let (first, last) = (Places::new(&*first), Places::new(&*last));
    let mut examples = Vec::new();
    for one in &span.sample {
        let Some((root, path)) = path_of(&first, one.node).map_err(&failed)? else { continue };
        let to = path_of(&last, one.by.unwrap_or(one.node)).map_err(&failed)?;
        let to = to.map(|(_, to)| to).filter(|to| *to != path);
        examples.push(Example { root, path, to });
        if examples.len() == EXAMPLES_MAX {
            break;
        }
    }
    Ok(Burst { span, kinds, confidence, judged, spoiled, examples })
}

fn path_of<T: TreeIo>(
    places: &Places<'_, T>,
    node: NodeId,
) -> Result<Option<(RootNo, Vec<u8>)>, JournalError> {
    let Some(edge) = places.place(node)? else { return Ok(None) };
    places.path(&edge)
}

/// How many could be judged, and how many of them became noise.
pub(super) fn count(verdicts: &[Verdict]) -> (usize, usize) {
    let of = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    (of(Verdict::Sound) + of(Verdict::Spoiled), of(Verdict::Spoiled))
}

/// Whether so many spoiled files say that it was no work.
pub(super) fn is_evidence(judged: usize, spoiled: usize) -> bool {
    spoiled >= SPOILED_MIN && spoiled * 2 >= judged
}

/// What became of a file between two points; at the second it may be another file that stands for it. A file that
/// cannot be read at one of them is not judged.
pub(super) fn judge<R: ReplicaControl>(
    replica: &R,
    before: (NodeId, Lsn),
    after: (NodeId, Lsn),
) -> Result<Verdict, RestoreError> {
    let opened = RestoreError::journal("open a view");
    let (then, now) = (replica.view(before.1).map_err(&opened)?, replica.view(after.1).map_err(&opened)?);
    let failed = RestoreError::journal("look into a file of a burst");
    let (Some(mut old), Some(mut new)) =
        (open(&then, before.0).map_err(&failed)?, open(&now, after.0).map_err(&failed)?)
    else {
        return Ok(Verdict::Unknown);
    };
    let heads = (read(&mut old, 0).map_err(&failed)?, read(&mut new, 0).map_err(&failed)?);
    let offsets = match before.0 == after.0 {
        true => changed_offsets(&then, before.0, after.1).map_err(&failed)?,
        false => even_offsets(old.size().min(new.size())),
    };
    let mut blocks = Vec::new();
    for offset in offsets {
        let pair = (read(&mut old, offset).map_err(&failed)?, read(&mut new, offset).map_err(&failed)?);
        // Where one of them has ended there is nothing to compare.
        if pair.0 != pair.1 && !pair.0.is_empty() && !pair.1.is_empty() {
            blocks.push(pair);
        }
    }
    Ok(verdict((&heads.0, &heads.1), &blocks))
}

fn open<T: TreeIo>(view: &View<T>, node: NodeId) -> Result<Option<ViewFile<'_, T>>, JournalError> {
    match view.open(node) {
        Ok(file) => Ok(Some(file)),
        Err(JournalError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read<T: TreeIo>(file: &mut ViewFile<'_, T>, offset: u64) -> Result<Vec<u8>, JournalError> {
    let mut bytes = vec![0; BLOCK_BYTES];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Where a file changed, a few places of many.
fn changed_offsets<T: TreeIo>(then: &View<T>, node: NodeId, upto: Lsn) -> Result<Vec<u64>, JournalError> {
    let mut starts = Vec::new();
    for extent in then.changed_extents(node, upto, 0).take(EXTENTS_MAX) {
        let extent = extent?;
        // A long extent is one place for each of its quarters.
        let quarter = ((extent.end - extent.start) / BLOCKS_MAX as u64).max(BLOCK_BYTES as u64);
        starts.extend((extent.start..extent.end).step_by(quarter as usize).take(BLOCKS_MAX));
    }
    let step = starts.len().div_ceil(BLOCKS_MAX).max(1);
    Ok(starts.into_iter().step_by(step).collect())
}

fn even_offsets(size: u64) -> Vec<u64> {
    let step = (size / BLOCKS_MAX as u64).max(BLOCK_BYTES as u64);
    (0..size).step_by(step as usize).take(BLOCKS_MAX).collect()
}
