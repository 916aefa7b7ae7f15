//! Where the corpus comes from: the golden journal, and what the encoders of today make of what it says.
//!
//! The golden journal has every event and every record there is.

use journal::journal::Journal;
use journal::log::{LogOptions, Part, StoredRecord};
use journal::record::{RedoRecord, UndoRecord};
use journal::tables::MemoryTables;
use journal::{Disk, Lsn, NodeId, Payload, RootNo, Space, Tables, Timestamp};
use prost::Message;
use snapshot::archive::{Draft, Manifest, Piece, Upto};
use snapshot::repository::Id;
use std::path::Path;
use std::sync::Arc;
use tests::lab::{SameTables, StillClock};
use tests::sim_disk::SimDisk;
use wire::stream::{
    Answer, AutoResync, BlockHashes, Command, Definition, Dial, FromMaster, FromReplica, Hello, JournalId,
    MeetingId, Progress, Reason, Refused, RootDefinition, Synchronization, Welcome, encode_part, proto,
};

/// A golden journal.
pub struct Golden {
    directory: &'static str,
    pub files: &'static [&'static str],
}

/// One with every event and every record.
pub const WHOLE: Golden = Golden { directory: "v2", files: &GOLDEN };

/// One of which segments were thinned.
pub const THINNED: Golden = Golden { directory: "v2-thinned", files: &THINNED_FILES };

const THINNED_FILES: [&str; 16] = [
    "manifest",
    "00000002.undo.thin.1",
    "00000003.undo.thin.1",
    "00000004.undo.thin.1",
    "00000005.undo.thin.1",
    "00000006.undo.thin.1",
    "00000001.checkpoint",
    "00000001.seg",
    "00000002.seg",
    "00000003.seg",
    "00000004.seg",
    "00000005.seg",
    "00000006.seg",
    "00000007.seg",
    "00000007.undo",
    "00000008.seg",
];

const GOLDEN: [&str; 7] = [
    "manifest",
    "00000001.checkpoint",
    "00000001.seg",
    "00000002.seg",
    "00000003.seg",
    "00000002.undo",
    "00000004.seg",
];

impl Golden {
    /// One of its files.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("journal/tests/golden");
        let path = place.join(self.directory).join(name);
        std::fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Inputs of a target that puts each of these files in its place: its number and its bytes.
    fn inputs(&self, is: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
        let files = self.files.iter().enumerate().filter(|(_, name)| is(name));
        files.map(|(number, name)| [&[number as u8], self.read(name).as_slice()].concat()).collect()
    }
}

fn golden(name: &str) -> Vec<u8> {
    WHOLE.read(name)
}

type Inputs = Vec<(String, Vec<u8>)>;

fn opened() -> (Arc<Journal>, Arc<MemoryTables>) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/j")).unwrap();
    for name in GOLDEN {
        disk.create(&Path::new("/j").join(name)).unwrap().write_at(&golden(name), 0).unwrap();
    }
    let tables: Arc<MemoryTables> = Arc::default();
    let factory = SameTables(Arc::clone(&tables));
    let opened =
        Journal::open(Arc::new(disk), Path::new("/j"), LogOptions::default(), &factory, Arc::new(StillClock));
    (opened.unwrap().journal, tables)
}

/// Kind, number of payloads, head.
fn body(kind: u8, payloads: usize, head: &[u8]) -> Vec<u8> {
    [&[kind, payloads as u8], head].concat()
}

fn numbered(inputs: Vec<Vec<u8>>) -> Inputs {
    let mut distinct: Vec<Vec<u8>> = Vec::new();
    for input in inputs {
        if !distinct.contains(&input) {
            distinct.push(input);
        }
    }
    distinct.into_iter().enumerate().map(|(number, input)| (format!("{number:03}"), input)).collect()
}

/// Parts with their bytes in them.
fn parts(journal: &Journal, records: &[StoredRecord]) -> Vec<Part> {
    let parts = records.iter().filter_map(|record| match RedoRecord::from_stored(record) {
        Ok(RedoRecord::Part(part)) => Some(part),
        _ => None,
    });
    let inline = |mut part: Part| {
        for event in &mut part.capture.events {
            if let journal::Event::Write { data, .. } = event
                && let Payload::Stored(at) = data
            {
                *data = Payload::Inline(journal.redo().read_payload(*at).unwrap());
            }
        }
        part
    };
    parts.map(inline).collect()
}

fn rows(tables: &MemoryTables) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for space in Space::ALL {
        // The rows of the head say how far streams are durable, which comes from files of today.
        let some =
            tables.range(space, &[], &[0xff; 400]).map(Result::unwrap).filter(|_| space != Space::Heads);
        for (key, value) in some.step_by(7) {
            all.extend([key, value]);
        }
    }
    all
}

