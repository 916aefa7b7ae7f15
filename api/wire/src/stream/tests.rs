//! Round trips of every message and event, and what hostile bytes come to.

use super::*;
use crate::stream::control::*;
use ::journal::*;
use bytes::Bytes;
use prost::Message;

/// Random numbers from a printed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let count = self.below(max + 1);
        (0..count).map(|_| (self.next() >> 32) as u8 | 1).collect()
    }

    fn name(&mut self) -> Name {
        let mut bytes = self.bytes(254);
        bytes.push(b'n');
        bytes.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'x');
        Name::new(&bytes).unwrap()
    }

    fn node(&mut self) -> NodeId {
        NodeId(NodeId::FIRST_FREE.0 + (self.next() >> 2))
    }

    fn edge(&mut self) -> Edge {
        let root = RootNo(self.below(2000) as u16);
        let parent = match self.below(3) {
            0 => NodeId::root(root),
            1 => NodeId::kept(root),
            _ => self.node(),
        };
        Edge::new(parent, self.name())
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(self.next() as i64)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn xattrs(&mut self) -> Xattrs {
        let mut all: Xattrs =
            (0..self.below(4)).map(|_| ([b"u", &*self.bytes(9)].concat(), self.bytes(300))).collect();
        all.sort();
        all.dedup_by(|a, b| a.0 == b.0);
        all
    }

    fn attributes(&mut self) -> Attributes {
        Attributes {
            mode: self.below(0o10000) as u32,
            uid: self.next() as u32,
            gid: self.next() as u32,
            mtime: self.time(),
            ctime: self.time(),
        }
    }

    fn meta(&mut self) -> Meta {
        let kind = match self.below(7) {
            0 => Kind::File,
            1 => Kind::Directory,
            2 => Kind::Symlink([b"t", &*self.bytes(4095)].concat()),
            3 => Kind::Fifo,
            4 => Kind::Socket,
            5 => Kind::CharDevice(self.next()),
            _ => Kind::BlockDevice(self.next()),
        };
        Meta { kind, size: 0, attributes: self.attributes(), xattrs: self.xattrs() }
    }

    fn origin(&mut self) -> Origin {
        Origin { device: self.next(), inode: self.next(), generation: self.next(), birth: self.next() as i64 }
    }

    fn class(&mut self) -> Class {
        [Class::Fuzzy, Class::Crash, Class::Application][self.below(3) as usize]
    }

    fn marker(&mut self) -> Marker {
        use GapCause::*;
        let causes = [QueueOverflow, WatchLimit, WatchLost, AgentDown, SpoolFull, Stopped];
        let whats = [SkippedWhat::Node, SkippedWhat::Content, SkippedWhat::Xattrs, SkippedWhat::MountPoint];
        let root = RootNo(self.below(2000) as u16);
        match self.below(8) {
            0 => Marker::Barrier { cookie: self.next(), class: self.class() },
            1 => Marker::SynchronizationStarted { first: self.below(2) == 0 },
            2 => Marker::SynchronizationCompleted {
                files: self.next(),
                directories: self.next(),
                bytes: self.next(),
            },
            3 => Marker::GapOpened {
                gap: self.next(),
                root,
                path: self.bytes(100),
                cause: causes[self.below(6) as usize],
            },
            4 => Marker::GapClosed { gap: self.next() },
            5 => Marker::Skipped {
                root,
                path: self.bytes(100),
                what: whats[self.below(4) as usize],
                errno: self.next() as i32,
            },
            6 => Marker::Unskipped { root, path: self.bytes(100) },
            _ => Marker::Digest { root, digest: std::array::from_fn(|_| self.next() as u8) },
        }
    }

    fn event(&mut self) -> Event {
        let node = self.node();
        match self.below(10) {
            0 => Event::Create {
                node,
                at: self.edge(),
                meta: self.meta(),
                origin: self.maybe(Self::origin),
                parent_mtime: self.maybe(Self::time),
            },
            1 => Event::Link { node, at: self.edge(), parent_mtime: self.maybe(Self::time) },
            2 => Event::Remove { node, at: self.edge(), parent_mtime: self.maybe(Self::time) },
            3 => Event::Rename {
                node,
                from: self.edge(),
                to: self.edge(),
                from_parent_mtime: self.maybe(Self::time),
                to_parent_mtime: self.maybe(Self::time),
            },
            4 => Event::Write {
                node,
                offset: self.next() >> 2,
                data: Payload::Inline(self.bytes(5000).into()),
                before: self.maybe(|random| [random.next() as u8; 16]),
            },
            5 => Event::Punch { node, offset: self.next() >> 2, bytes: self.next() >> 2 },
            6 => Event::Resize { node, size: self.next() >> 1 },
            7 => Event::SetAttributes { node, attributes: self.attributes() },
            8 => Event::SetXattrs { node, xattrs: self.xattrs() },
            _ => Event::Mark(self.marker()),
        }
    }

    fn part(&mut self) -> Part {
        use Provenance::{Derived, Exact, Rescan, Synchronization};
        Part {
            number: self.next() as u32,
            last: self.below(2) == 0,
            capture: Capture {
                lsn: Lsn::captured(1 + (self.next() >> 1)),
                time: self.time(),
                provenance: [Exact, Derived, Rescan, Synchronization][self.below(4) as usize],
                root: RootNo(self.below(2000) as u16),
                path: self.bytes(5000),
                events: (0..self.below(6)).map(|_| self.event()).collect(),
            },
        }
    }

    fn text(&mut self) -> String {
        let alphabet: Vec<char> = "abcäöü€ /*".chars().collect();
        (0..self.below(40)).map(|_| alphabet[self.below(alphabet.len() as u64) as usize]).collect()
    }
}

