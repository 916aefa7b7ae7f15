//! Walking segments: one at a time, and several as if they were one.
//!
//! A cursor yields the paths of an interval in order, all of them or those that a selection lets through. A selection
//! looks at the paths alone, so a path that passes in one segment of an entity passes in each, and merging the cursors
//! yields it with all its events.

use super::block::{Events, Names};
use super::error::CatalogError;
use super::filter::Runs;
use super::path::{Key, Span};
use super::segment::{Segment, Unpacker};
use super::types::Event;
use std::cmp::Ordering;
use std::sync::Arc;

/// Chooses among the paths of a block.
pub(super) trait Select: Sync {
    /// Writes over `rows` the numbers of those in `within` that are wanted, rising.
    fn select(&self, names: &Names, within: std::ops::Range<u32>, rows: &mut Vec<u32>);
    /// Runs that every wanted path has.
    fn runs(&self) -> Option<&Runs> {
        None
    }
}

/// Takes all.
pub(super) struct All;

impl Select for All {
    fn select(&self, _names: &Names, within: std::ops::Range<u32>, rows: &mut Vec<u32>) {
        rows.clear();
        rows.extend(within);
    }
}

/// A walk over one segment.
pub(super) struct Cursor<'s> {
    segment: Arc<Segment>,
    select: &'s dyn Select,
    span: Span,
    /// Index into the list of entities of whoever made it.
    pub owner: usize,
    /// Greater for the newer of two segments of an entity.
    age: usize,
    block: usize,
    names: Names,
    events: Option<Events>,
    rows: Vec<u32>,
    at: usize,
    path: Vec<u8>,
    dir_bytes: usize,
}

impl<'s> Cursor<'s> {
    /// Stands before the first path of `span`.
    pub(super) fn new(
        segment: &Arc<Segment>,
        owner: usize,
        age: usize,
        span: &Span,
        select: &'s dyn Select,
    ) -> Self {
        Cursor {
            segment: Arc::clone(segment),
            select,
            span: span.clone(),
            owner,
            age,
            block: segment.first_block(span.low.as_key()),
            names: Names::default(),
            events: None,
            rows: Vec::new(),
            at: 0,
            path: Vec::new(),
            dir_bytes: 0,
        }
    }

    fn key(&self) -> Key<'_> {
        let (dir, rest) = self.path.split_at_checked(self.dir_bytes).unwrap_or_default();
        Key { dir, name: rest.get(1..).unwrap_or_default() }
    }

    /// Goes to the next path. Whether there is one.
    fn advance(&mut self, unpacker: &mut Unpacker) -> Result<bool, CatalogError> {
        loop {
            if let Some(row) = self.rows.get(self.at) {
                self.at += 1;
                let key = self.names.key(*row);
                self.dir_bytes = key.dir.len();
                key.write_to(&mut self.path);
                return Ok(true);
            }
            if !self.next_block(unpacker)? {
                return Ok(false);
            }
        }
    }

    fn next_block(&mut self, unpacker: &mut Unpacker) -> Result<bool, CatalogError> {
        (self.at, self.events) = (0, None);
        self.rows.clear();
        let Some(block) = self.segment.blocks.get(self.block) else { return Ok(false) };
        if !self.span.is_before_end(block.first.as_key()) {
            return Ok(false);
        }
        if let Some(runs) = self.select.runs()
            && !self.segment.may_hold(block, runs, unpacker)?
        {
            self.block += 1;
            return Ok(true);
        }
        self.names = self.segment.names(block, unpacker)?;
        let starts_inside = block.first.as_key() >= self.span.low.as_key();
        let next = self.segment.blocks.get(self.block + 1);
        let last = next.map_or(self.segment.last.as_key(), |next| next.first.as_key());
        let ends_inside = self.span.is_before_end(last);
        if !(starts_inside && ends_inside) {
            self.segment.check_names(block, &self.names)?;
        }
        let low = if starts_inside { 0 } else { self.names.lower_bound(self.span.low.as_key()) };
        let high = match &self.span.high {
            Some(high) if !ends_inside => self.names.lower_bound(high.as_key()),
            _ => self.names.rows(),
        };
        self.select.select(&self.names, low..high, &mut self.rows);
        if !self.rows.is_empty() {
            self.segment.check_names(block, &self.names)?;
        }
        self.block += 1;
        Ok(true)
    }

    /// The events of the present path.
    fn events(&mut self, unpacker: &mut Unpacker) -> Result<&[Event], CatalogError> {
        let row = self.at.checked_sub(1).and_then(|at| self.rows.get(at)).copied().unwrap_or_default();
        if self.events.is_none() {
            let block = self.block.checked_sub(1).and_then(|block| self.segment.blocks.get(block));
            self.events = block.map(|block| self.segment.events(block, unpacker)).transpose()?;
        }
        Ok(self.events.as_ref().map(|events| events.of(row)).unwrap_or_default())
    }
}

