//! The state file of the spool, and opening. Layout in `FORMAT.md`.
//!
//! The file is replaced as a whole: new bytes under a temporary name, synced, renamed, directory synced.

use super::queue::Queue;
use super::segment::{Segment, file_name, path as segment_path};
use super::{Spool, SpoolError, SpoolOpened, SpoolOptions};
use bytes::{Buf, BufMut};
use journal::{Disk, Lsn, Timestamp};
use parking_lot::{Condvar, Mutex};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use wire::stream::{Dial, JournalId, MeetingId};

const FILE: &str = "state";
const TEMPORARY: &str = "state.new";
const MAGIC: [u8; 8] = *b"RWSPSTA\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
/// A file with more is refused: 5 TiB of segments of 16 MiB have a state of 13 MiB.
const BODY_BYTES_MAX: usize = 64 << 20;
const FIXED_BYTES: usize = 1 + 16 + 6 * 8 + 2 * 4;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub journal: Option<JournalId>,
    pub meeting: Option<MeetingId>,
    pub acknowledged: u64,
    pub clean: Option<Clean>,
}

/// What a clean stop left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clean {
    pub captured: u64,
    pub time: Timestamp,
    pub next_place: u64,
    pub next_segment: u64,
    pub released: u64,
    pub segments: Vec<Segment>,
    pub skips: Vec<(u64, u64)>,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let none = Clean::default();
        let clean = self.clean.as_ref().unwrap_or(&none);
        let mut body = Vec::new();
        let (clean_bit, journal_bit) = (u8::from(self.clean.is_some()), u8::from(self.journal.is_some()));
        body.put_u8(clean_bit | (journal_bit << 1) | (u8::from(self.meeting.is_some()) << 2));
        body.put_slice(&self.journal.map_or([0; 16], |id| id.0));
        body.put_u64_le(self.acknowledged);
        body.put_u64_le(clean.captured);
        body.put_i64_le(clean.time.0);
        body.put_u64_le(clean.next_place);
        body.put_u64_le(clean.next_segment);
        body.put_u64_le(clean.released);
        body.put_u32_le(clean.segments.len() as u32);
        body.put_u32_le(clean.skips.len() as u32);
        for segment in &clean.segments {
            let Segment { number, first_place, last_place, last_lsn, bytes } = *segment;
            for number in [number, first_place, last_place, last_lsn, bytes] {
                body.put_u64_le(number);
            }
        }
        for (from, to) in &clean.skips {
            body.put_u64_le(*from);
            body.put_u64_le(*to);
        }
        if let Some(meeting) = self.meeting {
            body.put_slice(&meeting.0);
        }
        let mut file = Vec::with_capacity(HEADER_BYTES + body.len());
        file.put_slice(&MAGIC);
        file.put_u32_le(VERSION);
        file.put_u32_le(body.len() as u32);
        file.put_u32_le(crc32c::crc32c(&body));
        file.put_slice(&body);
        file
    }

    fn decode(path: &Path, mut file: &[u8]) -> Result<State, SpoolError> {
        let damaged = |what| SpoolError::Damaged { path: path.to_path_buf(), offset: 0, what };
        if file.len() < HEADER_BYTES {
            return Err(damaged("the file is too short"));
        }
        if file.copy_to_bytes(MAGIC.len()) != MAGIC.as_slice() {
            return Err(damaged("not a spool state"));
        }
        let version = file.get_u32_le();
        if version != VERSION {
            return Err(SpoolError::NewerVersion { path: path.to_path_buf(), version });
        }
        let (length, crc) = (file.get_u32_le() as usize, file.get_u32_le());
        if length != file.len() || crc32c::crc32c(file) != crc || length < FIXED_BYTES {
            return Err(damaged("a wrong length or checksum"));
        }
        let flags = file.get_u8();
        let (mut journal, mut meeting) = ([0; 16], [0; 16]);
        file.copy_to_slice(&mut journal);
        let mut state = State {
            journal: (flags & 2 != 0).then_some(JournalId(journal)),
            meeting: None,
            acknowledged: file.get_u64_le(),
            clean: None,
        };
        let mut clean = Clean {
            captured: file.get_u64_le(),
            time: Timestamp(file.get_i64_le()),
            next_place: file.get_u64_le(),
            next_segment: file.get_u64_le(),
            released: file.get_u64_le(),
            ..Clean::default()
        };
        let (segments, skips) = (file.get_u32_le() as usize, file.get_u32_le() as usize);
        let tail = if flags & 4 != 0 { meeting.len() } else { 0 };
        if segments.saturating_mul(40).saturating_add(skips.saturating_mul(16)).saturating_add(tail)
            != file.len()
        {
            return Err(damaged("counts that do not fit the length"));
        }
        clean.segments.extend((0..segments).map(|_| Segment {
            number: file.get_u64_le(),
            first_place: file.get_u64_le(),
            last_place: file.get_u64_le(),
            last_lsn: file.get_u64_le(),
            bytes: file.get_u64_le(),
        }));
        clean.skips.extend((0..skips).map(|_| (file.get_u64_le(), file.get_u64_le())));
        if tail > 0 {
            file.copy_to_slice(&mut meeting);
            state.meeting = Some(MeetingId(meeting));
        }
        state.clean = (flags & 1 != 0).then_some(clean);
        Ok(state)
    }
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SpoolError {
    let path = path.to_path_buf();
    move |source| SpoolError::File { operation, path, source }
}

