//! The decoders under test, each as a function of bytes, with the memory it may take.
//!
//! A target that decodes goes on to use what it has decoded, as the product would: a value that no rule refuses must not
//! break what comes next. Files of a journal get their checksums put right first, else nothing behind them were tested.

use crate::kept::{Golden, THINNED, WHOLE};
use journal::journal::{Journal, TablesFactory};
use journal::log::{LogOptions, RecordAt, ShippedSegment, StoredRecord, verify};
use journal::record::{RedoRecord, UndoRecord};
use journal::state::{Change, NodeRow, PointRow, rows};
use journal::tables::MemoryTables;
use journal::thin::Tiers;
use journal::view::View;
use journal::{Disk, JournalError, Lsn, NodeId, PayloadAt, RootNo, Space, Tables, Timestamp};
use prost::Message;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::lab::{SameTables, StillClock};
use tests::sim_disk::SimDisk;
use tests::sim_tree::SimTree;
use wire::stream::{FromMaster, FromReplica, decode_part, encode_part, proto};

/// A decoder.
pub struct Target {
    /// Its corpus is in the directory of this name.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
    /// Most bytes it may hold for each byte of input.
    pub factor: usize,
    /// And beyond that.
    pub constant: usize,
    /// Mutations for each seed.
    pub turns: u64,
}

/// A record body may claim this much at once: the limit of its decoder. Allowed thrice, for what is made of it.
const BODY: usize = 3 * journal::record::BODY_BYTES_MAX;

pub const TARGETS: [Target; 10] = [
    Target { name: "redo", run: redo, factor: 400, constant: BODY, turns: 20_000 },
    Target { name: "undo", run: undo, factor: 400, constant: BODY, turns: 20_000 },
    Target { name: "rows", run: row, factor: 400, constant: BODY, turns: 20_000 },
    Target { name: "part", run: part, factor: 600, constant: 64 << 10, turns: 20_000 },
    Target { name: "from-master", run: from_master, factor: 600, constant: 64 << 10, turns: 20_000 },
    Target { name: "from-replica", run: from_replica, factor: 600, constant: 64 << 10, turns: 20_000 },
    Target { name: "archive", run: archive, factor: 100, constant: 64 << 10, turns: 20_000 },
    Target { name: "journal", run: files, factor: 400, constant: BODY + (8 << 20), turns: 8000 },
    Target { name: "thinned", run: thinned, factor: 400, constant: BODY + (8 << 20), turns: 5000 },
    Target { name: "shipped", run: shipped, factor: 400, constant: BODY, turns: 5000 },
];

/// Input: kind, number of payloads, head.
fn stored(input: &[u8], version: u8) -> Option<StoredRecord> {
    let [kind, payloads, head @ ..] = input else { return None };
    let at = RecordAt { segment: 1, offset: 128 };
    let place =
        |number: u64| PayloadAt { segment: 1, offset: 1000 + number * 64, bytes: 64, crc: 7, packed: None };
    Some(StoredRecord {
        kind: *kind,
        version,
        lsn: None,
        time: Timestamp(0),
        at,
        next: at,
        head: bytes::Bytes::copy_from_slice(head),
        payloads: (0..u64::from(*payloads)).map(place).collect(),
    })
}

/// In every version there is.
fn redo(input: &[u8]) {
    (1..=journal::record::UNDONE_VERSION).for_each(|version| redo_of(input, version));
}

fn redo_of(input: &[u8], version: u8) {
    let Some(Ok(record)) = stored(input, version).map(|stored| RedoRecord::from_stored(&stored)) else {
        return;
    };
    if let RedoRecord::Part(part) = &record {
        drop(wire::stream::check_part(part));
        drop(journal::state::point_put(&part.capture));
        let mut controls = journal::controls::Controls::default();
        controls.capture(&part.capture, RecordAt::default());
    }
    drop(record.to_draft(Timestamp(0)));
    drop(format!("{record:?}"));
}

/// In every version there is.
fn undo(input: &[u8]) {
    (1..=journal::record::UNDO_VERSION).for_each(|version| undo_of(input, version));
}

