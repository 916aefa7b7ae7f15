//! Sources that do not give what they said, and objects that cannot be archived: loud, and the stream stays whole.

use super::repository::locked;
use super::{Memory, label, node, read, scratch, tar};
use crate::repository::testing::fresh;
use crate::repository::{Id, Node, NodeKind};
use crate::session::NoMonitor;
use crate::tape::archive::{
    ArchiveErrorKind, IntoOptions, Proof, SessionWriter, Source, SourceFailure, Stored, into_repository,
};
use std::ffi::OsStr;

struct Failing(u64);

impl Source for Failing {
    fn bytes(&mut self, offset: u64, limit: usize) -> Result<&[u8], SourceFailure> {
        let left = self.0.saturating_sub(offset) as usize;
        if left == 0 {
            return Err(SourceFailure::File("the disk says no".into()));
        }
        Ok(&[b'r'; 1000][..limit.min(left).min(1000)])
    }
}

fn file(name: &str, size: u64) -> Node {
    Node { size, links: 2, inode: 1, ..node(name, NodeKind::File) }
}

#[test]
fn what_cannot_be_read_is_zeros_and_said() {
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    let id = Id::of(b"");
    let mut add = |name: &str, size: u64, source: &mut dyn Source| {
        writer.file((name.as_bytes(), &file(name, size)), &id, &[0..size], source).unwrap()
    };
    assert!(matches!(add("a-short", 1000, &mut Memory(&[b'r'; 400])), Stored::Damaged(_)));
    // The second name of what could not be read is tried again; it can be read now.
    assert_eq!(add("b-long-enough", 1000, &mut Memory(&[b'r'; 1000])), Stored::Whole);
    assert_eq!(add("c-link", 1000, &mut Memory(&[])), Stored::Whole);
    assert!(matches!(add("d-longer", 999, &mut Memory(&[b'r'; 1000])), Stored::Damaged(_)));
    assert!(matches!(add("e-failing", 700_000, &mut Failing(300_000)), Stored::Damaged(_)));
    writer.node(b"f-other", &node("f-other", NodeKind::Other)).unwrap();
    writer.missed(b"g-gone", "it is gone").unwrap();
    writer.node(b"h-dir", &node("h-dir", NodeKind::Directory)).unwrap();
    let wrote = writer.finish().unwrap();
    assert_eq!((wrote.totals.members, wrote.totals.damaged, wrote.totals.missed), (6, 3, 2));
    let listed: Vec<_> = wrote.listed.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
    assert_eq!(listed, ["a-short", "d-longer", "e-failing", "f-other", "g-gone"]);
    let (got, verdict) = read(&wrote.out).unwrap();
    assert_eq!(verdict.fault(), None, "the archive itself is whole");
    assert_eq!(verdict.unread_count, 3);
    let unread: Vec<_> = verdict.unread.iter().map(|one| String::from_utf8_lossy(&one.path)).collect();
    assert_eq!(unread, ["a-short", "d-longer", "e-failing"]);
    assert!(verdict.unread[2].reason.contains("the disk says no"));
    for (path, got) in &got {
        let unread = unread.iter().any(|one| one.as_bytes() == path.as_slice());
        assert_eq!(got.proof, if unread { Proof::Unread } else { Proof::Right });
    }
    let short = got[b"a-short".as_slice()].content.clone().unwrap();
    assert_eq!(short, [[b'r'; 400].as_slice(), &[0; 600]].concat());
    assert_eq!(got[b"c-link".as_slice()].first, b"b-long-enough");
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), &wrote.out).unwrap();
    let (ok, _, said) = tar(&[OsStr::new("-tf"), archive.path().as_os_str()]);
    assert!(ok && said.is_empty(), "{said}");
}

#[test]
fn a_source_that_fails_for_all_ends_the_work() {
    struct Down(bool);
    impl Source for Down {
        fn bytes(&mut self, _: u64, _: usize) -> Result<&[u8], SourceFailure> {
            Err(if self.0 { SourceFailure::All("down".into()) } else { SourceFailure::Cancelled })
        }
    }
    for (down, kind) in [(true, ArchiveErrorKind::Source), (false, ArchiveErrorKind::Cancelled)] {
        let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
        let error = writer.file((b"a", &file("a", 5)), &Id::of(b""), &[0..5], &mut Down(down)).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn a_medium_that_is_full_is_an_error() {
    let mut room = [0_u8; 3000];
    let mut writer = SessionWriter::begin(&mut room[..], &label(), &scratch()).unwrap();
    let error = writer.file((b"a", &file("a", 5)), &Id::of(b""), &[0..5], &mut Memory(b"12345")).unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Medium);
}

#[test]
fn what_was_missed_below_a_wanted_path_is_missing_from_it() {
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    for path in ["a", "b"] {
        writer.node(path.as_bytes(), &node(path, NodeKind::Directory)).unwrap();
        writer.missed(format!("{path}/gone").as_bytes(), "it is gone").unwrap();
    }
    let archive = writer.finish().unwrap().out;
    for (wanted, missed) in
        [(&[][..], &["/a/gone", "/b/gone"][..]), (&["a"], &["/a/gone"]), (&["/b/gone/x"], &[])]
    {
        let wanted = wanted.iter().map(|path| path.as_bytes().to_vec()).collect();
        let (_, repository) = fresh();
        let lock = locked(&repository);
        let options = IntoOptions { wanted, ..IntoOptions::default() };
        let into =
            into_repository(&archive[..], &options, (&repository, &lock), &scratch(), &NoMonitor).unwrap();
        let told: Vec<_> =
            into.missed.iter().map(|one| String::from_utf8_lossy(&one.path).into_owned()).collect();
        assert_eq!(told, missed);
        assert_eq!(into.missed_count, missed.len() as u64);
    }
}

#[test]
fn what_a_catalog_says_at_length_is_counted_and_cut() {
    let mut writer = SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap();
    writer.missed(b"a", &"\u{e9}".repeat(1 << 20)).unwrap();
    writer.missed(&[b'p'; 1 << 20], "its path is too long").unwrap();
    let (_, verdict) = read(&writer.finish().unwrap().out).unwrap();
    assert_eq!((verdict.fault(), verdict.totals.unwrap().missed), (None, 2));
    let kept: Vec<_> = verdict.missed.iter().map(|(path, why)| (path.as_slice(), why.len())).collect();
    assert_eq!(kept, [(&b"a"[..], 2000)]);
}