/// Several cursors as one. After [`Merge::advance`] its fields hold a path of an entity with its events in the order of
/// sessions, of which each has one: that of the newest segment.
pub(super) struct Merge<'s> {
    cursors: Vec<Cursor<'s>>,
    /// Indexes of cursors, the least first.
    heap: Vec<usize>,
    /// Cursors that stand on the present path.
    used: Vec<usize>,
    unpacker: Unpacker,
    pub path: Vec<u8>,
    dir_bytes: usize,
    pub owner: usize,
    pub events: Vec<Event>,
}

impl<'s> Merge<'s> {
    pub(super) fn new(cursors: Vec<Cursor<'s>>) -> Result<Self, CatalogError> {
        let used = (0..cursors.len()).collect();
        Ok(Merge {
            heap: Vec::with_capacity(cursors.len()),
            cursors,
            used,
            unpacker: Unpacker::new()?,
            path: Vec::new(),
            dir_bytes: 0,
            owner: 0,
            events: Vec::new(),
        })
    }

    pub(super) fn key(&self) -> Key<'_> {
        let (dir, rest) = self.path.split_at_checked(self.dir_bytes).unwrap_or_default();
        Key { dir, name: rest.get(1..).unwrap_or_default() }
    }

    /// By path, then entity, then newest segment first.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let (Some(a), Some(b)) = (self.cursors.get(a), self.cursors.get(b)) else { return Ordering::Equal };
        a.key().cmp(&b.key()).then(a.owner.cmp(&b.owner)).then(b.age.cmp(&a.age))
    }

    fn push(&mut self, cursor: usize) {
        let mut at = self.heap.len();
        self.heap.push(cursor);
        while at > 0 {
            let above = (at - 1) / 2;
            if !self.is_less(at, above) {
                return;
            }
            self.heap.swap(at, above);
            at = above;
        }
    }

    fn is_less(&self, a: usize, b: usize) -> bool {
        match (self.heap.get(a), self.heap.get(b)) {
            (Some(a), Some(b)) => self.compare(*a, *b).is_lt(),
            _ => false,
        }
    }

    fn pop(&mut self) -> Option<usize> {
        if self.heap.is_empty() {
            return None;
        }
        let least = self.heap.swap_remove(0);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if self.is_less(right, left) { right } else { left };
            if !self.is_less(child, at) {
                return Some(least);
            }
            self.heap.swap(child, at);
            at = child;
        }
    }

    /// Goes to the next path of an entity. Whether there is one.
    pub(super) fn advance(&mut self) -> Result<bool, CatalogError> {
        for cursor in std::mem::take(&mut self.used) {
            let next = self.cursors.get_mut(cursor).map(|cursor| cursor.advance(&mut self.unpacker));
            if next.transpose()? == Some(true) {
                self.push(cursor);
            }
        }
        self.events.clear();
        let Some(least) = self.pop() else { return Ok(false) };
        if let Some(cursor) = self.cursors.get_mut(least) {
            self.path.clone_from(&cursor.path);
            (self.dir_bytes, self.owner) = (cursor.dir_bytes, cursor.owner);
            self.events.extend_from_slice(cursor.events(&mut self.unpacker)?);
        }
        self.used.push(least);
        while let Some(next) = self.heap.first().copied() {
            match self.cursors.get_mut(next) {
                Some(cursor) if cursor.path == self.path && cursor.owner == self.owner => {
                    self.events.extend_from_slice(cursor.events(&mut self.unpacker)?);
                }
                _ => break,
            }
            self.pop();
            self.used.push(next);
        }
        if self.used.len() > 1 {
            // The sort is stable and the newest segment's events came first.
            self.events.sort_by_key(|event| event.session);
            self.events.dedup_by_key(|event| event.session);
        }
        Ok(true)
    }
}
