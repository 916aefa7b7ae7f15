//! Round trips of questions and answers of a scrub, and what a hostile peer's come to.

use super::*;
use crate::stream::{Command, FromMaster, FromReplica, Outcome};
use journal::{Attributes, Kind, Timestamp};

fn asked(ask: ScrubAsk) -> Result<FromReplica, ConvertError> {
    let message = proto::ReplicaMessage::from(FromReplica::Command(7, Command::Scrub(ask)));
    FromReplica::try_from(proto::ReplicaMessage::decode(&*message.encode_to_vec()).unwrap())
}

fn answered(answer: ScrubAnswer) -> Result<FromMaster, ConvertError> {
    let message = proto::MasterMessage::from(FromMaster::Reply(7, Outcome::Scrub(answer)));
    FromMaster::try_from(proto::MasterMessage::decode(&*message.encode_to_vec()).unwrap())
}

fn item(path: &[u8], first: u64, blocks: u32) -> ExamineItem {
    ExamineItem { path: path.to_vec(), node: NodeId::FIRST_FREE, first, blocks, captured: true, bytes: false }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

#[test]
fn questions_and_answers_survive_the_journey() {
    let root = RootNo(3);
    let at = Edge::new(NodeId::root(root), name("a"));
    for ask in [
        ScrubAsk::Examine { root, items: vec![item(b"a/b", 5, 16), item(b"", 0, 0)], bytes_max: 9 },
        ScrubAsk::Examine {
            root,
            items: vec![ExamineItem { bytes: true, ..item(b"a/b", 5, SCRUB_READ_BLOCKS_MAX) }],
            bytes_max: 9,
        },
        ScrubAsk::List { root, path: b"a".to_vec(), after: Some(name("x")) },
        ScrubAsk::List { root, path: Vec::new(), after: None },
        ScrubAsk::Capture {
            items: vec![
                CaptureItem { at: at.clone(), node: Some(NodeId::FIRST_FREE) },
                CaptureItem { at, node: None },
            ],
        },
    ] {
        assert_eq!(asked(ask.clone()).unwrap(), FromReplica::Command(7, Command::Scrub(ask)));
    }
    let attributes = Attributes { mode: 0o640, uid: 1, gid: 2, mtime: Timestamp(3), ctime: Timestamp(4) };
    let meta = Meta { kind: Kind::File, size: 70_000, attributes, xattrs: Vec::new() };
    let there = There { meta, xattrs: Some([9; 16]), hashes: vec![1; 32].into(), bytes: b"bytes"[..].into() };
    let (same, other) = (CapturedAs::Same, CapturedAs::Other);
    for answer in [
        ScrubAnswer::Examined(vec![
            Examined { found: Found::There(There { xattrs: None, ..there.clone() }), captured: same },
            Examined { found: Found::There(there), captured: other },
            Examined { found: Found::Gone, captured: CapturedAs::Untouched },
            Examined { found: Found::Gone, captured: CapturedAs::Unknown },
            Examined { found: Found::Moving, captured: CapturedAs::Unknown },
            Examined { found: Found::LeftOut, captured: CapturedAs::Unknown },
            Examined { found: Found::Unreadable(13), captured: CapturedAs::Unknown },
        ]),
        ScrubAnswer::Listed { names: Some(vec![name("a"), name("b")]), more: true },
        ScrubAnswer::Listed { names: None, more: false },
        ScrubAnswer::Capturing,
    ] {
        assert_eq!(answered(answer.clone()).unwrap(), FromMaster::Reply(7, Outcome::Scrub(answer)));
    }
}

#[test]
fn questions_beyond_the_limits_are_refused() {
    let root = RootNo(0);
    let refused = |items: Vec<ExamineItem>| {
        asked(ScrubAsk::Examine { root, items, bytes_max: 0 }).unwrap_err().to_string()
    };
    assert!(refused(vec![item(b"a", 0, 1); SCRUB_ITEMS_MAX + 1]).contains("items"));
    assert!(refused(vec![item(b"a", 0, 10_000); 2]).contains("blocks"));
    assert!(refused(vec![item(b"a", u64::MAX, 1)]).contains("first"));
    let read = |blocks| ExamineItem { bytes: true, ..item(b"a", 0, blocks) };
    assert!(refused(vec![read(SCRUB_READ_BLOCKS_MAX), read(1)]).contains("read"));
    assert!(refused(vec![item(b"a\0", 0, 1)]).contains("path"));
    assert!(refused(vec![item(&vec![b'a'; 600_000], 0, 1); 2]).contains("paths"));
    let names = Some((0..=SCRUB_NAMES_MAX).map(|n| name(&n.to_string())).collect());
    assert!(answered(ScrubAnswer::Listed { names, more: false }).is_err());
    let cut = |xattrs: usize, hashes: usize, bytes: usize| {
        let meta = Some(proto::Meta {
            kind: Some(proto::Kind { of: 1, ..Default::default() }),
            attributes: Some(proto::Attributes::default()),
            ..Default::default()
        });
        let (xattrs, hashes, bytes) = (vec![1; xattrs].into(), vec![1; hashes].into(), vec![1; bytes].into());
        examined_from(proto::Examined { state: 1, meta, xattrs, hashes, bytes, ..Default::default() })
    };
    assert!(cut(16, 32, 1 << 20).is_ok());
    assert!(cut(15, 32, 0).is_err());
    assert!(cut(16, 31, 0).is_err());
    assert!(cut(16, 32, (1 << 20) + 1).is_err());
    assert!(examined_from(proto::Examined::default()).is_err());
}