fn undo_of(input: &[u8], version: u8) {
    let Some(Ok(record)) = stored(input, version).map(|stored| UndoRecord::from_stored(&stored)) else {
        return;
    };
    if let UndoRecord::Undo(part) = record {
        let replaced = journal::state::Replaced { names: part.names.clone(), nodes: part.nodes.clone() };
        drop(journal::state::history_puts(part.lsn, &replaced, &part.data));
        drop(part.to_draft(Timestamp(0), Vec::new()));
    }
}

/// A row of every table, as key and as value.
fn row(input: &[u8]) {
    drop(rows::read::<NodeRow>(Space::Nodes, input));
    drop(rows::read::<Change>(Space::Changes, input));
    drop(rows::read::<PointRow>(Space::Points, input));
    drop(rows::read::<journal::controls::Controls>(Space::Heads, input));
    drop(journal::state::summary::PointBlock::read(&(
        journal::state::summary::block_key(Lsn::ZERO),
        input.to_vec(),
    )));
    drop(rows::parse_link_row(input));
    drop(rows::edge_of_name_key(input));
    drop(rows::parse_name_undo_key(input));
    drop(rows::parse_data_undo_key(input));
    let _ = (NodeId::from_key(input), Lsn::from_key(input));
}

fn part(input: &[u8]) {
    let Ok(part) = decode_part(bytes::Bytes::copy_from_slice(input)) else { return };
    drop(encode_part(&part).expect("what was taken can be sent on"));
    drop(RedoRecord::Part(part).to_draft(Timestamp(0)));
}

fn from_master(input: &[u8]) {
    if let Ok(message) = proto::MasterMessage::decode(input) {
        drop(FromMaster::try_from(message));
    }
}

fn from_replica(input: &[u8]) {
    if let Ok(message) = proto::ReplicaMessage::decode(input) {
        drop(FromReplica::try_from(message));
    }
}

fn archive(input: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<snapshot::archive::Manifest>(input) else { return };
    let fault = manifest.fault();
    drop((manifest.runs().len(), manifest.gaps()));
    for (after, upto) in [(0, 1), (0, u64::MAX), (3, 9), (u64::MAX - 1, u64::MAX)] {
        let _ = manifest.covering(after, upto);
    }
    if fault.is_none() {
        drop(snapshot::archive::plan::plan(&[], &manifest.pieces, 1, Some(2)));
        let _ = snapshot::archive::plan::keep_from(&manifest.pieces, Some(2));
        manifest.pieces.iter().for_each(|piece| {
            let _ = snapshot::archive::parse_last_part(&piece.last_part());
        });
    }
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let path = Path::new("/j").join(name);
    let file = disk.create(&path).expect("create");
    file.write_at(bytes, 0).expect("write");
}

fn read_u32(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes(four.try_into().unwrap()) as usize)
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Puts the checksums of a manifest right.
fn reseal_manifest(bytes: &mut [u8]) {
    if bytes.len() < 24 {
        return;
    }
    let length = (bytes.len() - 24) as u32;
    set(bytes, 16, &length.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), &bytes[24..]);
    set(bytes, 20, &sum.to_le_bytes());
}

fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().as_bytes()[..16].try_into().unwrap()
}

/// Puts header, frames and chain of a segment right, as far as frames can be made out.
fn reseal_segment(bytes: &mut [u8]) {
    if bytes.len() < 128 {
        return;
    }
    let sum = crc32c::crc32c(&bytes[..124]);
    set(bytes, 124, &sum.to_le_bytes());
    let key = [&bytes[16..32], &bytes[12..13], &bytes[32..40]].concat();
    let mut chain = hash16(&[&bytes[..128]]);
    let mut at = 128;
    while bytes.get(at..at + 4) == Some(b"RWF1") && at + 88 <= bytes.len() {
        let (head, count, payloads) =
            (read_u32(bytes, at + 8), read_u32(bytes, at + 12), read_u32(bytes, at + 16));
        let entry = if bytes[at + 7] & 2 == 0 { 8 } else { 16 };
        let body_end = at + 88 + entry * count + head;
        // What is stored of payloads matches too, so that what expands them meets it.
        let mut payload_at = body_end;
        for number in 0..count.min(1000) {
            let place = at + 88 + entry * number;
            let stored = bytes.get(payload_at..payload_at + read_u32(bytes, place));
            let Some(sum) = stored.map(crc32c::crc32c) else { break };
            payload_at += read_u32(bytes, place);
            set(bytes, place + 4, &sum.to_le_bytes());
        }
        if let Some(body) = bytes.get(at + 88..body_end).map(<[u8]>::to_vec) {
            set(bytes, at + 20, &crc32c::crc32c(&body).to_le_bytes());
            chain = hash16(&[&chain, &bytes[at..at + 64], &body]);
            set(bytes, at + 64, &chain);
        }
        let offset = (at as u64).to_le_bytes();
        let sum = crc32c::crc32c(&[&key, &offset[..], &bytes[at..at + 84]].concat());
        set(bytes, at + 84, &sum.to_le_bytes());
        at = (body_end + payloads).next_multiple_of(8);
    }
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |eight| u64::from_le_bytes(eight.try_into().unwrap()))
}

