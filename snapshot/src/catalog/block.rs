//! A block: some thousand paths and their events, as two parts that are compressed apart.
//!
//! The path part holds each directory once and then the names of its entries, so a search decompresses and scans a
//! quarter of the bytes that whole paths would take, and never touches the events of what does not match. Directories
//! are stored as `dir / NUL` and names as `name NUL`: no path has a NUL, so a text that is searched for cannot be found
//! across two of them.
//!
//! Parts come from the disk behind a checksum; what they say is checked all the same before it is used, because a
//! checksum says that bytes are those written, not that they were right.

use super::codec::{Take, TakeVariable, put_u32, put_u64, put_varint, unzigzag, zigzag};
use super::path::Key;
use super::types::{EntryKind, Event, Modified, Row};
use std::ops::Range;

/// A block is closed when it has as many paths,
pub(super) const BLOCK_ROWS: usize = 4096;
/// or as many events,
pub(super) const BLOCK_EVENTS: usize = 65_536;
/// or as many bytes of names and directories.
pub(super) const BLOCK_PATH_BYTES: usize = 256 << 10;
/// More events of one path cannot be: there are no more sessions of an entity.
pub(super) const EVENTS_OF_PATH_MAX: usize = 65_536;
/// No path part is longer before compression: a full block, one longest path more, the numbers.
pub(super) const PATH_PART_BYTES_MAX: usize = 512 << 10;
/// No event part is longer before compression: 39 bytes for each of less than two times 65,536 events, and the counts.
pub(super) const EVENT_PART_BYTES_MAX: usize = 8 << 20;

const REMOVED: u8 = 0;

/// Paths of a block under construction.
#[derive(Debug, Default)]
pub(super) struct NamesBuilder {
    rows: u32,
    groups: Vec<(u32, u32, u32)>,
    dirs: Vec<u8>,
    names: Vec<u8>,
    last_dir: Vec<u8>,
}

impl NamesBuilder {
    pub(super) fn push(&mut self, key: Key<'_>) {
        let name_bytes = key.name.len() as u32 + 1;
        match self.groups.last_mut().filter(|_| self.last_dir == key.dir) {
            Some((rows, _, names)) => {
                *rows += 1;
                *names += name_bytes;
            }
            None => {
                self.dirs.extend_from_slice(key.dir);
                self.dirs.extend_from_slice(b"/\0");
                self.groups.push((1, key.dir.len() as u32, name_bytes));
                self.last_dir.clear();
                self.last_dir.extend_from_slice(key.dir);
            }
        }
        self.names.extend_from_slice(key.name);
        self.names.push(0);
        self.rows += 1;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows as usize
    }

    pub(super) fn bytes(&self) -> usize {
        self.dirs.len() + self.names.len()
    }

    /// Writes the part over `out` and starts anew.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.clear();
        put_u32(out, self.rows);
        put_u32(out, self.groups.len() as u32);
        for (rows, dir, names) in self.groups.drain(..) {
            put_varint(out, u64::from(rows));
            put_varint(out, u64::from(dir));
            put_varint(out, u64::from(names));
        }
        out.extend_from_slice(&self.dirs);
        out.extend_from_slice(&self.names);
        self.dirs.clear();
        self.names.clear();
        self.rows = 0;
    }
}

/// Entries of one directory in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Number of its first path in the block.
    pub first: u32,
    /// How many there are.
    pub rows: u32,
    dir_at: u32,
    dir_bytes: u32,
    names_at: u32,
    names_bytes: u32,
}

impl Group {
    pub(super) fn range(&self) -> Range<u32> {
        self.first..self.first.saturating_add(self.rows)
    }
}

/// The paths of a block.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    groups: Vec<Group>,
    dirs: Range<usize>,
    names: Range<usize>,
    rows: u32,
    /// Where each name begins among the names, and where the last one ends; made when first needed.
    starts: std::cell::OnceCell<Vec<u32>>,
}

