//! When ordinary work becomes a burst: pure code over facts in the order in which they were captured.
//!
//! A file is hit when much of it is replaced, when it is renamed, when another file takes its name, and when it goes
//! while a file whose name begins with its own appears beside it. A burst begins when [`Limits::files`] different
//! files were rewritten, or as many renamed, within [`Limits::window_ns`]; its first hit is then the oldest of that
//! window. It goes on while at least a sixth as many are hit within a window, over pauses of [`Limits::pause_ns`], and
//! ends with the last hit at which that was so. One file changed a thousand times is one file, and creating, however
//! many, hits nothing.
//!
//! Memory: the hits, arrivals and departures of one window, each at most [`Limits::remembered_max`]; of an open burst
//! the ids of its files, at most [`Limits::files_max`], and a sample of them.

use super::facts::{Fact, What};
use journal::{Edge, Name, NodeId, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// When many is unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Different files hit in the same way within a window.
    pub files: usize,
    /// Length of a window, in nanoseconds of the master's clock.
    pub window_ns: i64,
    /// Longest time without enough hits inside a burst, in nanoseconds.
    pub pause_ns: i64,
    /// Hits, arrivals and departures remembered.
    pub remembered_max: usize,
    /// Files of a burst told apart; more are counted by hits.
    pub files_max: usize,
    /// Files of a burst that are looked into.
    pub sampled_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            files: 30,
            window_ns: 60_000_000_000,
            pause_ns: 120_000_000_000,
            remembered_max: 1 << 16,
            files_max: 1 << 20,
            sampled_max: 64,
        }
    }
}

/// A file that was hit, as remembered for the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The file.
    pub node: NodeId,
    /// The capture that hit it first, as far as remembered.
    pub lsn: u64,
    /// The file that has its place, if it is another one.
    pub by: Option<NodeId>,
}

/// A burst, before anybody looked into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first capture.
    pub first: u64,
    /// Its last capture.
    pub last: u64,
    /// The master's clock at its first capture.
    pub begin: Timestamp,
    /// The master's clock at its last capture.
    pub end: Timestamp,
    /// Different files hit.
    pub files: u64,
    /// Hits that replaced bytes.
    pub rewritten: u64,
    /// Hits that changed names.
    pub renamed: u64,
    /// Most files rewritten within one window.
    pub rewritten_most: usize,
    /// Most files renamed within one window.
    pub renamed_most: usize,
    /// Hits found by a rescan: when they happened is not known.
    pub rescanned: u64,
    /// Files to look into.
    pub sample: Vec<Sampled>,
}

#[derive(Clone, Debug)]
struct Hit {
    /// The capture that began it, and the one that told.
    lsn: u64,
    last: u64,
    time: Timestamp,
    node: NodeId,
    by: Option<NodeId>,
    rewritten: bool,
    renamed: bool,
    rescan: bool,
}

#[derive(Default)]
struct Counted {
    rewritten: HashMap<NodeId, u32>,
    renamed: HashMap<NodeId, u32>,
    any: HashMap<NodeId, u32>,
}

impl Counted {
    fn change(&mut self, hit: &Hit, by: i32) {
        let one = |map: &mut HashMap<NodeId, u32>| {
            let count = map.entry(hit.node).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                map.remove(&hit.node);
            }
        };
        one(&mut self.any);
        if hit.rewritten {
            one(&mut self.rewritten);
        }
        if hit.renamed {
            one(&mut self.renamed);
        }
    }
}

struct Open {
    span: Span,
    files: HashSet<NodeId>,
    seen: u64,
}

/// Names that came or went lately.
#[derive(Default)]
struct Lately {
    names: BTreeMap<(NodeId, Name), (NodeId, u64)>,
    order: VecDeque<(Timestamp, NodeId, Name)>,
}

impl Lately {
    fn add(&mut self, time: Timestamp, at: &Edge, node: NodeId, lsn: u64) {
        self.names.insert((at.parent, at.name.clone()), (node, lsn));
        self.order.push_back((time, at.parent, at.name.clone()));
    }

    fn forget(&mut self, before: i64, most: usize) {
        while self.order.len() > most || self.order.front().is_some_and(|(time, ..)| time.0 < before) {
            let Some((_, parent, name)) = self.order.pop_front() else { return };
            self.names.remove(&(parent, name));
        }
    }

    /// What has this name, or one that begins with it, and is another file.
    fn begins_with(&self, at: &Edge, other: NodeId) -> Option<(NodeId, u64, bool)> {
        let mut from = self.names.range((at.parent, at.name.clone())..);
        // Its own arrival may be among the latest.
        let ((parent, name), (node, lsn)) = from.find(|(_, (node, _))| *node != other)?;
        let fits = *parent == at.parent && name.as_bytes().starts_with(at.name.as_bytes());
        fits.then_some((*node, *lsn, *name == at.name))
    }

    /// What has this name, or one that it begins with.
    fn begins(&self, at: &Edge) -> Option<(NodeId, u64, bool)> {
        let name = at.name.as_bytes();
        let ends = (1..=name.len()).rev().filter(|end| *end == name.len() || name.get(*end) == Some(&b'.'));
        for end in ends {
            let Some(part) = name.get(..end).and_then(Name::new) else { continue };
            if let Some((node, lsn)) = self.names.get(&(at.parent, part)) {
                return Some((*node, *lsn, end == name.len()));
            }
        }
        None
    }
}

/// Watches facts go by.
pub struct Detector {
    limits: Limits,
    window: VecDeque<Hit>,
    counted: Counted,
    /// Hits at the end of the window that no burst has counted.
    fresh: usize,
    open: Option<Open>,
    came: Lately,
    gone: Lately,
}

