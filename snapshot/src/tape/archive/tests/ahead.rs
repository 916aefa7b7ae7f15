//! What is read ahead is written as if it had been read there: in order, whole, and with its failures where they stand.

use super::{label, node, read, scratch};
use crate::repository::index::Location;
use crate::repository::testing::Random;
use crate::repository::{BlobKind, Id, Node, NodeKind, Xattr};
use crate::session::NoMonitor;
use crate::tape::archive::ahead::{Ahead, Found, Group, Loading, write};
use crate::tape::archive::writer::SourceFailure;
use crate::tape::archive::{ArchiveError, ArchiveErrorKind, Proof, Result, SessionWriter, Wrote};
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Blobs by id.
type Blobs = HashMap<Id, Vec<u8>>;

fn place(content: &[u8]) -> Location {
    let (pack, id, length) = (Id([7; 32]), Id::of(content), content.len() as u32 + 32);
    Location { pack, kind: BlobKind::Data, id, offset: 0, length, uncompressed_length: 0 }
}

fn begin() -> SessionWriter<Vec<u8>> {
    SessionWriter::begin(Vec::new(), &label(), &scratch()).unwrap()
}

/// Writes what a walk finds; blobs come from `blobs`, or fail as it says.
fn wrote(
    blobs: &Blobs,
    missing: fn() -> SourceFailure,
    walk: impl FnOnce(&mut Ahead) -> Result<()> + Send,
) -> Result<Wrote<Vec<u8>>> {
    let load = |wanted: &[Location], mut bytes: Vec<u8>| {
        bytes.clear();
        let mut one = |place: &Location| match blobs.get(&place.id) {
            Some(blob) => {
                bytes.extend_from_slice(blob);
                Ok(bytes.len() - blob.len()..bytes.len())
            }
            None => Err(missing()),
        };
        let blobs = wanted.iter().map(&mut one).collect();
        Ok(Group { bytes, blobs })
    };
    write(begin(), &NoMonitor, Some(Loading { load: &load, connections: 3 }), walk)
}

fn file(out: &mut Ahead, name: &str, size: u64, only: Option<Id>) -> Result<()> {
    let node = Node { size, ..node(name, NodeKind::File) };
    let data = if size == 0 { Vec::new() } else { vec![0..size] };
    out.file(Found { path: name.as_bytes().to_vec(), node, content: Id::of(name.as_bytes()), data, only })
}

/// A content, cut into pieces that come in all three ways.
fn pieces(out: &mut Ahead, content: &[u8], cuts: &[(usize, u64)]) -> Result<()> {
    let mut at = 0;
    for (end, way) in cuts {
        let piece = &content[at..*end];
        match way {
            0 => out.piece(at as u64, Ok(piece.to_vec()))?,
            1 => out.blob(at as u64, place(piece))?,
            _ => {
                let mut done = 0;
                while done < piece.len() {
                    let from = &piece[done..];
                    done += out.read((at + done) as u64, from.len() as u64, |room| {
                        room.copy_from_slice(&from[..room.len()]);
                        Ok(room.len())
                    })?;
                }
            }
        }
        at = *end;
    }
    Ok(())
}

#[test]
fn whatever_way_bytes_come_they_are_the_files() {
    let mut random = Random::from_clock("whatever_way_bytes_come_they_are_the_files");
    let mut blobs = Blobs::new();
    let mut files = Vec::new();
    for number in 0..400 {
        let length = random.below(if number % 40 == 0 { 3 << 20 } else { 9000 }) as usize;
        // Some contents are the same, so that a blob is asked for twice.
        let content = if number % 5 == 0 { vec![7; 5000] } else { random.bytes(length) };
        let mut ends: Vec<usize> =
            (0..random.below(4)).map(|_| random.below(content.len() as u64 + 1) as usize).collect();
        ends.push(content.len());
        ends.sort_unstable();
        let cuts: Vec<_> = ends.into_iter().map(|end| (end, random.below(3))).collect();
        let mut at = 0;
        for (end, _) in &cuts {
            blobs.insert(Id::of(&content[at..*end]), content[at..*end].to_vec());
            at = *end;
        }
        files.push((format!("f{number:03}"), content, cuts));
    }
    let wrote = wrote(
        &blobs,
        || SourceFailure::Cancelled,
        |out| {
            for (name, content, cuts) in &files {
                let only = (cuts.len() == 1 && cuts[0].1 == 1).then(|| Id::of(content));
                file(out, name, content.len() as u64, only)?;
                pieces(out, content, cuts)?;
                out.node(
                    format!("{name}-dir").as_bytes(),
                    node(&format!("{name}-dir"), NodeKind::Directory),
                )?;
            }
            Ok(())
        },
    );
    let wrote = wrote.unwrap();
    assert_eq!((wrote.totals.files, wrote.totals.directories, wrote.totals.damaged), (400, 400, 0));
    let (got, verdict) = read(&wrote.out).unwrap();
    assert_eq!(verdict.fault(), None);
    for (name, content, _) in &files {
        let got = &got[name.as_bytes()];
        assert!(got.content.as_ref() == Some(content) && got.proof == Proof::Right, "{name}");
    }
}