fn archive() -> Vec<u8> {
    let piece = |segment, from, to, sealed, first, last| Piece {
        id: Id::of(b"sealed"),
        plain: Id::of(b"plain"),
        place: Draft { segment, from, to, sealed, first, last, first_time: 5, last_time: 9 },
    };
    let manifest = Manifest {
        version: snapshot::archive::manifest::VERSION,
        journal: "00112233445566778899aabbccddeeff".to_owned(),
        generation: 3,
        scenario: "docs".to_owned(),
        host: "host".to_owned(),
        roots: vec!["/srv/docs".to_owned()],
        written: 10,
        upto: Upto { lsn: 9, time: 9 },
        pieces: vec![
            piece(1, 0, 128, false, None, None),
            piece(1, 128, 4096, true, Some(1), Some(4)),
            piece(3, 0, 900, false, Some(6), Some(9)),
        ],
    };
    serde_json::to_vec(&manifest).unwrap()
}

fn hello() -> FromMaster {
    FromMaster::Hello(Hello {
        protocol: 1,
        scenario: 7,
        name: "docs".to_owned(),
        host: "host".to_owned(),
        journal: Some(JournalId([3; 16])),
        acknowledged: Lsn::captured(5),
        captured: Some(Lsn::captured(6)),
        index_clean_at: None,
        meeting: Some(MeetingId([4; 16])),
        dial: Dial::default(),
        features: 1,
    })
}

fn replica_messages(part: &[u8]) -> Vec<FromReplica> {
    let definition = Definition {
        scenario: 7,
        name: "docs".to_owned(),
        roots: vec![RootDefinition { root: RootNo(0), path: b"/srv/docs".to_vec() }],
        excludes: vec!["*.tmp".to_owned()],
        auto_resync: AutoResync::Always,
        spool_bytes_max: Some(1 << 30),
        settings: vec![("compress".to_owned(), "on".to_owned())],
    };
    let welcome = Welcome {
        protocol: 1,
        journal: JournalId([3; 16]),
        journaled: Lsn::captured(5),
        parts: 1,
        journaled_time: Timestamp(9),
        next_node: NodeId::FIRST_FREE,
        incarnation: 77,
        meeting: MeetingId([4; 16]),
        synchronization: Synchronization::Completed,
        suspended: false,
        running: true,
        definition,
    };
    let hashes = BlockHashes { size: 9000, hashes: vec![1; 48].into() };
    vec![
        FromReplica::Welcome(Box::new(welcome)),
        FromReplica::Refused(Refused { reason: Reason::Diverged, text: "begin anew".to_owned() }),
        FromReplica::Ack(Progress { journaled: Lsn::captured(9), durable_parts: 3, taken_bytes: 900 }),
        FromReplica::Applied(Lsn::captured(8)),
        FromReplica::Command(
            4,
            Command::Write { session: 1, number: 0, part: part.to_vec().into(), last: true },
        ),
        FromReplica::Response(5, Ok(Answer::Blocks(hashes))),
    ]
}

/// What the encoders write now: for each target its inputs by name.
pub fn all() -> Vec<(&'static str, Inputs)> {
    let (journal, tables) = opened();
    let redo: Vec<StoredRecord> = journal.redo().read(journal.redo().first()).map(Result::unwrap).collect();
    let undo: Vec<StoredRecord> = journal.undo().read(journal.undo().first()).map(Result::unwrap).collect();
    let again = |record: &StoredRecord| {
        let parsed = RedoRecord::from_stored(record).unwrap();
        let head = match &parsed {
            RedoRecord::Control(_) => parsed.to_draft(Timestamp(0)).unwrap().head,
            RedoRecord::Part(_) => record.head.to_vec(),
        };
        body(record.kind, record.payloads.len(), &head)
    };
    let undo_again = |record: &StoredRecord| {
        let head = match UndoRecord::from_stored(record).unwrap() {
            UndoRecord::Applied(applied) => UndoRecord::applied_draft(&applied, Timestamp(0)).head,
            UndoRecord::Undo(_) => record.head.to_vec(),
        };
        body(record.kind, record.payloads.len(), &head)
    };
    let travelling: Vec<Vec<u8>> = parts(&journal, &redo)
        .iter()
        .filter_map(|part| encode_part(part).ok().map(|bytes| bytes.to_vec()))
        .collect();
    let message = |message: FromMaster| proto::MasterMessage::from(message).encode_to_vec();
    let batch = proto::MasterMessage {
        message: Some(proto::master_message::Message::Batch(proto::Batch {
            parts: travelling.iter().take(4).cloned().map(Into::into).collect(),
            before: Some(0),
        })),
    };
    let replica = |message: FromReplica| proto::ReplicaMessage::from(message).encode_to_vec();
    vec![
        ("redo", numbered(redo.iter().map(again).collect())),
        ("undo", numbered(undo.iter().map(undo_again).collect())),
        ("rows", numbered(rows(&tables))),
        ("part", numbered(travelling.clone())),
        ("from-master", numbered(vec![message(hello()), batch.encode_to_vec()])),
        ("from-replica", numbered(replica_messages(&travelling[0]).into_iter().map(replica).collect())),
        ("archive", numbered(vec![archive()])),
        ("journal", numbered(WHOLE.inputs(|_| true))),
        ("thinned", numbered(THINNED.inputs(|name| name == "manifest" || name.contains(".thin.")))),
        (
            "shipped",
            numbered(GOLDEN.iter().filter(|name| name.ends_with("seg")).map(|n| golden(n)).collect()),
        ),
    ]
}