fn seed(fallback: u64) -> u64 {
    let seed = std::env::var("REWIND_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(fallback);
    println!("seed {seed} (REWIND_SEED replays it)");
    seed
}

#[test]
fn parts_survive_the_journey() {
    let mut random = Random(seed(0x5eed_0001));
    for _ in 0..2000 {
        let part = random.part();
        let bytes = encode_part(&part).unwrap();
        assert_eq!(decode_part(bytes).unwrap(), part);
    }
}

#[test]
fn damaged_parts_never_panic_and_what_decodes_encodes() {
    let mut random = Random(seed(0x5eed_0002));
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = encode_part(&random.part()).unwrap().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = 0xff,
                _ => bytes.truncate(at + 1),
            }
        }
        match decode_part(bytes.into()) {
            // What is accepted obeys every rule, so it can be sent on.
            Ok(part) => {
                taken += 1;
                assert_eq!(decode_part(encode_part(&part).unwrap()).unwrap(), part);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 500 && taken > 100, "{refused} refused, {taken} taken");
}

fn with_event(event: Event) -> Part {
    let capture = Capture {
        lsn: Lsn::captured(1),
        time: Timestamp(0),
        provenance: Provenance::Derived,
        root: RootNo(0),
        path: Vec::new(),
        events: vec![event],
    };
    Part { number: 0, last: true, capture }
}

