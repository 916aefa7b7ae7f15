//! What a scrub sees of a master: exactly what is below the root and protected, and never what a question should not lead to.

use crate::capture::{Actual, CaptureError, CaptureRoot, KnownBlocks};
use journal::digest::xattrs_hash;
use journal::{Kind, Name, NodeId, RootNo, Timestamp};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use wire::stream::{CapturedAs, ExamineItem, Examined, Found, SCRUB_NAMES_MAX, ScrubAnswer};

fn item(path: &str, blocks: u32) -> ExamineItem {
    let path = path.as_bytes().to_vec();
    ExamineItem { path, node: NodeId::FIRST_FREE, first: 0, blocks, captured: false, bytes: false }
}

fn root(directory: &std::path::Path) -> Actual {
    let exclude = vec!["*.tmp".to_owned(), "left/out".to_owned()];
    Actual::open(&CaptureRoot { number: RootNo(0), path: directory.join("root"), exclude }).unwrap()
}

fn look(actual: &Actual, path: &str) -> Found {
    let nobody = |_, _| None;
    let [Examined { found, .. }] = &actual.examine(&[item(path, 16)], 1 << 20, &nobody)[..] else { panic!() };
    found.clone()
}

#[test]
fn questions_lead_nowhere_but_below_the_root() {
    let place = tempfile::tempdir().unwrap();
    for directory in ["root/d", "root/left/out", "outside"] {
        fs::create_dir_all(place.path().join(directory)).unwrap();
    }
    for file in ["root/d/f", "root/x.tmp", "root/left/out/f", "outside/secret"] {
        fs::write(place.path().join(file), file).unwrap();
    }
    symlink(place.path().join("outside"), place.path().join("root/away")).unwrap();
    let actual = root(place.path());
    for path in [
        "../outside/secret",
        "d/../../outside/secret",
        "/etc/passwd",
        "away/secret",
        "d/./f",
        "d//f",
        "d/f/g",
    ] {
        assert_eq!(look(&actual, path), Found::Gone, "{path}");
    }
    fs::create_dir(place.path().join("root/.rewind-stage-0")).unwrap();
    for path in ["x.tmp", "left/out", "left/out/f", ".rewind-stage-0"] {
        assert_eq!(look(&actual, path), Found::LeftOut, "{path}");
    }
    let Found::There(file) = look(&actual, "d/f") else { panic!() };
    assert_eq!((file.meta.kind, file.meta.size, file.hashes.len()), (Kind::File, 8, 16));
    assert_eq!(file.xattrs, Some(xattrs_hash(&Vec::new())));
    let Found::There(link) = look(&actual, "away") else { panic!() };
    assert!(matches!(link.meta.kind, Kind::Symlink(target) if target.ends_with(b"outside")));
    assert!(matches!(look(&actual, ""), Found::There(there) if there.meta.kind == Kind::Directory));
    assert_eq!(actual.list(b"away", None), ScrubAnswer::Listed { names: None, more: false });
    assert_eq!(actual.list(b"../outside", None), ScrubAnswer::Listed { names: None, more: false });
}

