//! A rescue from volumes of tape, without daemon, catalog or password: does what comes back equal what was there, and is
//! what cannot be had refused with the volume or the object named?

use crate::backups::Ground;
use crate::restores::{copy, landed};
use journal::disk::OsDisk;
use serde_json::Value;
use snapshot::repository::{Id, Repository};
use snapshot::session::NoMonitor;
use snapshot::store::DirectoryStore;
use snapshot::tape::archive::{LabelFields, SessionLabel, from_repository};
use snapshot::tape::{
    Automatic, Drive, FileDrive, LabelRequest, MediumOptions, Overwrite, SpanOptions, SpanWriter, Wanted,
    volume,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tests::compare::assert_same;
use tests::daemon::Ran;

const BLOCK_BYTES: usize = 4096;
const POOL: &str = "p";

struct Tape {
    ground: Ground,
    place: PathBuf,
    /// The master as the first session has it.
    kept: PathBuf,
    first: String,
    second: String,
}

fn archive(ground: &Ground, id: &str, fits: &dyn Fn(&str) -> bool) -> (String, Vec<u8>) {
    let store = Arc::new(DirectoryStore::open(&ground.repository).unwrap());
    let repository = Repository::open(store, &"correct horse".to_owned().into()).unwrap();
    let id = Id::parse(id).unwrap();
    let record = repository.load_session(&id).unwrap();
    let mut fields = LabelFields::of_record(&id, &record);
    // The id is a hash of the label.
    let label = loop {
        let label = SessionLabel::new(fields.clone()).unwrap();
        if fits(&label.id().to_string()) {
            break label;
        }
        fields.written.seconds += 1;
    };
    let scratch = std::env::temp_dir();
    let wrote = from_repository(&repository, (&label, &record.tree), Vec::new(), &scratch, &NoMonitor);
    (label.id().to_string(), wrote.unwrap().out)
}

fn write(place: &Path, media: &str, session: &str, archive: &[u8]) {
    let mut drive = FileDrive::open(Arc::new(OsDisk), place).unwrap();
    let mut changer = Automatic;
    let (session, pool, media) = (session.to_owned(), POOL.to_owned(), Some(media.to_owned()));
    let options = SpanOptions { session, pool, media, seconds: 1_700_000_000 };
    let mut writer = SpanWriter::begin(&mut drive, &mut changer, options).unwrap();
    writer.write(archive).unwrap();
    writer.finish().unwrap();
}

fn insert(place: &Path, media: &str, sequence: u32, capacity: u64) {
    let mut drive = FileDrive::open(Arc::new(OsDisk), place).unwrap();
    drive.insert(media, MediumOptions { capacity, early_warning: 0 }).unwrap();
    drive.load(Wanted::Named(media)).unwrap();
    let (media, pool, made_by) = (media.to_owned(), POOL.to_owned(), "test".to_owned());
    let request = LabelRequest { media, pool, sequence, block_bytes: BLOCK_BYTES, made_by, made_at: 0 };
    volume::label(&mut drive, request, Overwrite::Refuse).unwrap();
}

impl Tape {
    /// The first session lies on `one` and `two`, the second on `two` and `three`. Both ids begin with the same digit.
    fn new() -> Tape {
        let mut ground = Ground::new();
        let (master, place, kept) =
            (ground.world.master(), ground.world.path("tapes"), ground.world.path("kept"));
        let (_, session) = ground.backup();
        copy(&master, &kept);
        let (first, bytes) = archive(&ground, session["id"].as_str().unwrap(), &|_| true);
        let half = bytes.len() as u64 / 2;
        insert(&place, "one", 1, half);
        insert(&place, "two", 2, bytes.len() as u64);
        write(&place, "one", &first, &bytes);
        std::fs::write(master.join("file-01"), "another content").unwrap();
        let (_, session) = ground.backup();
        let digit = first[..1].to_owned();
        let fits = |id: &str| id.starts_with(&digit) && id != first;
        let (second, bytes) = archive(&ground, session["id"].as_str().unwrap(), &fits);
        insert(&place, "three", 3, 1 << 30);
        write(&place, "two", &second, &bytes);
        ground.world.stop();
        for (media, files) in [("one", 2), ("two", 3), ("three", 2)] {
            for file in 0..files {
                assert!(place.join(media).join(format!("{file:06}.tar")).is_file(), "{media} {file}");
            }
        }
        Tape { ground, place, kept, first, second }
    }

    fn onto(&self, name: &str) -> PathBuf {
        self.ground.world.path("onto").join(name)
    }

    fn rescue(&self, words: &str, name: &str) -> Ran {
        let (place, onto) = (self.place.display(), self.onto(name));
        std::fs::create_dir_all(onto.parent().unwrap()).unwrap();
        let line =
            format!("--endpoint unix:/nowhere rescue tape://{place} {words} --onto {}", onto.display());
        self.ground.world.ctl(&line)
    }

    fn rescued(&self, words: &str, name: &str) -> (Value, PathBuf) {
        let ran = self.rescue(words, name);
        assert_eq!(ran.exit, 0, "{ran:?}");
        (ran.objects().remove(0), landed(&self.onto(name), &self.ground.world.master()))
    }

    /// Refused, and nothing is there.
    fn refused(&self, words: &str, exit: i32, code: &str, says: &str) {
        let ran = self.rescue(words, "refused");
        assert_eq!((ran.exit, ran.code().as_str()), (exit, code), "{ran:?}");
        let message = ran.objects()[0]["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{message:?} does not say {says:?}");
        assert!(!self.onto("refused").exists(), "{words}: something was restored");
    }

    /// Does something while a volume is elsewhere.
    fn without(&self, media: &str, act: impl FnOnce()) {
        let (here, away) = (self.place.join(media), self.ground.world.path("away"));
        std::fs::rename(&here, &away).unwrap();
        act();
        std::fs::rename(&away, &here).unwrap();
    }
}

#[test]
fn sessions_come_back_from_volumes() {
    let tape = Tape::new();
    let master = tape.ground.world.master();
    let (report, at) = tape.rescued("latest --verify", "latest");
    assert_eq!((&report["state"], &report["verified"]), (&"done".into(), &true.into()), "{report}");
    assert_eq!(report["session"], tape.second.as_str(), "{report}");
    assert_same(&master, &at, "the latest");
    let (report, at) = tape.rescued(&tape.first[..12], "first");
    assert_eq!(report["session"], tape.first.as_str(), "{report}");
    assert_same(&tape.kept, &at, "by id");
    // A path only.
    let wanted = master.join("a/b");
    let (_, at) = tape.rescued(&format!("{} {}", tape.first, wanted.display()), "path");
    assert_same(&tape.kept.join("a/b"), &at.join("a/b"), "a path");
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 1, "nothing else");
    // The rules are those of any restore.
    let again = tape.rescue(&tape.first, "first");
    assert_eq!((again.exit, again.code().as_str()), (5, "RW1072"), "{again:?}");
    let (again, _) = tape.rescued(&format!("{} --if-exists skip", tape.first), "first");
    assert_eq!(again["bytes_written"], 0, "{again}");
    let (planned, _) = tape.rescued("latest --dry-run", "planned");
    assert!(planned["created"].as_u64().unwrap() > 40, "{planned}");
    assert!(!tape.onto("planned").exists(), "a dry run writes nothing");
    // What was read from tape is kept beside the targets meanwhile, and gone then.
    let mut left: Vec<_> = std::fs::read_dir(tape.ground.world.path("onto"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["first", "latest", "path"]);
}

#[test]
fn what_is_not_there_is_refused() {
    let tape = Tape::new();
    tape.refused("fedcba9876543210", 4, "RW1070", "fedcba9876543210");
    tape.refused("xyz", 4, "RW1070", "xyz");
    tape.refused(&tape.first[..1], 2, "RW1071", &tape.second[..16]);
    tape.refused("latest /nowhere", 4, "RW1032", "");
    tape.refused("--at 2100-01-01T00:00:00Z", 2, "RW1009", "tape");
    tape.without("one", || tape.refused(&tape.first, 4, "RW1128", "on volume one, which is not at hand"));
    tape.without("two", || tape.refused(&tape.first, 4, "RW1128", "does not end on one"));
    tape.without("three", || {
        tape.refused(&tape.second, 4, "RW1128", "does not end on two");
        // The newest is not at hand: the one before it is taken, and that is said.
        let ran = tape.rescue("latest", "older");
        assert_eq!(ran.exit, 3, "{ran:?}");
        let report = ran.objects().remove(0);
        assert_eq!(report["session"], tape.first.as_str(), "{report}");
        assert!(ran.stderr.contains(&tape.second[..16]), "{ran:?}");
        assert_same(&tape.kept, &landed(&tape.onto("older"), &tape.ground.world.master()), "the older");
    });
    // A directory that is no drive is left as it is.
    let empty = tape.ground.world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    for (url, code) in [
        (format!("tape://{}", empty.display()), "RW1124"),
        ("tape:///dev/no-such-drive".to_owned(), "RW1124"),
        ("tape://there".to_owned(), "RW1052"),
    ] {
        let onto = tape.onto("refused");
        let ran = tape.ground.world.ctl(&format!("rescue {url} latest --onto {}", onto.display()));
        assert_eq!(ran.code(), code, "{url}: {ran:?}");
    }
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_damaged_session_is_refused_and_the_object_named() {
    let tape = Tape::new();
    let flip = |media: &str, file: u32, bytes: &[u8]| {
        let path = tape.place.join(media).join(format!("{file:06}.tar"));
        let whole = std::fs::read(&path).unwrap();
        let at = whole.windows(bytes.len()).position(|window| window == bytes).unwrap();
        let mut damaged = whole.clone();
        damaged[at + 3] ^= 0x20;
        std::fs::write(&path, damaged).unwrap();
        (path, whole)
    };
    // In the content of a file of the first part; in that of one of the last.
    for (media, number) in [("one", 4_usize), ("two", 39)] {
        let (path, whole) = flip(media, 1, &vec![number as u8; 600]);
        tape.refused(&tape.first, 8, "RW1129", &format!("file-{number:02}"));
        // Other sessions are not touched by it.
        let (_, at) = tape.rescued("latest", &format!("beside-{media}"));
        assert_same(&tape.ground.world.master(), &at, "the session beside it");
        std::fs::write(path, whole).unwrap();
    }
    let (_, at) = tape.rescued(&tape.first, "whole");
    assert_same(&tape.kept, &at, "put right");
    // Cut off in the middle of a block.
    let path = tape.place.join("two/000001.tar");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let ran = tape.rescue(&tape.first, "refused");
    assert!(ran.exit != 0 && !tape.onto("refused").exists(), "{ran:?}");
}