#[test]
fn what_fails_fails_where_it_stands() {
    let blobs = Blobs::from([(Id::of(b"ab"), b"ab".to_vec())]);
    let gone = || SourceFailure::File("it is gone".into());
    let wrote = wrote(&blobs, gone, |out| {
        // A lost blob; one that is not as long as the file; none at all; too many bytes; a gap; a failure while reading.
        file(out, "a", 4, None)?;
        out.blob(0, place(b"ab"))?;
        out.blob(2, place(b"cd"))?;
        file(out, "b", 3, Some(Id::of(b"ab")))?;
        out.blob(0, place(b"ab"))?;
        file(out, "c", 3, None)?;
        file(out, "d", 1, Some(Id::of(b"ab")))?;
        out.blob(0, place(b"ab"))?;
        file(out, "e", 4, None)?;
        out.piece(0, Ok(b"x".to_vec()))?;
        out.piece(2, Ok(b"yz".to_vec()))?;
        file(out, "f", 4, None)?;
        out.read(0, 2, |room| {
            room.copy_from_slice(b"rr");
            Ok(2)
        })?;
        out.read(2, 2, |_| Err(SourceFailure::File("the disk says no".into())))?;
        // The only blob of a file, and it is lost.
        file(out, "g", 2, Some(Id::of(b"cd")))?;
        out.blob(0, place(b"cd"))?;
        file(out, "h", 2, Some(Id::of(b"ab")))?;
        out.blob(0, place(b"ab"))
    });
    let wrote = wrote.unwrap();
    let listed: Vec<_> = wrote.listed.iter().map(|(path, why)| (path[0], why.as_str())).collect();
    assert_eq!(listed.iter().map(|(path, _)| *path).collect::<Vec<_>>(), b"abcdefg");
    assert_eq!((listed[0].1, listed[5].1, listed[6].1), ("it is gone", "the disk says no", "it is gone"));
    let (got, verdict) = read(&wrote.out).unwrap();
    assert_eq!((verdict.fault(), verdict.unread_count), (None, 7));
    for (name, content) in
        [("a", &b"ab\0\0"[..]), ("b", b"ab\0"), ("d", b"a"), ("f", b"rr\0\0"), ("h", b"ab")]
    {
        assert_eq!(got[name.as_bytes()].content.as_deref(), Some(content), "{name}");
    }
    assert_eq!(got[&b"h"[..]].proof, Proof::Right);
}

#[test]
fn what_fails_for_all_ends_the_work() {
    let many = |out: &mut Ahead| {
        for number in 0..20_000 {
            out.node(format!("d{number}").as_bytes(), node("d", NodeKind::Directory))?;
        }
        Ok(())
    };
    let down = || SourceFailure::All("the store is down".into());
    let lost = wrote(&Blobs::new(), down, |out| {
        file(out, "a", 4, None)?;
        out.blob(0, place(b"abcd"))?;
        many(out)
    });
    assert_eq!(lost.unwrap_err().kind(), ArchiveErrorKind::Source);
    // The walk itself, in the middle of a file.
    let limit = 77;
    let failed = wrote(&Blobs::new(), down, |out| {
        file(out, "a", 4, None)?;
        out.piece(0, Ok(b"ab".to_vec()))?;
        Err(ArchiveError::TooMany { limit })
    });
    assert!(matches!(failed, Err(ArchiveError::TooMany { limit: 77 })));
    // Nobody writes any more: the walk is told, wherever it is.
    let mut room = [0; 9000];
    let writer = SessionWriter::begin(&mut room[..], &label(), &scratch()).unwrap();
    assert_eq!(write(writer, &NoMonitor, None, many).unwrap_err().kind(), ArchiveErrorKind::Medium);
}