impl Detector {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Detector {
            limits,
            window: VecDeque::new(),
            counted: Counted::default(),
            fresh: 0,
            open: None,
            came: Lately::default(),
            gone: Lately::default(),
        }
    }

    /// Takes the next fact; a burst that is over because of it.
    pub(super) fn fact(&mut self, fact: &Fact) -> Option<Span> {
        let hit = Hit {
            lsn: fact.lsn,
            last: fact.lsn,
            time: fact.time,
            node: fact.node,
            by: None,
            rewritten: true,
            renamed: false,
            rescan: fact.rescan,
        };
        let before = fact.time.0.saturating_sub(self.limits.window_ns);
        self.came.forget(before, self.limits.remembered_max);
        self.gone.forget(before, self.limits.remembered_max);
        match &fact.what {
            What::Edited => None,
            What::Rewritten => self.hit(hit),
            What::Renamed { from, to } if from.name == to.name => None,
            What::Renamed { .. } => self.hit(Hit { rewritten: false, renamed: true, ..hit }),
            What::Replaced { by, .. } => self.hit(Hit { by: Some(*by), ..hit }),
            What::Gone { at } => match self.came.begins_with(at, fact.node) {
                Some((by, lsn, same)) => {
                    self.hit(Hit { by: Some(by), renamed: !same, lsn: lsn.min(fact.lsn), ..hit })
                }
                None => {
                    self.gone.add(fact.time, at, fact.node, fact.lsn);
                    None
                }
            },
            What::Came { at } => match self.gone.begins(at) {
                Some((node, lsn, same)) if node != fact.node => {
                    self.hit(Hit { node, by: Some(fact.node), renamed: !same, lsn: lsn.min(fact.lsn), ..hit })
                }
                _ => {
                    self.came.add(fact.time, at, fact.node, fact.lsn);
                    None
                }
            },
        }
    }

    /// Forgets everything; the burst that was going on. What follows is another story.
    #[must_use]
    pub fn cut(&mut self) -> Option<Span> {
        std::mem::replace(self, Detector::new(self.limits)).finish()
    }

    /// The burst that is still going on, when there are no more facts.
    #[must_use]
    pub fn finish(self) -> Option<Span> {
        self.open.map(|open| open.span)
    }

    fn hit(&mut self, hit: Hit) -> Option<Span> {
        let over = self.close_before(hit.time);
        let before = hit.time.0.saturating_sub(self.limits.window_ns);
        while self.window.len() >= self.limits.remembered_max
            || self.window.front().is_some_and(|old| old.time.0 < before)
        {
            let Some(old) = self.window.pop_front() else { break };
            self.counted.change(&old, -1);
        }
        self.counted.change(&hit, 1);
        self.window.push_back(hit);
        self.fresh = (self.fresh + 1).min(self.window.len());
        let (rewritten, renamed) = (self.counted.rewritten.len(), self.counted.renamed.len());
        if self.open.is_none() && rewritten.max(renamed) >= self.limits.files {
            self.fresh = self.window.len();
            self.open = self.window.front().map(Open::new);
        }
        let dense = self.counted.any.len() >= (self.limits.files / 6).max(1);
        if let Some(open) = self.open.as_mut().filter(|_| dense) {
            for hit in self.window.range(self.window.len() - self.fresh..) {
                open.count(hit, &self.limits);
            }
            self.fresh = 0;
            open.span.rewritten_most = open.span.rewritten_most.max(rewritten);
            open.span.renamed_most = open.span.renamed_most.max(renamed);
        }
        over
    }

    fn close_before(&mut self, time: Timestamp) -> Option<Span> {
        let paused = |open: &mut Open| time.0.saturating_sub(open.span.end.0) > self.limits.pause_ns;
        self.open.take_if(paused).map(|open| open.span)
    }
}

impl Open {
    fn new(first: &Hit) -> Self {
        let span = Span {
            first: first.lsn,
            last: first.lsn,
            begin: first.time,
            end: first.time,
            files: 0,
            rewritten: 0,
            renamed: 0,
            rewritten_most: 0,
            renamed_most: 0,
            rescanned: 0,
            sample: Vec::new(),
        };
        Open { span, files: HashSet::new(), seen: 0 }
    }

    fn count(&mut self, hit: &Hit, limits: &Limits) {
        let span = &mut self.span;
        span.first = span.first.min(hit.lsn);
        span.last = span.last.max(hit.last);
        span.end = span.end.max(hit.time);
        span.rewritten += u64::from(hit.rewritten);
        span.renamed += u64::from(hit.renamed);
        span.rescanned += u64::from(hit.rescan);
        let known = self.files.contains(&hit.node);
        if known {
            // What became of it in the end is what counts.
            if let Some(one) = span.sample.iter_mut().find(|one| one.node == hit.node && hit.by.is_some()) {
                (one.lsn, one.by) = (hit.lsn, hit.by);
            }
            return;
        }
        if self.files.len() < limits.files_max {
            self.files.insert(hit.node);
        }
        span.files += 1;
        // A sample in which every file of the burst is as likely as every other, and which is the same each time.
        self.seen += 1;
        let one = Sampled { node: hit.node, lsn: hit.lsn, by: hit.by };
        if span.sample.len() < limits.sampled_max {
            span.sample.push(one);
        } else if let Some(place) = span.sample.get_mut((spread(self.seen) % self.seen) as usize) {
            *place = one;
        }
    }
}

/// A number that looks random and is not.
fn spread(n: u64) -> u64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

#[cfg(test)]
mod tests;