impl Names {
    /// Takes a part apart. `None` if it is not one.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut take = Take(&bytes);
        let (rows, count) = (take.u32()?, take.u32()?);
        if rows as usize > BLOCK_ROWS || count > rows {
            return None;
        }
        let mut groups = Vec::with_capacity(count as usize);
        let (mut first, mut dir_at, mut names_at) = (0_u32, 0_u32, 0_u32);
        for _ in 0..count {
            let (rows, dir_bytes, names_bytes) = (take.varint_u32()?, take.varint_u32()?, take.varint_u32()?);
            groups.push(Group { first, rows, dir_at, dir_bytes, names_at, names_bytes });
            first = first.checked_add(rows)?;
            dir_at = dir_at.checked_add(dir_bytes)?.checked_add(2)?;
            names_at = names_at.checked_add(names_bytes)?;
        }
        let start = bytes.len().checked_sub(take.0.len())?;
        let middle = start.checked_add(dir_at as usize)?;
        let end = middle.checked_add(names_at as usize)?;
        let sound = first == rows && end == bytes.len() && (rows == 0 || bytes.last() == Some(&0));
        let (dirs, names) = (start..middle, middle..end);
        sound.then(|| Names { bytes, groups, dirs, names, rows, starts: std::cell::OnceCell::new() })
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// All directories, each as `dir / NUL`.
    pub(super) fn dirs_text(&self) -> &[u8] {
        self.bytes.get(self.dirs.clone()).unwrap_or_default()
    }

    /// All names, each as `name NUL`.
    pub(super) fn names_text(&self) -> &[u8] {
        self.bytes.get(self.names.clone()).unwrap_or_default()
    }

    /// The directory of a group, with the slash behind it.
    pub(super) fn dir_slash(&self, group: &Group) -> &[u8] {
        let at = group.dir_at as usize;
        self.dirs_text().get(at..at + group.dir_bytes as usize + 1).unwrap_or_default()
    }

    /// The directory of a group.
    pub(super) fn dir(&self, group: &Group) -> &[u8] {
        let at = group.dir_at as usize;
        self.dirs_text().get(at..at + group.dir_bytes as usize).unwrap_or_default()
    }

    fn starts(&self) -> &[u32] {
        self.starts.get_or_init(|| {
            let mut starts = Vec::with_capacity(self.rows as usize + 1);
            starts.push(0);
            starts.extend(memchr::memchr_iter(0, self.names_text()).map(|at| at as u32 + 1));
            starts
        })
    }

    /// Whether each group has as many names as it says; else the part is not sound. Looked at before names are.
    pub(super) fn is_sound(&self) -> bool {
        let starts = self.starts();
        starts.len() == self.rows as usize + 1
            && self.groups.iter().all(|group| {
                let end = group.first as usize + group.rows as usize;
                starts.get(group.first as usize) == Some(&group.names_at)
                    && starts.get(end) == Some(&(group.names_at + group.names_bytes))
            })
    }

    /// The name of a path.
    pub(super) fn name(&self, row: u32) -> &[u8] {
        let starts = self.starts();
        let from = starts.get(row as usize).map_or(0, |at| *at as usize);
        let to = starts.get(row as usize + 1).map_or(0, |at| (*at as usize).saturating_sub(1));
        self.names_text().get(from..to).unwrap_or_default()
    }

    /// The path whose name has the byte at `at` among the names.
    pub(super) fn row_of_name_byte(&self, at: usize) -> u32 {
        self.starts().partition_point(|start| *start as usize <= at).saturating_sub(1) as u32
    }

    /// Where the name of a path ends among the names.
    pub(super) fn name_end(&self, row: u32) -> usize {
        self.starts().get(row as usize + 1).map_or(usize::MAX, |at| *at as usize)
    }

    /// The group whose directory has the byte at `at` among the directories.
    pub(super) fn group_of_dir_byte(&self, at: usize) -> usize {
        self.groups.partition_point(|group| group.dir_at as usize <= at).saturating_sub(1)
    }

    /// Where the directory of a group ends among the directories.
    pub(super) fn dir_end(&self, group: usize) -> usize {
        self.groups.get(group + 1).map_or(usize::MAX, |next| next.dir_at as usize)
    }

    /// The group of a path.
    pub(super) fn group_of(&self, row: u32) -> Option<&Group> {
        let at = self.groups.partition_point(|group| group.first <= row).checked_sub(1)?;
        self.groups.get(at)
    }