/// A medium that fails once the walk says that it goes on to something else.
struct FailsWhenTold {
    left: usize,
    told: mpsc::Receiver<()>,
}

impl Write for FailsWhenTold {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.told.recv().unwrap();
            // What the walk does next is to be under way.
            std::thread::sleep(std::time::Duration::from_millis(100));
            return Err(io::ErrorKind::StorageFull.into());
        };
        self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_waits_for_an_answer_is_let_go_when_the_writer_fails() {
    let (tell, told) = mpsc::channel();
    let medium = FailsWhenTold { left: 64 << 10, told };
    let writer = SessionWriter::begin(medium, &label(), &scratch()).unwrap();
    let failed = write(writer, &NoMonitor, None, move |out| {
        for number in 0..512 {
            out.node(format!("d{number}").as_bytes(), node("d", NodeKind::Directory))?;
        }
        tell.send(()).unwrap();
        let linked = Node { links: 2, inode: 1, ..node("l", NodeKind::File) };
        out.is_linked(b"l", &linked, &Id::of(b"")).map(drop)
    });
    assert_eq!(failed.err().unwrap().kind(), ArchiveErrorKind::Medium);
}

/// Counts what the walk was ahead, at most.
struct Behind<'c> {
    found: &'c AtomicUsize,
    written: usize,
    most: &'c AtomicUsize,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let ahead = self.found.load(Ordering::SeqCst).saturating_sub(self.written);
        self.most.fetch_max(ahead, Ordering::SeqCst);
        // A header is one write of more than its attributes.
        self.written += usize::from(bytes.len() > 64 << 10);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn attributes_fill_a_batch_too() {
    let (found, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let medium = Behind { found: &found, written: 0, most: &most };
    let writer = SessionWriter::begin(medium, &label(), &scratch()).unwrap();
    let wrote = write(writer, &NoMonitor, None, |out| {
        for number in 0..1000 {
            let fork = Xattr { name: b"user.fork".to_vec(), value: vec![7; 64 << 10] };
            let path = format!("d{number}");
            let heavy = Node { xattrs: vec![fork], ..node(&path, NodeKind::Directory) };
            out.node(path.as_bytes(), heavy)?;
            found.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    assert_eq!(wrote.unwrap().totals.directories, 1000);
    // Five batches of 1 MiB.
    assert!(most.load(Ordering::SeqCst) < 100, "{most:?}");
}

#[test]
fn what_is_left_of_a_file_that_was_given_up_is_not_loaded() {
    // No more than may wait for a thread that loads: the walk waits for none of them.
    const BLOBS: u32 = 60;
    // Each is a group by itself.
    let large = |number: u32| Location { length: 1 << 20, ..place(&number.to_le_bytes()) };
    let (loads, (walked, over)) = (AtomicUsize::new(0), crossbeam_channel::bounded::<()>(0));
    let load = |wanted: &[Location], bytes: Vec<u8>| {
        loads.fetch_add(1, Ordering::SeqCst);
        if wanted[0].id != large(0).id {
            // Takes until the walk has ended, which is when the writer has passed all but a few batches.
            over.recv().unwrap_err();
        }
        let blobs = wanted.iter().map(|_| Err(SourceFailure::File("it is gone".into()))).collect();
        Ok(Group { bytes, blobs })
    };
    let wrote = write(begin(), &NoMonitor, Some(Loading { load: &load, connections: 3 }), move |out| {
        let _walked = walked;
        file(out, "a", 4, None)?;
        (0..BLOBS).try_for_each(|number| out.blob(u64::from(number) << 20, large(number)))
    });
    assert_eq!(wrote.unwrap().totals.damaged, 1);
    let loads = loads.into_inner();
    // One for each thread, and those of the batches that were waiting at the end.
    assert!(loads < BLOBS as usize / 2, "{loads} of {BLOBS}");
}

#[test]
fn a_loader_that_panics_is_an_error() {
    let load = |_: &[Location], _: Vec<u8>| panic!("of the test");
    let failed = write(begin(), &NoMonitor, Some(Loading { load: &load, connections: 3 }), |out| {
        for number in 0..2000_u32 {
            file(out, &number.to_string(), 4, None)?;
            out.blob(0, Location { length: 1 << 20, ..place(&number.to_le_bytes()) })?;
        }
        Ok(())
    });
    assert_eq!(failed.unwrap_err().kind(), ArchiveErrorKind::Source);
}
