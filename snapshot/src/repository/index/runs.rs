//! Sorted runs of entries of fixed width, with a small map for the newest.
//!
//! Runs get smaller from first to last by at least a factor of two, so there are at most some 30, and look-ups are as
//! many binary searches. Equal ids may appear several times.

use std::collections::HashMap;

/// One place of one blob: 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub id: [u8; 32],
    pub pack: u32,
    pub offset: u32,
    pub length: u32,
    pub uncompressed_length: u32,
}

/// Entries in the map before it becomes a run.
const FRESH_MAX: usize = 16 << 10;

#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Vec<Entry>>,
    fresh: HashMap<[u8; 32], Entry>,
}

impl Runs {
    pub fn insert(&mut self, entry: Entry) {
        if let Some(other) = self.fresh.insert(entry.id, entry) {
            // The same blob in two packs: the map holds one place, so the rest goes where several fit.
            self.fresh.insert(other.id, other);
            self.push_run(vec![entry]);
        }
        if self.fresh.len() >= FRESH_MAX {
            let mut run: Vec<Entry> = self.fresh.drain().map(|(_, entry)| entry).collect();
            run.sort_unstable();
            self.push_run(run);
        }
    }

    /// Adds many at once.
    pub fn extend(&mut self, mut entries: Vec<Entry>) {
        if !entries.is_empty() {
            entries.sort_unstable();
            self.push_run(entries);
        }
    }

    fn push_run(&mut self, run: Vec<Entry>) {
        let mut run = run;
        while let Some(last) = self.runs.pop_if(|last| last.len() < 2 * run.len()) {
            run = merge(last, &run);
        }
        self.runs.push(run);
    }

    /// Calls `each` for all places of a blob until it returns false.
    pub fn find(&self, id: &[u8; 32], each: &mut dyn FnMut(&Entry) -> bool) {
        if self.fresh.get(id).is_some_and(|entry| !each(entry)) {
            return;
        }
        for run in &self.runs {
            let first = run.partition_point(|entry| entry.id < *id);
            let equal = run.get(first..).unwrap_or_default().iter().take_while(|entry| entry.id == *id);
            for entry in equal {
                if !each(entry) {
                    return;
                }
            }
        }
    }

    /// Whether a blob has a place.
    pub fn contains(&self, id: &[u8; 32]) -> bool {
        let mut found = false;
        self.find(id, &mut |_| {
            found = true;
            false
        });
        found
    }

    /// Calls `each` until it returns false; whether it never did.
    pub fn for_each(&self, each: &mut dyn FnMut(&Entry) -> bool) -> bool {
        self.fresh.values().all(&mut *each) && self.runs.iter().flatten().all(each)
    }

    pub fn len(&self) -> usize {
        self.fresh.len() + self.runs.iter().map(Vec::len).sum::<usize>()
    }

    pub fn memory_bytes(&self) -> usize {
        let entries = self.runs.iter().map(Vec::capacity).sum::<usize>() + 2 * self.fresh.capacity();
        entries * size_of::<Entry>()
    }
}

/// Merges in place at the end of `large`, from the back, so that only `small` is there twice.
fn merge(mut large: Vec<Entry>, small: &[Entry]) -> Vec<Entry> {
    let Some(filler) = small.first() else { return large };
    let mut left = large.len();
    let mut right = small.len();
    large.reserve_exact(right);
    large.resize(left + right, *filler);
    while right > 0 {
        let from_small = small.get(right - 1);
        let from_large = left.checked_sub(1).and_then(|at| large.get(at)).copied();
        let next = match (from_large, from_small) {
            (Some(a), Some(b)) if a > *b => {
                left -= 1;
                a
            }
            (_, Some(b)) => {
                right -= 1;
                *b
            }
            (_, None) => break,
        };
        if let Some(place) = large.get_mut(left + right) {
            *place = next;
        }
    }
    large
}