#[test]
fn zeros_and_holes_are_the_same_and_other_bytes_are_not() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("root")).unwrap();
    let hole = fs::File::create(place.path().join("root/hole")).unwrap();
    hole.set_len(200_000).unwrap();
    hole.write_all_at(b"end", 199_990).unwrap();
    let mut bytes = vec![0; 200_000];
    bytes[199_990..199_993].copy_from_slice(b"end");
    fs::write(place.path().join("root/zeros"), &bytes).unwrap();
    bytes[70_000] = 1;
    fs::write(place.path().join("root/other"), &bytes).unwrap();
    let actual = root(place.path());
    let hashes = |path: &str| match look(&actual, path) {
        Found::There(there) => there.hashes,
        found => panic!("{found:?}"),
    };
    assert_eq!(hashes("hole").len(), 4 * 16);
    assert_eq!(hashes("hole"), hashes("zeros"));
    assert!(hashes("hole")[16..32] != hashes("other")[16..32]);
    assert_eq!(hashes("hole")[32..], hashes("other")[32..]);

    // What the index knows decides who is right; it tells zeros from holes.
    let known = |change: Option<usize>| {
        let blocks = bytes.chunks(4096).map(|block| *blake3::hash(block).as_bytes());
        let mut hashes: Vec<u8> = blocks.flat_map(|hash| hash[..16].to_vec()).collect();
        hashes[..16].fill(0);
        if let Some(block) = change {
            hashes[block * 16] ^= 1;
        }
        move |_: NodeId, _: std::ops::Range<u64>| {
            Some(KnownBlocks { block_bits: 12, first: 0, size: 200_000, hashes: hashes.clone(), ctime: None })
        }
    };
    let asked = ExamineItem { captured: true, ..item("other", 16) };
    let said = |change| actual.examine(std::slice::from_ref(&asked), 1 << 20, &known(change))[0].captured;
    assert_eq!(said(None), CapturedAs::Same);
    assert_eq!(said(Some(17)), CapturedAs::Other);
    assert_eq!(said(Some(48)), CapturedAs::Other);

    // Bytes that are others under the change time that was captured were not written.
    let stat = fs::metadata(place.path().join("root/other")).unwrap();
    let ctime = stat.ctime() * 1_000_000_000 + stat.ctime_nsec();
    let dated = |change, ctime| {
        let known = |node, range| {
            known(change)(node, range).map(|all| KnownBlocks { ctime: Some(Timestamp(ctime)), ..all })
        };
        actual.examine(std::slice::from_ref(&asked), 1 << 20, &known)[0].captured
    };
    assert_eq!(dated(Some(17), ctime), CapturedAs::Untouched);
    assert_eq!(dated(Some(17), ctime - 1), CapturedAs::Other);
    assert_eq!(dated(None, ctime), CapturedAs::Same);
}

#[test]
fn large_directories_come_in_pages_and_large_questions_in_parts() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("root")).unwrap();
    let count = SCRUB_NAMES_MAX + 10;
    for number in 0..count {
        fs::write(place.path().join(format!("root/{number:05}")), [1; 100]).unwrap();
    }
    let actual = root(place.path());
    let (mut all, mut after): (Vec<Name>, Option<Name>) = (Vec::new(), None);
    loop {
        let ScrubAnswer::Listed { names: Some(names), more } = actual.list(b"", after.as_ref()) else {
            panic!()
        };
        after = names.last().cloned();
        all.extend(names);
        if !more {
            break;
        }
    }
    let expected: Vec<Name> = (0..count).map(|n| Name::new(format!("{n:05}").as_bytes()).unwrap()).collect();
    assert!(all == expected);
    let items: Vec<_> = (0..10).map(|number| item(&format!("{number:05}"), 1)).collect();
    let nobody = |_, _| None;
    assert_eq!(actual.examine(&items, 250, &nobody).len(), 3);
    assert_eq!(actual.examine(&items, 0, &nobody).len(), 1);
    assert_eq!(actual.examine(&items, 1000, &nobody).len(), 10);
}

#[test]
fn a_root_that_is_another_directory_is_not_looked_at() {
    let mut bench = super::Bench::prepare();
    let origins = bench.own.path().join("origins");
    bench.config.origins = Some(origins.clone());
    bench.start(super::Start::First);
    bench.check();
    let config = bench.config.roots[0].clone();
    let empty = bench.own.path().join("nothing");
    for remembered in [&origins, &empty] {
        assert!(Actual::open_captured(&config, remembered).is_ok());
    }
    // As when what was mounted there is not mounted.
    fs::rename(bench.root(), bench.outside().join("moved")).unwrap();
    fs::create_dir(bench.root()).unwrap();
    let other = Actual::open_captured(&config, &origins);
    assert!(matches!(other, Err(CaptureError::RootLost { .. })));
    bench.stop();
}