/// Puts the checksums of a thinned segment right: of the frames in it, as far as its table says where they stood, of the
/// table, and of its header.
fn reseal_thinned(bytes: &mut [u8]) {
    if bytes.len() < 128 {
        return;
    }
    let (stretches, points) = (read_u64(bytes, 56), read_u64(bytes, 64));
    let table = stretches.saturating_add(points).saturating_mul(16).saturating_add(128);
    if let Ok(table) = usize::try_from(table)
        && table <= bytes.len()
    {
        reseal_frames(bytes, stretches as usize, table);
        let sum = crc32c::crc32c(&bytes[128..table]);
        set(bytes, 120, &sum.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes[..124]);
    set(bytes, 124, &sum.to_le_bytes());
}

fn reseal_frames(bytes: &mut [u8], stretches: usize, table: usize) {
    let length = read_u64(bytes, 48);
    if length > 1 << 16 {
        return;
    }
    let mut whole = vec![0; length as usize];
    let mut places = Vec::new();
    let mut at = table;
    for number in 0..stretches {
        let (offset, count) = (read_u64(bytes, 128 + 16 * number), read_u64(bytes, 136 + 16 * number));
        let (offset, count) = (offset.min(1 << 20) as usize, count.min(1 << 20) as usize);
        let (Some(from), Some(to)) = (bytes.get(at..at + count), whole.get_mut(offset..offset + count))
        else {
            return;
        };
        to.copy_from_slice(from);
        places.push((offset, count, at));
        at += count;
    }
    reseal_segment(&mut whole);
    for (offset, count, at) in places {
        set(bytes, at, &whole[offset..offset + count]);
    }
}

/// A manifest with the length of a thinned segment as it is now.
fn relengthened(manifest: &[u8], before: usize, now: usize) -> Vec<u8> {
    let mut bytes = manifest.to_vec();
    let entry = [1_u64.to_le_bytes(), (before as u64).to_le_bytes()].concat();
    if let Some(at) = bytes.windows(16).position(|window| window == entry) {
        set(&mut bytes, at + 8, &(now as u64).to_le_bytes());
    }
    reseal_manifest(&mut bytes);
    bytes
}

/// Puts the checksums of the blocks of a checkpoint right.
fn reseal_checkpoint(bytes: &mut [u8]) {
    let mut at = 32;
    while at + 8 <= bytes.len() {
        let end = at + 8 + read_u32(bytes, at);
        let Some(body) = bytes.get(at + 8..end) else { return };
        let sum = crc32c::crc32c(body);
        set(bytes, at + 4, &sum.to_le_bytes());
        at = end;
    }
}

/// A manifest with length and hash of a checkpoint as it is now.
fn renamed(manifest: &[u8], name: &str, checkpoint: &[u8]) -> Vec<u8> {
    let mut bytes = manifest.to_vec();
    if let Some(at) = bytes.windows(name.len()).position(|window| window == name.as_bytes()) {
        let at = at + name.len();
        set(&mut bytes, at, &(checkpoint.len() as u64).to_le_bytes());
        set(&mut bytes, at + 8, &hash16(&[checkpoint]));
    }
    reseal_manifest(&mut bytes);
    bytes
}

struct Fresh(Arc<MemoryTables>);

impl TablesFactory for Fresh {
    fn tables(&self, fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        SameTables(Arc::clone(&self.0)).tables(fresh)
    }
}

/// Input: which file of the golden journal stands there, and its bytes. The journal is verified, opened without tables,
/// and looked at in all its points.
fn files(input: &[u8]) {
    if let Some(journal) = opened(&WHOLE, input) {
        show(&journal);
    }
}

/// The same with the golden journal that was thinned. It is asked what was given up, and thinned once more.
fn thinned(input: &[u8]) {
    let Some(journal) = opened(&THINNED, input) else { return };
    show(&journal);
    let (oldest, newest) = journal.window();
    for captured in (oldest.captured..=newest.captured).take(200) {
        drop(journal.thinned_out(Lsn::captured(captured)));
    }
    drop(journal.thinned_so_far());
    let tiers = Tiers { every: Duration::ZERO, minutes: Duration::ZERO };
    drop(journal.thin(tiers, Timestamp(1 << 62), u64::MAX));
    drop(journal.set().verify(&mut |_| {}));
}

/// The journal with this file in its place, verified, if it opens.
fn opened(golden: &Golden, input: &[u8]) -> Option<Arc<Journal>> {
    let [which, bytes @ ..] = input else { return None };
    let name = golden.files[usize::from(*which) % golden.files.len()];
    let mut bytes = bytes.to_vec();
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/j")).expect("a directory");
    let mut manifest = golden.read("manifest");
    match name.rsplit('.').next() {
        Some("manifest") => {
            reseal_manifest(&mut bytes);
            manifest.clone_from(&bytes);
        }
        Some("checkpoint") => {
            reseal_checkpoint(&mut bytes);
            manifest = renamed(&manifest, name, &bytes);
        }
        _ if name.contains(".thin.") => {
            reseal_thinned(&mut bytes);
            manifest = relengthened(&manifest, golden.read(name).len(), bytes.len());
        }
        _ => reseal_segment(&mut bytes),
    }
    for other in golden.files {
        match *other {
            "manifest" => put(&disk, other, &manifest),
            other if other == name => put(&disk, other, &bytes),
            other => put(&disk, other, &golden.read(other)),
        }
    }
    drop(verify(&disk, Path::new("/j"), &mut |_| {}));
    let tables: Arc<MemoryTables> = Arc::default();
    let factory = Fresh(Arc::clone(&tables));
    let options = LogOptions::default();
    let opened = Journal::open(Arc::new(disk), Path::new("/j"), options, &factory, Arc::new(StillClock));
    opened.ok().map(|opened| opened.journal)
}

fn show(journal: &Arc<Journal>) {
    let (oldest, newest) = journal.window();
    let tree = Arc::new(SimTree::new(2));
    for lsn in [oldest, newest, Lsn::captured(oldest.captured / 2 + newest.captured / 2)] {
        let bytes = replication::apply::payloads(journal);
        let view = View::new(lsn, Arc::clone(journal.tables()), bytes, Arc::clone(&tree));
        look(&view, RootNo(0));
    }
}

/// Some of what a view shows: a hostile journal may say that there is very much.
fn look(view: &View<SimTree>, root: RootNo) {
    let mut todo = vec![NodeId::root(root)];
    for _ in 0..50 {
        let Some(node) = todo.pop() else { return };
        let Ok(Some(meta)) = view.meta(node) else { continue };
        if meta.kind.is_directory() {
            todo.extend(view.list(node).take(50).filter_map(Result::ok).map(|(_, child)| child));
        }
        // Bytes would be waited for: the tree they lie in is not there.
        drop(view.look(node));
    }
}

/// A redo segment by itself, as a rescue reads it.
fn shipped(input: &[u8]) {
    let mut bytes = input.to_vec();
    reseal_segment(&mut bytes);
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/j")).expect("a directory");
    put(&disk, "it", &bytes);
    let Some(header) = bytes.get(16..40) else { return };
    let journal: [u8; 16] = header[..16].try_into().unwrap();
    let number = u64::from_le_bytes(header[16..].try_into().unwrap());
    let Ok(mut segment) = ShippedSegment::open(&disk, Path::new("/j/it"), journal, number, None) else {
        return;
    };
    while let Ok(Some(record)) = segment.next_record() {
        drop(RedoRecord::from_stored(&record));
        for at in &record.payloads {
            drop(segment.payload(*at));
        }
    }
    let _ = segment.chain();
}