fn read(disk: &dyn Disk, directory: &Path) -> Result<State, SpoolError> {
    let path = directory.join(FILE);
    let file = disk.open(&path).map_err(file_error("open", &path))?;
    let length = file.len().map_err(file_error("read", &path))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > BODY_BYTES_MAX + HEADER_BYTES {
        return Err(SpoolError::Damaged { path, offset: 0, what: "the file is too long" });
    }
    let mut bytes = vec![0; length];
    let got = file.read_at(&mut bytes, 0).map_err(file_error("read", &path))?;
    bytes.truncate(got);
    State::decode(&path, &bytes)
}

fn write(disk: &dyn Disk, directory: &Path, state: &State) -> Result<(), SpoolError> {
    let (path, temporary) = (directory.join(FILE), directory.join(TEMPORARY));
    // One may be left of an earlier attempt; that there is none is the usual case.
    drop(disk.remove(&temporary));
    let file = disk.create(&temporary).map_err(file_error("create", &temporary))?;
    file.write_at(&state.encode(), 0).map_err(file_error("write", &temporary))?;
    file.sync_data().map_err(file_error("sync", &temporary))?;
    disk.rename(&temporary, &path).map_err(file_error("rename", &path))?;
    disk.sync_dir(directory).map_err(file_error("sync", directory))
}

/// As [`Spool::persist`]; with `segments` as [`Spool::close`], which has made them durable.
pub(super) fn persist(spool: &Spool, segments: Option<Vec<Segment>>) -> Result<(), SpoolError> {
    let mut last = spool.persisting.lock();
    let state = {
        let queue = spool.queue.lock();
        let clean = segments.zip(queue.captured).map(|(segments, captured)| Clean {
            captured,
            time: queue.time,
            next_place: queue.next_place,
            next_segment: queue.next_segment,
            released: queue.released,
            segments,
            skips: queue.skips.iter().copied().collect(),
        });
        State { journal: queue.journal, meeting: queue.meeting, acknowledged: queue.acknowledged, clean }
    };
    // Once closed cleanly the file stays so: a straggler must not take the word back.
    let closed = last.as_ref().is_some_and(|last| last.clean.is_some());
    if last.as_ref() == Some(&state) || closed {
        return Ok(());
    }
    write(&*spool.disk, &spool.options.directory, &state)?;
    *last = Some(state);
    Ok(())
}