#[track_caller]
fn check_refused(part: &Part, field: &str) {
    let error = encode_part(part).unwrap_err().to_string();
    assert!(error.contains(&format!("field {field} ")), "{error}");
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    let node = NodeId(5000);
    let edge = Edge::new(node, Name::new(b"x").unwrap());
    let write = |node, offset, bytes: usize| Event::Write {
        node,
        offset,
        data: Payload::Inline(vec![1; bytes].into()),
        before: None,
    };
    check_refused(&with_event(write(node, 0, WRITE_BYTES_MAX + 1)), "data");
    check_refused(&with_event(write(node, u64::MAX, 1)), "offset");
    check_refused(&with_event(write(node, i64::MAX as u64, 1)), "offset");
    check_refused(&with_event(write(NodeId::root(RootNo(0)), 0, 1)), "node");
    check_refused(&with_event(Event::Resize { node, size: u64::MAX }), "offset");
    check_refused(&with_event(Event::Link { node: NodeId(0), at: edge.clone(), parent_mtime: None }), "node");
    let strange = Edge::new(NodeId(4050), Name::new(b"x").unwrap());
    check_refused(&with_event(Event::Link { node, at: strange, parent_mtime: None }), "node");
    let xattr = |name: &[u8], bytes| (name.to_vec(), vec![0; bytes]);
    let set = |xattrs| with_event(Event::SetXattrs { node, xattrs });
    check_refused(&set(vec![xattr(b"b", 1), xattr(b"a", 1)]), "xattrs");
    check_refused(&set(vec![xattr(b"a", 1), xattr(b"a", 1)]), "xattrs");
    check_refused(&set(vec![xattr(b"", 1)]), "xattr name");
    check_refused(&set(vec![xattr(b"a", XATTR_VALUE_BYTES_MAX + 1)]), "xattr value");
    check_refused(&set((0..70_u8).map(|n| xattr(&[b'a', n + 1], XATTR_VALUE_BYTES_MAX)).collect()), "part");
    let mut part = with_event(Event::Resize { node, size: 1 });
    part.capture.lsn = Lsn::local(1, 1);
    check_refused(&part, "captured");
    part.capture.lsn = Lsn::captured(1);
    part.capture.provenance = Provenance::Local;
    check_refused(&part, "provenance");
    part.capture.provenance = Provenance::Exact;
    part.capture.path = vec![b'x'; PATH_BYTES_MAX + 1];
    check_refused(&part, "path");
    let stored = Payload::Stored(PayloadAt::default());
    check_refused(&with_event(Event::Write { node, offset: 0, data: stored, before: None }), "data");
}

#[test]
fn many_small_things_are_counted_before_they_are_decoded() {
    let event = proto::Event::default();
    let part = proto::Part { events: vec![event; PART_EVENTS_MAX + 1], ..Default::default() };
    let error = decode_part(part.encode_to_vec().into()).unwrap_err();
    assert!(matches!(error, ConvertError::TooLong { field: "events", .. }), "{error}");
    let set = proto::XattrSet { xattrs: vec![proto::Xattr::default(); XATTRS_MAX + 1] };
    let xattrs = proto::SetXattrs { node: 5000, xattrs: set.encode_to_vec().into() };
    let events = vec![proto::Event { event: Some(proto::event::Event::SetXattrs(xattrs)) }];
    let part = proto::Part { captured: 1, provenance: 1, events, ..Default::default() };
    let error = decode_part(part.encode_to_vec().into()).unwrap_err();
    assert!(matches!(error, ConvertError::TooLong { field: "xattrs", .. }), "{error}");
    let entries = proto::NamespaceEntries { entries: vec![Default::default(); NAMESPACE_ENTRIES_MAX + 1] };
    let page = proto::NamespacePage { entries: entries.encode_to_vec().into(), ..Default::default() };
    assert!(matches!(NamespacePage::try_from(page), Err(ConvertError::TooLong { field: "entries", .. })));
}

