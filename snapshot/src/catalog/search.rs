//! Running a search over all segments, in pieces and on several threads.
//!
//! The order of paths is cut at block boundaries into pieces of some dozens of blocks. Each piece is searched by itself:
//! the cursors of all segments that reach into it are merged, so each path comes up once for each entity with all its
//! events. Pieces are searched in waves, each a little larger than the one before: the first results are there after
//! the first wave, and a search without results soon keeps every core busy. No piece is begun
//! once a page is full, so what waits in memory is about a page for each thread.

use super::cursor::{Cursor, Merge, Select};
use super::error::CatalogError;
use super::path::{KeyBuf, Span};
use super::state::{EntityState, Snapshot};
use super::types::Event;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pieces of a wave for each thread, at the most.
const WAVE_MAX: usize = 16;
const THREADS_MAX: usize = 8;

/// An entity that is searched.
pub(super) struct Owner<'s> {
    pub state: &'s EntityState,
    pub select: &'s dyn Select,
    pub spans: &'s [Span],
}

/// The place behind which a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct After {
    pub path: Vec<u8>,
    pub entity: u32,
}

/// Makes a result of a path: index of its entity, path, events.
pub(super) type Judge<'s, T> = dyn Fn(usize, &[u8], &[Event]) -> Option<T> + Sync + 's;

/// A search. `judge` makes a result of a path, given the index of its entity and its events; or nothing.
pub(super) struct Search<'s, T> {
    pub owners: Vec<Owner<'s>>,
    pub after: Option<After>,
    /// Results after which it ends.
    pub limit: usize,
    pub judge: &'s Judge<'s, T>,
}

/// What the threads of a wave have found.
struct Done<T> {
    /// With the numbers of the pieces.
    pieces: Vec<(usize, Result<Vec<T>, CatalogError>)>,
    total: usize,
}

/// Where the order of paths is cut.
fn cuts(snapshot: &Snapshot) -> &[KeyBuf] {
    snapshot.cuts.get_or_init(|| {
        let segments = snapshot.entities.iter().flat_map(|entity| &entity.segments);
        let mut firsts: Vec<&KeyBuf> =
            segments.flat_map(|segment| &segment.blocks).map(|block| &block.first).collect();
        firsts.sort_unstable_by(|a, b| a.as_key().cmp(&b.as_key()));
        let mut cuts: Vec<KeyBuf> =
            firsts.into_iter().step_by(snapshot.piece_blocks).skip(1).cloned().collect();
        cuts.dedup();
        cuts
    })
}

impl<T: Send> Search<'_, T> {
    /// The results, in order, of entities within a path in the order of their numbers.
    pub(super) fn run(&self, snapshot: &Snapshot, in_pieces: bool) -> Result<Vec<T>, CatalogError> {
        let pieces = self.pieces(if in_pieces { cuts(snapshot) } else { &[] });
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let mut results = Vec::new();
        let mut rest = pieces.as_slice();
        let mut wave = threads;
        while !rest.is_empty() && results.len() < self.limit {
            let (now, later) = rest.split_at(wave.min(rest.len()));
            for found in self.wave(now, threads)? {
                results.extend(found);
            }
            (rest, wave) = (later, (wave * 2).min(threads * WAVE_MAX));
        }
        results.truncate(self.limit);
        Ok(results)
    }

    /// What is to be searched, cut.
    fn pieces(&self, cuts: &[KeyBuf]) -> Vec<Span> {
        let mut hull: Option<Span> = None;
        for span in self.owners.iter().flat_map(|owner| owner.spans) {
            hull = Some(match hull {
                None => span.clone(),
                Some(hull) => hull.hull(span),
            });
        }
        let Some(mut hull) = hull else { return Vec::new() };
        if let Some(after) = &self.after {
            hull = hull.and(&Span { low: super::path::split(&after.path).to_buf(), high: None });
        }
        let first = cuts.partition_point(|cut| cut.as_key() <= hull.low.as_key());
        let inside = cuts.get(first..).unwrap_or_default();
        let count = inside.partition_point(|cut| hull.is_before_end(cut.as_key()));
        let mut pieces = Vec::with_capacity(count + 1);
        for cut in inside.iter().take(count) {
            pieces.push(Span { low: hull.low, high: Some(cut.clone()) });
            hull.low = cut.clone();
        }
        pieces.push(hull);
        pieces
    }

    fn wave(&self, pieces: &[Span], threads: usize) -> Result<Vec<Vec<T>>, CatalogError> {
        if let [only] = pieces {
            return Ok(vec![self.piece(only)?]);
        }
        let next = AtomicUsize::new(0);
        // Pieces are begun in order. So as soon as what was found fills the page, none needs to be begun, and what waits
        // in memory is a page for each thread, however much there is to be found.
        let last = AtomicUsize::new(usize::MAX);
        let done = Mutex::new(Done { pieces: Vec::new(), total: 0 });
        std::thread::scope(|scope| {
            for _ in 0..threads.min(pieces.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(piece) = pieces.get(index) else { return };
                        if index > last.load(Ordering::Relaxed) {
                            return;
                        }
                        let found = self.piece(piece);
                        let count = found.as_ref().map_or(0, Vec::len);
                        let mut done = done.lock();
                        done.total = done.total.saturating_add(count);
                        if count >= self.limit {
                            last.fetch_min(index, Ordering::Relaxed);
                        } else if done.total >= self.limit {
                            last.fetch_min(next.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
                        }
                        done.pieces.push((index, found));
                    }
                });
            }
        });
        let last = last.into_inner();
        let mut done = done.into_inner().pieces;
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().filter(|(index, _)| *index <= last).map(|(_, found)| found).collect()
    }

    fn piece(&self, piece: &Span) -> Result<Vec<T>, CatalogError> {
        let mut cursors = Vec::new();
        for (index, owner) in self.owners.iter().enumerate() {
            for span in owner.spans.iter().map(|span| span.and(piece)).filter(|span| !span.is_empty()) {
                for (age, segment) in owner.state.segments.iter().enumerate() {
                    if segment.last.as_key() >= span.low.as_key() {
                        cursors.push(Cursor::new(segment, index, age, &span, owner.select));
                    }
                }
            }
        }
        let mut results = Vec::new();
        let mut merge = Merge::new(cursors)?;
        while results.len() < self.limit && merge.advance()? {
            let is_seen = self.after.as_ref().is_some_and(|after| {
                let number = self.owners.get(merge.owner).map(|owner| owner.state.number);
                after.path == merge.path && number.is_some_and(|number| number <= after.entity)
            });
            if !is_seen {
                results.extend((self.judge)(merge.owner, &merge.path, &merge.events));
            }
        }
        Ok(results)
    }
}