    pub(super) fn key(&self, row: u32) -> Key<'_> {
        let dir = self.group_of(row).map(|group| self.dir(group)).unwrap_or_default();
        Key { dir, name: self.name(row) }
    }

    /// Number of paths before `key`.
    pub(super) fn lower_bound(&self, key: Key<'_>) -> u32 {
        let before = |group: &Group| super::path::compare_dirs(self.dir(group), key.dir).is_lt();
        let Some(group) = self.groups.get(self.groups.partition_point(before)) else { return self.rows };
        if self.dir(group) != key.dir {
            return group.first;
        }
        let (mut low, mut high) = (group.first, group.range().end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(middle) < key.name {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Events of a block under construction.
#[derive(Debug, Default)]
pub(super) struct EventsBuilder {
    counts: Vec<u32>,
    events: Vec<Event>,
}

impl EventsBuilder {
    pub(super) fn push(&mut self, events: &[Event]) {
        self.counts.push(events.len() as u32);
        self.events.extend_from_slice(events);
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Writes the part over `out` and starts anew. One column after the other: what is alike lies together.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.clear();
        put_u32(out, self.counts.len() as u32);
        put_u32(out, self.events.len() as u32);
        self.counts.iter().for_each(|count| put_varint(out, u64::from(*count)));
        self.events.iter().for_each(|event| put_varint(out, u64::from(event.session)));
        out.extend(self.events.iter().map(|event| event.row.map_or(REMOVED, |row| row.kind as u8)));
        let rows = || self.events.iter().filter_map(|event| event.row);
        rows().for_each(|row| put_varint(out, row.size));
        let mut before = 0_i64;
        for row in rows() {
            put_varint(out, zigzag(row.modified.seconds.wrapping_sub(before)));
            before = row.modified.seconds;
        }
        rows().for_each(|row| put_varint(out, u64::from(row.modified.nanoseconds)));
        rows().for_each(|row| put_u64(out, row.content));
        self.counts.clear();
        self.events.clear();
    }
}

/// The events of a block.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Where the events of each path begin, and where the last ones end.
    starts: Vec<u32>,
    events: Vec<Event>,
}

impl Events {
    /// Takes a part apart that is to belong to `rows` paths. `None` if it is not one.
    pub(super) fn decode(bytes: &[u8], rows: u32) -> Option<Self> {
        let mut take = Take(bytes);
        let (count, total) = (take.u32()?, take.u32()? as usize);
        if count != rows || total >= BLOCK_EVENTS + EVENTS_OF_PATH_MAX {
            return None;
        }
        let mut starts = Vec::with_capacity(rows as usize + 1);
        let mut at = 0_u32;
        starts.push(at);
        for _ in 0..rows {
            at = at.checked_add(take.varint_u32()?)?;
            starts.push(at);
        }
        if at as usize != total {
            return None;
        }
        let mut events = Vec::with_capacity(total);
        for _ in 0..total {
            events.push(Event { session: take.varint_u32()?, row: None });
        }
        for (event, byte) in events.iter_mut().zip(take.bytes(total)?) {
            if *byte != REMOVED {
                let kind = EntryKind::from_byte(*byte)?;
                event.row = Some(Row { kind, size: 0, modified: Modified::default(), content: 0 });
            }
        }
        Self::columns(&mut take, &mut events)?;
        take.0.is_empty().then_some(Events { starts, events })
    }

    fn columns(take: &mut Take<'_>, events: &mut [Event]) -> Option<()> {
        for row in events.iter_mut().filter_map(|event| event.row.as_mut()) {
            row.size = take.varint()?;
        }
        let mut before = 0_i64;
        for row in events.iter_mut().filter_map(|event| event.row.as_mut()) {
            before = before.wrapping_add(unzigzag(take.varint()?));
            row.modified.seconds = before;
        }
        for row in events.iter_mut().filter_map(|event| event.row.as_mut()) {
            row.modified.nanoseconds = take.varint_u32()?;
        }
        for row in events.iter_mut().filter_map(|event| event.row.as_mut()) {
            row.content = take.u64()?;
        }
        Some(())
    }

    pub(super) fn of(&self, row: u32) -> &[Event] {
        let from = self.starts.get(row as usize).map_or(0, |at| *at as usize);
        let to = self.starts.get(row as usize + 1).map_or(0, |at| *at as usize);
        self.events.get(from..to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