#[test]
fn hostile_questions_about_blocks_are_refused() {
    let fine = proto::BlocksRequest { node: 5000, at: 1, block_bits: 12, first: 0, count: 16_384 };
    for (wrong, what) in [
        (proto::BlocksRequest { block_bits: 8, ..fine }, "tiny blocks"),
        (proto::BlocksRequest { block_bits: 25, ..fine }, "huge blocks"),
        (proto::BlocksRequest { block_bits: u32::MAX, ..fine }, "no number of bits"),
        (proto::BlocksRequest { count: 16_385, ..fine }, "too many blocks"),
        (proto::BlocksRequest { block_bits: 16, count: 1025, ..fine }, "too many bytes"),
        (proto::BlocksRequest { first: u64::MAX, ..fine }, "behind everything"),
        (proto::BlocksRequest { first: 1 << 52, ..fine }, "behind the largest file"),
        (proto::BlocksRequest { node: 0, ..fine }, "no node"),
    ] {
        let request = Some(proto::request::Request::Blocks(wrong));
        let message = proto::master_message::Message::Request(proto::Request { id: 1, request });
        let message = proto::MasterMessage { message: Some(message) };
        assert!(FromMaster::try_from(message).is_err(), "{what}");
    }
    for length in [17, 16 * 16_384 + 16] {
        let hashes = proto::BlockHashes { size: 1, hashes: vec![0; length].into() };
        let outcome = Some(proto::response::Outcome::Blocks(hashes));
        let message = proto::replica_message::Message::Response(proto::Response { id: 1, outcome });
        let message = proto::ReplicaMessage { message: Some(message) };
        assert!(FromReplica::try_from(message).is_err(), "{length}");
    }
}

#[test]
fn hostile_names_and_enumerations_are_refused() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        let at = Some(proto::Edge { parent: 5000, name: Bytes::copy_from_slice(name) });
        let event = proto::event::Event::Link(proto::Link { node: 5001, at, parent_mtime: None });
        let events = vec![proto::Event { event: Some(event) }];
        let part = proto::Part { captured: 1, provenance: 1, events, ..Default::default() };
        assert!(decode_part(part.encode_to_vec().into()).is_err(), "{name:?}");
    }
    for provenance in [0, 5, -1, i32::MAX] {
        let part = proto::Part { captured: 1, provenance, ..Default::default() };
        let error = decode_part(part.encode_to_vec().into()).unwrap_err();
        assert!(matches!(error, ConvertError::Unknown { field: "provenance", .. }), "{error}");
    }
    assert!(FromMaster::try_from(proto::MasterMessage::default()).is_err());
    assert!(FromReplica::try_from(proto::ReplicaMessage::default()).is_err());
}

#[track_caller]
fn check_master(message: FromMaster) {
    let bytes = proto::MasterMessage::from(message.clone()).encode_to_vec();
    let back = FromMaster::try_from(proto::MasterMessage::decode(&*bytes).unwrap()).unwrap();
    assert_eq!(back, message);
}

#[track_caller]
fn check_replica(message: FromReplica) {
    let bytes = proto::ReplicaMessage::from(message.clone()).encode_to_vec();
    let back = FromReplica::try_from(proto::ReplicaMessage::decode(&*bytes).unwrap()).unwrap();
    assert_eq!(back, message);
}

fn definition(random: &mut Random) -> Definition {
    Definition {
        scenario: random.next(),
        name: random.text(),
        roots: vec![RootDefinition { root: RootNo(3), path: [b"/", &*random.bytes(50)].concat() }],
        excludes: vec![random.text(), random.text()],
        auto_resync: [AutoResync::Ask, AutoResync::Always, AutoResync::Never][random.below(3) as usize],
        spool_bytes_max: random.maybe(Random::next),
        settings: vec![(random.text(), random.text())],
    }
}

fn written(random: &mut Random) -> Written {
    use Unwritten::{Attributes, Node, Removal, Xattrs};
    let one = |random: &mut Random| NotWritten {
        root: RootNo(random.below(2000) as u16),
        path: random.bytes(300),
        what: [Node, Attributes, Xattrs, Removal][random.below(4) as usize],
        errno: random.next() as i32,
    };
    Written {
        skipped: (0..random.below(5)).map(|_| one(random)).collect(),
        skipped_count: random.next(),
        moved: random.below(2) == 0,
    }
}

