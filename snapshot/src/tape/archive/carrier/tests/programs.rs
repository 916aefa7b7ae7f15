//! `tar`, `age` and `zstd` alone: what they restore of a carrier, in one tape file or in parts on three volumes, is what was
//! archived, with attributes, links, holes, and names of every kind.

use super::*;
use crate::catalog::tests::disk::SimDisk;
use crate::tape::archive::tests::archived;
use crate::tape::archive::tests::gnu_tar::{equal, make};
use crate::tape::tests::{DIRECTORY, labelled, open, take_stock, write};
use crate::tape::{Automatic, FileContent, SpanReader, parts_of, sessions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a line of the shell; it has to succeed.
fn run(line: &str) {
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", line]).env("LC_ALL", "C").stdin(Stdio::null());
    let ran = shell.output().unwrap();
    assert!(ran.status.success(), "{line}\n{}", String::from_utf8_lossy(&ran.stderr));
}

const RESTORE: &str = "tar --numeric-owner --xattrs --xattrs-include='*' --acls -xpf -";

/// What docs/tape.md says, for one file or for the parts of several volumes.
fn line(encoding: &Encoding, files: &[PathBuf], open: &str, to: &Path) -> String {
    let many = if files.len() > 1 { "M" } else { "" };
    let files: Vec<String> = files.iter().map(|file| format!("-f {}", file.display())).collect();
    let zstd = if encoding.compression == Compression::Zstd { "| zstd -dc" } else { "" };
    let (files, to) = (files.join(" "), to.display());
    format!("tar -x{many}O -b 32 --wildcards {files} '.rewind/*/data-*' {open} {zstd} | {RESTORE} -C {to}")
}

/// Writes a carrier to volumes of that many blocks of 16 KiB; its tape files.
fn on_volumes(session: &str, bytes: &[u8], sizes: &[u64], at: &Path) -> (SimDisk, Vec<PathBuf>) {
    let disk = SimDisk::default();
    let mut drive = open(&disk);
    labelled(&mut drive, sizes, 16 << 10, 0);
    let written = write(&mut drive, session, bytes).unwrap();
    let file = |(number, part): (usize, &crate::tape::PartPlace)| {
        let name = format!("{}/{:06}.tar", part.media, part.file);
        let path = at.join(format!("part-{number}"));
        fs::write(&path, disk.bytes(&Path::new(DIRECTORY).join(name))).unwrap();
        path
    };
    let files = written.parts.iter().enumerate().map(file).collect();
    (disk, files)
}

#[test]
fn standard_programs_restore_every_encoding_from_one_file_and_from_three() {
    let from = tempfile::tempdir().unwrap();
    make(from.path());
    let mut random = Random::from_clock("standard_programs_restore_every_encoding");
    fs::write(from.path().join("srv/noise"), random.bytes(2_500_000)).unwrap();
    let plain = archived(from.path()).out;
    let label = SessionReader::open(&plain[..], &scratch()).unwrap().label().unwrap().clone();
    let session = label.id().to_string();
    let text = identity();
    let key = key(&text);
    for encoding in encodings(&key) {
        let place = tempfile::tempdir().unwrap();
        let secret = place.path().join("key");
        fs::write(&secret, format!("# a comment\n{text}\n")).unwrap();
        let open_with = match encoding.key {
            Some(_) => format!("| age -d -i {}", secret.display()),
            None => String::new(),
        };
        let bytes = encoded(&label, &encoding, &plain, &mut random);
        let blocks = bytes.len() as u64 / (16 << 10) + 2;
        for sizes in [
            vec![blocks + 10],
            vec![blocks / 3, blocks / 3, blocks],
            vec![1, 1 + random.below(blocks / 2), blocks],
        ] {
            let (disk, files) = on_volumes(&session, &bytes, &sizes, place.path());
            assert_eq!(files.len(), sizes.len());
            let to = tempfile::tempdir().unwrap();
            run(&line(&encoding, &files, &open_with, to.path()));
            equal(from.path(), to.path());
            // What is on the volumes is known without a key.
            let mut drive = open(&disk);
            let stock = take_stock(&mut drive);
            let found = sessions(&stock).remove(0);
            assert_eq!(found.session, session);
            let said = found.label.unwrap();
            assert_eq!(said["compression"], encoding.compression.word());
            assert_eq!(said["encryption"], if encoding.key.is_some() { "age" } else { "none" });
            assert!(matches!(&stock[0].files[0].content, FileContent::First { label: Some(_), .. }));
            let parts = parts_of(&stock, &session).unwrap();
            let mut changer = Automatic;
            let reader = SpanReader::new(&mut drive, &mut changer, &session, parts).unwrap();
            let mut keeper = Keeper::default();
            let verdict = SessionReader::open_with(reader, Some(&key), &scratch()).unwrap().read(&mut keeper);
            assert_eq!(verdict.unwrap().fault(), None);
            assert_eq!(keeper.got, read(&plain, None).unwrap().0);
        }
    }
}

/// Types a passphrase at `age`, which asks for it on a terminal.
const TYPED: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("age", ["age", "-d", "-o", sys.argv[2], sys.argv[1]])
asked = b""
while b"passphrase" not in asked:
    asked += os.read(terminal, 1000)
os.write(terminal, sys.argv[3].encode() + b"\n")
try:
    while os.read(terminal, 1000):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_passphrase_is_typed_at_age() {
    let (from, to, place) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(from.path());
    let plain = archived(from.path()).out;
    let label = SessionReader::open(&plain[..], &scratch()).unwrap().label().unwrap().clone();
    let key = key("correct horse");
    let mut random = Random::from_clock("a_passphrase_is_typed_at_age");
    let bytes = encoded(&label, &encoding(Compression::Zstd, Some(&key)), &plain, &mut random);
    let at = |name: &str| place.path().join(name);
    fs::write(at("file.tar"), bytes).unwrap();
    run(&format!(
        "tar -xO --wildcards -f {0} '.rewind/*/data-*' > {1}",
        at("file.tar").display(),
        at("age").display()
    ));
    let mut typing = Command::new("python3");
    typing.args(["-c", TYPED]).args([at("age"), at("zstd")]).arg("correct horse");
    let ran = typing.output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    run(&format!("zstd -dc < {} | {RESTORE} -C {}", at("zstd").display(), to.path().display()));
    equal(from.path(), to.path());
}
