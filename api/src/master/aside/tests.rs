//! What becomes of the spools of scenarios that are no longer assigned.

use super::*;
use journal::{Event, NodeId, Payload, Provenance, RootNo, Timestamp};
use replication::spool::{Draft, SpoolOptions};
use std::sync::Arc;
use wire::stream::JournalId;

struct Bench {
    top: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench { top: tempfile::tempdir().unwrap() }
    }

    fn spool(&self) -> PathBuf {
        self.top.path().join("spool")
    }

    fn layout(&self) -> Layout {
        Layout::new(self.top.path().join("data"))
    }

    fn options(&self, name: &str) -> SpoolOptions {
        SpoolOptions { disk_free_bytes_min: 0, ..SpoolOptions::new(self.spool().join(name)) }
    }

    /// A scenario that was served: so many captures, so many of them acknowledged.
    fn served(&self, name: &str, captures: u64, acknowledged: u64, cleanly: bool) {
        std::fs::create_dir_all(self.layout().index(name)).unwrap();
        std::fs::create_dir_all(self.layout().cookies(name)).unwrap();
        let (spool, _) = Spool::open(Arc::new(OsDisk), self.options(name)).unwrap();
        spool.begin(JournalId([7; 16]), Lsn::ZERO, Timestamp(0)).unwrap();
        for _ in 0..captures {
            let data = Payload::Inline(b"bytes nobody else has".to_vec().into());
            let event = Event::Write { node: NodeId(5000), offset: 0, data, before: None };
            let draft = Draft {
                time: Timestamp(1),
                provenance: Provenance::Derived,
                root: RootNo(0),
                path: Vec::new(),
                part: 0,
                last: true,
                events: vec![event],
            };
            spool.emit(draft).unwrap();
        }
        spool.acknowledge(Lsn::captured(acknowledged));
        if cleanly {
            spool.close().unwrap();
        } else {
            spool.persist().unwrap();
        }
    }

    fn forget(&self, wanted: &[&str], now: u64) -> Vec<Line> {
        let wanted = wanted.iter().map(|name| (*name).to_owned()).collect();
        forget_others(&self.spool(), &self.layout(), &wanted, now)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.spool()).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_not_acknowledged_survives_a_list_without_its_scenario() {
    let bench = Bench::new();
    bench.served("docs.3", 5, 2, true);
    bench.served("other.4", 1, 0, true);
    let lines = bench.forget(&["other.4"], 1000);
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].level, lines[0].scenario.as_str()), (Level::Warning, "docs"));
    assert!(lines[0].text.contains("captures 3 to 5"), "{}", lines[0].text);
    assert_eq!(bench.names(), ["docs.3.aside-1000", "other.4"]);
    assert!(!bench.layout().index("docs.3").exists() && bench.layout().index("other.4").exists());
    let aside = &list(&bench.spool())[0];
    assert_eq!((aside.scenario.as_str(), aside.id, aside.since), ("docs", 3, 1000));

    // Lists that still do not name it change nothing.
    assert!(bench.forget(&["other.4"], 1001).is_empty());
    // It comes back: everything that was spooled is there.
    assert_eq!(take_back(&bench.spool(), "docs.3").unwrap().level, Level::Info);
    assert_eq!(bench.names(), ["docs.3", "other.4"]);
    let (_, opened) = Spool::open(Arc::new(OsDisk), bench.options("docs.3")).unwrap();
    assert_eq!((opened.acknowledged, opened.captured), (Lsn::captured(2), Some(Lsn::captured(5))));
    assert!(take_back(&bench.spool(), "docs.3").is_none());
}

#[test]
fn the_mark_of_what_was_acknowledged_survives_a_crash_too() {
    let bench = Bench::new();
    bench.served("docs.3", 5, 2, false);
    assert_eq!(bench.forget(&[], 1000).len(), 1);
    take_back(&bench.spool(), "docs.3").unwrap();
    let (_, opened) = Spool::open(Arc::new(OsDisk), bench.options("docs.3")).unwrap();
    assert_eq!((opened.acknowledged, opened.captured), (Lsn::captured(2), None));
}

#[test]
fn what_is_acknowledged_goes() {
    let bench = Bench::new();
    bench.served("docs.3", 5, 5, true);
    assert!(bench.forget(&[], 1000).is_empty());
    assert!(bench.names().is_empty() && !bench.layout().index("docs.3").exists());
}

#[test]
fn what_cannot_be_read_is_kept() {
    let bench = Bench::new();
    bench.served("docs.3", 5, 2, true);
    std::fs::write(bench.spool().join("docs.3/state"), "rubbish").unwrap();
    let lines = bench.forget(&[], 1000);
    assert!(lines[0].text.contains("cannot be read"), "{}", lines[0].text);
    assert_eq!(bench.names(), ["docs.3.aside-1000"]);
}

#[test]
fn there_are_never_too_many_and_those_without_captures_go_first() {
    let bench = Bench::new();
    for number in 0..ASIDE_MAX as u64 {
        bench.served(&format!("s.{number}"), 1, 0, number != 7);
        assert_eq!(bench.forget(&[], 1000 + number).len(), 1);
    }
    bench.served("last.99", 1, 0, true);
    let lines = bench.forget(&[], 2000);
    assert_eq!((lines.len(), lines[1].level), (2, Level::Warning));
    bench.served("more.99", 1, 0, true);
    let lines = bench.forget(&[], 2001);
    assert_eq!((lines.len(), lines[1].level), (2, Level::Error));
    let names = bench.names();
    assert_eq!(names.len(), ASIDE_MAX);
    assert!(!names.iter().any(|name| name.starts_with("s.7.") || name.starts_with("s.0.")), "{names:?}");
}