#[test]
fn what_was_not_written_is_bounded() {
    let one =
        |bytes| NotWritten { root: RootNo(0), path: vec![b'x'; bytes], what: Unwritten::Node, errno: 1 };
    for (count, bytes, kept) in [(NOT_WRITTEN_MAX + 9, 10, NOT_WRITTEN_MAX), (9, PATH_BYTES_MAX / 4, 4)] {
        let (skipped, skipped_count) = (vec![one(bytes); count], count as u64);
        let reply = Outcome::Written(Written { skipped, skipped_count, moved: false });
        let message = proto::MasterMessage::from(FromMaster::Reply(1, reply));
        assert!(message.encoded_len() < MESSAGE_BYTES_MAX);
        let FromMaster::Reply(1, Outcome::Written(back)) = FromMaster::try_from(message).unwrap() else {
            panic!("something else came back");
        };
        assert_eq!((back.skipped.len(), back.skipped_count), (kept, skipped_count));
    }
    let hostile = |list: Vec<proto::NotWritten>| {
        let skipped = proto::NotWrittenList { list }.encode_to_vec().into();
        let written = proto::Written { skipped, skipped_count: 0, moved: false };
        let outcome = Some(proto::reply::Outcome::Written(written));
        let reply = proto::master_message::Message::Reply(proto::Reply { id: 1, outcome });
        FromMaster::try_from(proto::MasterMessage { message: Some(reply) }).unwrap_err().to_string()
    };
    assert!(hostile(vec![proto::NotWritten::default(); NOT_WRITTEN_MAX + 1]).contains("skipped"));
    assert!(hostile(vec![proto::NotWritten::default()]).contains("what"));
    let path = Bytes::from_static(b"a\0b");
    assert!(hostile(vec![proto::NotWritten { path, what: 1, ..Default::default() }]).contains("path"));
    let part = vec![0; PART_BYTES_MAX + 1].into();
    let write = proto::command::Command::Write(proto::WriteCommand { part, ..Default::default() });
    let command = proto::Command { id: 1, command: Some(write) };
    let message = proto::replica_message::Message::Command(command);
    assert!(FromReplica::try_from(proto::ReplicaMessage { message: Some(message) }).is_err());
}

fn hello(random: &mut Random) -> Hello {
    Hello {
        protocol: random.next() as u32,
        scenario: random.next(),
        name: random.text(),
        host: random.text(),
        journal: random.maybe(|random| JournalId([random.next() as u8; 16])),
        acknowledged: Lsn::captured(random.next()),
        captured: random.maybe(|random| Lsn::captured(random.next())),
        index_clean_at: random.maybe(|random| Lsn::captured(random.next())),
        meeting: random.maybe(|random| MeetingId([random.next() as u8; 16])),
        dial: Dial { life: random.next(), number: random.next() },
        features: random.next(),
    }
}