/// As [`Spool::open`].
pub(super) fn open(disk: Arc<dyn Disk>, options: SpoolOptions) -> Result<(Spool, SpoolOpened), SpoolError> {
    let directory = options.directory.clone();
    disk.create_dir_all(&directory).map_err(file_error("create", &directory))?;
    let names = disk.list(&directory).map_err(file_error("list", &directory))?;
    let found =
        if names.iter().any(|name| name == FILE) { read(&*disk, &directory)? } else { State::default() };
    let mut queue = Queue::default();
    (queue.journal, queue.meeting, queue.acknowledged) = (found.journal, found.meeting, found.acknowledged);
    match found.clean {
        Some(clean) if is_whole(&*disk, &directory, &clean, found.acknowledged) => queue.restore(clean),
        Some(_) => {
            tracing::warn!(directory = %directory.display(), "the spool is not as it was closed: discarded")
        }
        None => {}
    }
    // First the word, then the files it spoke of: a crash in between finds an unclean spool, never a clean one with
    // files missing.
    let state = State {
        journal: found.journal,
        meeting: found.meeting,
        acknowledged: found.acknowledged,
        clean: None,
    };
    write(&*disk, &directory, &state)?;
    let kept: Vec<String> = queue.segments.iter().map(|segment| file_name(segment.number)).collect();
    for name in names.iter().filter(|name| name.ends_with(".spool") && !kept.contains(name)) {
        let path = directory.join(name);
        disk.remove(&path).map_err(file_error("remove", &path))?;
    }
    let opened = SpoolOpened {
        journal: queue.journal,
        acknowledged: Lsn::captured(queue.acknowledged),
        captured: queue.captured.map(Lsn::captured),
    };
    let spool = Spool {
        options,
        disk,
        emitting: Mutex::new(()),
        queue: Mutex::new(queue),
        moved: Condvar::new(),
        persisting: Mutex::new(Some(state)),
        dials: Mutex::new(Dial { life: some_number(), number: 0 }),
    };
    Ok((spool, opened))
}

/// Another one for each life of the process, and never 0.
fn some_number() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// As [`Spool::inspect`].
pub(super) fn inspect(disk: &dyn Disk, directory: &Path) -> Result<Option<SpoolOpened>, SpoolError> {
    let names = match disk.list(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        names => names.map_err(file_error("list", directory))?,
    };
    if !names.iter().any(|name| name == FILE) {
        return Ok(None);
    }
    let found = read(disk, directory)?;
    let clean = found.clean.filter(|clean| is_whole(disk, directory, clean, found.acknowledged));
    Ok(Some(SpoolOpened {
        journal: found.journal,
        acknowledged: Lsn::captured(found.acknowledged),
        captured: clean.map(|clean| Lsn::captured(clean.captured)),
    }))
}

/// Whether all files are there, and places and LSNs are as they must be; their bytes are checked when they are read.
fn is_whole(disk: &dyn Disk, directory: &Path, clean: &Clean, acknowledged: u64) -> bool {
    let lengths = clean.segments.iter().all(|segment| {
        let file = disk.open(&segment_path(directory, segment.number));
        file.and_then(|file| file.len()).is_ok_and(|length| length > 0)
    });
    let contiguous =
        clean.segments.is_sorted_by(|a, b| a.last_place + 1 == b.first_place && a.last_lsn <= b.last_lsn);
    let ends = match clean.segments.last() {
        Some(last) => last.last_place + 1 == clean.next_place && last.last_lsn >= clean.captured,
        None => acknowledged == clean.captured,
    };
    let first = clean.segments.first().map_or(clean.next_place, |segment| segment.first_place);
    let begins = (first..=clean.next_place).contains(&clean.released);
    lengths && contiguous && begins && ends && acknowledged <= clean.captured
}

impl Queue {
    fn restore(&mut self, clean: Clean) {
        self.captured = Some(clean.captured);
        self.time = clean.time;
        self.next_place = clean.next_place;
        self.next_segment = clean.next_segment;
        self.released = clean.released;
        self.disk_bytes = clean.segments.iter().map(|segment| segment.bytes).sum();
        self.segments = clean.segments.into();
        self.skips = clean.skips.into();
    }

    /// The segments, if nothing is left in memory.
    pub(super) fn segments_for_state(&self) -> Vec<Segment> {
        self.segments.iter().cloned().collect()
    }
}
