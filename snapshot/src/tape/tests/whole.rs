//! The two halves of tape together: sessions as archives are made of repositories and directories, on volumes that end
//! anywhere, read back by us and by GNU tar.

use super::*;
use crate::repository::testing::{Random, fresh};
use crate::session::NoMonitor;
use crate::tape::archive::tests::gnu_tar::equal;
use crate::tape::archive::tests::repository::{archive as archive_of, locked, stored};
use crate::tape::archive::tests::{Keeper, archived, scratch};
use crate::tape::archive::{IntoOptions, SessionReader, into_repository};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

/// The id of an archive's session, from its label.
fn session_of(archive: &[u8]) -> String {
    let mut keeper = Keeper::default();
    let verdict = SessionReader::open(archive, &scratch()).unwrap().read(&mut keeper).unwrap();
    assert_eq!(verdict.fault(), None);
    verdict.label.unwrap().id().to_string()
}

/// Writes an archive to volumes that end after so many blocks; where its parts lie.
fn on_volumes(disk: &SimDisk, session: &str, archive: &[u8], sizes: &[u64], block: usize) -> Vec<PartPlace> {
    let mut drive = open(disk);
    labelled(&mut drive, sizes, block, 0);
    let written = write(&mut drive, session, archive).unwrap();
    let parts = parts_of(&take_stock(&mut drive), session).unwrap();
    assert_eq!(parts, written.parts);
    parts
}

#[test]
fn a_session_of_a_repository_comes_back_from_three_volumes() {
    let mut random = Random::from_clock("a_session_of_a_repository_comes_back_from_three_volumes");
    for _ in 0..3 {
        let stored = stored(Random(random.next() | 1), false);
        let wrote = archive_of(&stored);
        let session = session_of(&wrote.out);
        for round in 0..12 {
            let block = [512, 1024, 4096][round % 3];
            let blocks = (wrote.out.len() / block) as u64;
            let first = 1 + random.below(blocks * 2 / 3);
            let sizes = [first, 8 + random.below((blocks - first).max(2)), blocks + 200];
            let disk = SimDisk::default();
            let parts = on_volumes(&disk, &session, &wrote.out, &sizes, block);
            let context = format!("volumes of {sizes:?} blocks of {block}");
            let (mut drive, mut changer) = (open(&disk), Automatic);
            let reader = SpanReader::new(&mut drive, &mut changer, &session, parts).unwrap();
            let (_, repository) = fresh();
            let lock = locked(&repository);
            let options = IntoOptions::default();
            let taken = into_repository(reader, &options, (&repository, &lock), &scratch(), &NoMonitor);
            let taken = taken.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!(taken.tree, stored.record.tree, "{context}");
            assert_eq!(taken.verdict.label.unwrap().id().to_string(), session, "{context}");
        }
    }
}

/// Gives tape files in blocks of 512 bytes to GNU tar, which must say nothing.
fn tar(what: &str, disk: &SimDisk, parts: &[PartPlace], to: &Path, context: &str) {
    let mut command = Command::new("tar");
    command.args([what, "--xattrs", "--xattrs-include=*", "-b", "1"]);
    let mut files = Vec::new();
    for part in parts {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = format!("{}/{:06}.tar", part.media, part.file);
        fs::write(file.path(), disk.bytes(&Path::new(DIRECTORY).join(name))).unwrap();
        command.arg("-f").arg(file.path());
        files.push(file);
    }
    command.arg("-C").arg(to).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{context}: {said}");
}

/// Offsets of the global headers in an archive, and the end of what each hides.
fn hidden(archive: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(header) =
        archive.get(at..at + UNIT).and_then(|unit| header::parse(unit.try_into().unwrap()))
    {
        let end = at + UNIT + header::padded(header.size).unwrap() as usize;
        if header.kind == b'g' {
            found.push((at, end));
        }
        at = end;
    }
    found
}

/// A part of ours begins with a header and a stand-in of its own, so that what GNU tar makes of a global header at
/// the beginning of a volume does not matter: here one stands behind them at each of its blocks, and right before the cut.
#[test]
fn gnu_tar_takes_cuts_at_hidden_members() {
    let mut random = Random::from_clock("gnu_tar_takes_cuts_at_hidden_members");
    let from = tempfile::tempdir().unwrap();
    let root = from.path().join("root");
    fs::create_dir_all(root.join("m/deep")).unwrap();
    for name in ["b", "m/one", "m/deep/two", "y"] {
        let length = random.below(9000) as usize;
        fs::write(root.join(name), random.bytes(length)).unwrap();
    }
    fs::write(root.join("m/sparse"), [vec![0; 200_000], b"end".to_vec()].concat()).unwrap();
    let long = format!("m/{}", "s".repeat(150));
    let names = ["aaaa", "m/zzzz", "m/zzzzz", &long, "zzzz"];
    let _sockets = names.map(|name| {
        // Bound where the name is short enough, then renamed.
        let short = root.join("s");
        let socket = UnixListener::bind(&short).unwrap();
        fs::rename(&short, root.join(name)).unwrap();
        socket
    });
    let wrote = archived(from.path());
    let session = session_of(&wrote.out);
    let hidden = hidden(&wrote.out);
    assert_eq!(hidden.len(), names.len(), "{hidden:?}");
    let inside = |cut: usize| hidden.iter().any(|(start, end)| (start / UNIT..=end / UNIT).contains(&cut));
    let blocks = wrote.out.len() / UNIT;
    let mut cuts: BTreeSet<usize> = (0..10).map(|_| 1 + random.below(blocks as u64 - 2) as usize).collect();
    for (start, end) in &hidden {
        cuts.extend(start / UNIT - 1..=end / UNIT + 3);
    }
    let mut alone = 0;
    for cut in cuts {
        let to = tempfile::tempdir().unwrap();
        let disk = SimDisk::default();
        // The second ends somewhere, too.
        let sizes = [cut as u64, 80 + random.below(blocks as u64), blocks as u64 + 200];
        let context = format!("volumes of {sizes:?} blocks");
        let parts = on_volumes(&disk, &session, &wrote.out, &sizes, UNIT);
        tar("-xpM", &disk, &parts, to.path(), &context);
        equal(from.path(), to.path());
        if let ([_, last], true) = (parts.as_slice(), inside(cut)) {
            // Who has nothing but what follows comes to the next member.
            tar("-t", &disk, std::slice::from_ref(last), to.path(), &format!("{context}, the last alone"));
            alone += 1;
        }
        let mut drive = open(&disk);
        assert!(read(&mut drive, &session, parts).unwrap() == wrote.out, "{context}");
    }
    assert!(alone > 0);
}