#[test]
fn control_messages_survive_the_journey() {
    let mut random = Random(seed(0x5eed_0003));
    for _ in 0..300 {
        let random = &mut random;
        check_master(FromMaster::Hello(hello(random)));
        let parts = vec![random.bytes(20).into(), random.bytes(20).into()];
        check_master(FromMaster::Batch(Batch { before: random.maybe(Random::next), parts }));
        check_master(FromMaster::Status(MasterStatus {
            captured: Lsn::captured(random.next()),
            acknowledged: Lsn::captured(random.next()),
            spool_memory_bytes: random.next(),
            spool_disk_bytes: random.next(),
            spool: SpoolState::NearFull,
            agent: AgentState::Rescanning,
            gaps_open: random.next(),
            time: random.time(),
            cause: random.text(),
            files: (random.next(), random.next()),
            bytes: (random.next(), random.next()),
        }));
        let class = random.class();
        let failed = Failed { code: random.text(), text: random.text() };
        let finding = Finding { error: true, code: random.text(), text: random.text() };
        for outcome in [
            Outcome::Done,
            Outcome::Barrier { lsn: Lsn::captured(random.next()), class, time: random.time() },
            Outcome::Consistent {
                lsn: Lsn::captured(random.next()),
                time: random.time(),
                held: std::time::Duration::from_nanos(random.next()),
            },
            Outcome::Verified(vec![finding]),
            Outcome::Written(written(random)),
            Outcome::Failed(failed.clone()),
        ] {
            check_master(FromMaster::Reply(random.next(), outcome));
        }
        check_master(FromMaster::Request(7, Request::Namespace(random.bytes(30).into())));
        let wanted = BlocksWanted {
            node: random.node(),
            at: Lsn::captured(random.next()),
            block_bits: 12,
            first: random.next() >> 20,
            count: random.below(16_384) as u32,
        };
        check_master(FromMaster::Request(random.next(), Request::Blocks(wanted)));

        check_replica(FromReplica::Welcome(Box::new(Welcome {
            protocol: random.next() as u32,
            journal: JournalId([random.next() as u8; 16]),
            journaled: Lsn::captured(random.next()),
            parts: random.next() as u32,
            journaled_time: random.time(),
            next_node: random.node(),
            incarnation: random.next(),
            meeting: MeetingId([random.next() as u8; 16]),
            synchronization: Synchronization::Begun,
            suspended: random.below(2) == 0,
            running: random.below(2) == 0,
            definition: definition(random),
        })));
        check_replica(FromReplica::Refused(Refused { reason: Reason::Superseded, text: random.text() }));
        check_replica(FromReplica::Ack(Progress {
            journaled: Lsn::captured(random.next()),
            durable_parts: random.next(),
            taken_bytes: random.next(),
        }));
        check_replica(FromReplica::Applied(Lsn::local(random.next(), random.next())));
        let at = random.maybe(Random::edge).map(|edge| (edge.parent, edge.name));
        let node = if at.is_none() { NodeId::root(RootNo(7)) } else { random.node() };
        let meta = random.meta();
        let origin = random.maybe(Random::origin);
        let page = NamespacePage {
            entries: vec![NamespaceEntry { node, at, meta, origin, content_known: true }],
            next: random.maybe(|random| [b"x", &*random.bytes(20)].concat().into()),
            at: Lsn::captured(random.next()),
            synchronized: random.below(2) == 0,
            skipped: vec![SkippedName {
                root: RootNo(3),
                path: random.bytes(30),
                what: SkippedWhat::Xattrs,
                errno: 13,
            }],
        };
        check_replica(FromReplica::Response(random.next(), Ok(Answer::Namespace(page))));
        let hashes = BlockHashes { size: random.next(), hashes: vec![7; 16 * 20].into() };
        check_replica(FromReplica::Response(random.next(), Ok(Answer::Blocks(hashes))));
        check_replica(FromReplica::Response(random.next(), Err(failed)));
    }
}

#[test]
fn commands_survive_the_journey() {
    let mut random = Random(seed(0x5eed_0004));
    for _ in 0..300 {
        let random = &mut random;
        let run = Command::Run {
            mode: SyncMode::Block,
            ignore_same: random.below(2) == 0,
            anew: true,
            skip: random.below(2) == 0,
            definition: definition(random),
        };
        let barrier = Command::Barrier { cookie: random.next(), class: random.class() };
        let part = random.bytes(100).into();
        let (session, number) = (random.next(), random.next() as u32);
        let write = Command::Write { session, number, part, last: random.below(2) == 0 };
        let consistent = Command::Consistent(Consistent {
            cookie: random.next(),
            quiesce: random.text(),
            thaw: random.text(),
            hold: std::time::Duration::from_millis(random.next()),
            thaw_limit: std::time::Duration::from_millis(random.next()),
        });
        for command in [
            barrier,
            consistent,
            run,
            write,
            Command::Stop,
            Command::Suspend,
            Command::Resume,
            Command::Verify,
        ] {
            check_replica(FromReplica::Command(random.next(), command));
        }
    }
}

#[test]
fn texts_for_people_are_cut_between_characters() {
    let text = "ä".repeat(TEXT_BYTES_MAX);
    assert_eq!(clip(&text).len(), TEXT_BYTES_MAX);
    assert!(clip(&format!("x{text}")).len() == TEXT_BYTES_MAX - 1);
    assert_eq!(clip("short"), "short");
}
