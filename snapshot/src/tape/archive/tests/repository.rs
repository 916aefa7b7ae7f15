//! From a repository to an archive and back: equal nodes, equal contents; and archives that are not whole.

use super::scratch;
use crate::repository::testing::{MemoryStore, Random, fresh};
use crate::repository::{
    BlobKind, BlobWriter, Chunker, Commit, Id, Lock, LockOptions, Node, NodeKind, Purpose, Repository,
    SessionRecord, Step, Timestamp, TreeBuilder, WriterOptions, Xattr, lock,
};
use crate::session::{Monitor, NoMonitor};
use crate::tape::archive::{
    ArchiveErrorKind, IntoOptions, LabelFields, Result, SessionLabel, Taken, Unfit, Wrote, from_repository,
    into_repository,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn locked(repository: &Arc<Repository>) -> Lock {
    lock::acquire(repository, Purpose::Backup, LockOptions::default()).unwrap()
}

/// A directory to be stored.
#[derive(Default)]
struct Dir {
    node: Node,
    below: BTreeMap<Vec<u8>, Entry>,
}

enum Entry {
    Dir(Dir),
    Other(Node, Vec<u8>),
}

struct Maker {
    random: Random,
    inode: u64,
    /// Contents of mebibytes, too.
    large: bool,
}

impl Maker {
    fn node(&mut self, name: &[u8], kind: NodeKind) -> Node {
        self.inode += 1;
        let random = &mut self.random;
        let mut time = || Timestamp {
            seconds: random.below(1 << 33) as i64 - 1000,
            nanoseconds: random.below(1_000_000_000) as u32,
        };
        let (modified, accessed, changed) = (time(), time(), time());
        let mut node = Node {
            name: name.to_vec(),
            kind,
            permissions: random.below(0o10000) as u32,
            modified,
            accessed,
            changed,
            uid: random.next() as u32,
            gid: random.below(3000) as u32,
            user: ["", "root", "K\u{f6}nig"][random.below(3) as usize].into(),
            group: ["", "wheel", &"g".repeat(50)][random.below(3) as usize].into(),
            inode: self.inode,
            device_id: 99,
            links: u64::from(kind != NodeKind::Directory),
            ..Node::default()
        };
        for number in 0..random.below(3) {
            let value = random.bytes(20);
            node.xattrs.push(Xattr { name: format!("user.{number}").into(), value });
        }
        match kind {
            NodeKind::Symlink => node.link_target = b"../to\xff".to_vec(),
            NodeKind::BlockDevice => node.device = random.next(),
            NodeKind::CharacterDevice => node.device = rustix::fs::makedev(4, 5),
            _ => {}
        }
        node
    }

    fn content(&mut self) -> Vec<u8> {
        match self.random.below(6) {
            0 => Vec::new(),
            1..=3 if !self.large => vec![0; 200_000],
            1 => vec![0; 20 << 20],
            2 => [vec![0; 9 << 20], self.random.bytes(1000), vec![0; 300_000]].concat(),
            3 => self.random.bytes(5 << 20),
            _ => {
                let length = self.random.below(5000) as usize;
                self.random.bytes(length)
            }
        }
    }

    fn dir(&mut self, name: &[u8], depth: u32) -> Dir {
        let mut dir = Dir { node: self.node(name, NodeKind::Directory), below: BTreeMap::new() };
        for number in 0..6 {
            let name = [format!("{number}-").as_bytes(), &self.random.bytes(3)].concat();
            let name: Vec<u8> =
                name.into_iter().map(|byte| if byte == b'/' || byte == 0 { b'_' } else { byte }).collect();
            let entry = match self.random.below(9) {
                0 | 1 if depth > 0 => Entry::Dir(self.dir(&name, depth - 1)),
                2 => Entry::Other(self.node(&name, NodeKind::Symlink), vec![]),
                3 => Entry::Other(self.node(&name, NodeKind::Socket), vec![]),
                4 => Entry::Other(self.node(&name, NodeKind::BlockDevice), vec![]),
                5 => Entry::Other(self.node(&name, NodeKind::Fifo), vec![]),
                6 => Entry::Other(self.node(&name, NodeKind::CharacterDevice), vec![]),
                _ => {
                    let content = self.content();
                    let node = self.node(&name, NodeKind::File);
                    Entry::Other(Node { size: content.len() as u64, ..node }, content)
                }
            };
            dir.below.insert(name, entry);
        }
        // One file under three names, and one whose names have different contents, as a busy master has.
        let content = self.random.bytes(3000);
        let linked = Node { size: 3000, links: 3, ..self.node(b"l1", NodeKind::File) };
        for name in [b"l1", b"l2", b"l3"] {
            let node = Node { name: name.to_vec(), ..linked.clone() };
            dir.below.insert(name.to_vec(), Entry::Other(node, content.clone()));
        }
        let torn = Node { size: 10, links: 2, ..self.node(b"t1", NodeKind::File) };
        dir.below.insert(b"t1".to_vec(), Entry::Other(torn.clone(), b"0123456789".to_vec()));
        let torn = Node { name: b"t2".to_vec(), ..torn };
        dir.below.insert(b"t2".to_vec(), Entry::Other(torn, b"9876543210".to_vec()));
        dir
    }
}

fn save(writer: &BlobWriter, chunker: &mut Chunker, dir: &Dir) -> Id {
    let mut tree = TreeBuilder::new();
    for entry in dir.below.values() {
        let node = match entry {
            Entry::Dir(below) => Node { subtree: Some(save(writer, chunker, below)), ..below.node.clone() },
            Entry::Other(node, content) => {
                let content = writer.save_file(chunker, &mut &content[..]).unwrap().content;
                Node { content, ..node.clone() }
            }
        };
        tree.add(&node).unwrap();
    }
    writer.save_tree(&mut tree).unwrap().id
}

/// A session of a random tree.
pub struct Stored {
    store: Arc<MemoryStore>,
    repository: Arc<Repository>,
    pub record: SessionRecord,
    id: Id,
}

pub fn stored(random: Random, large: bool) -> Stored {
    let (store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let mut maker = Maker { random, inode: 10, large };
    let mut above = Dir { node: Node::default(), ..Dir::default() };
    above.below.insert(b"srv".to_vec(), Entry::Dir(maker.dir(b"srv", 3)));
    let tree = save(&writer, &mut Chunker::new(), &above);
    let record = SessionRecord {
        time: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
        parent: None,
        tree,
        paths: vec!["/srv".into()],
        hostname: "alpha".into(),
        username: "root".into(),
        uid: 0,
        gid: 0,
        excludes: vec!["*.tmp".into()],
        tags: vec!["scenario:files".into(), "entity:/srv".into(), "lsn:12.0".into(), "class:crash".into()],
        original: None,
        program_version: "rewind".into(),
        summary: Some(serde_json::json!({"missed": 2, "bytes_read": 7})),
    };
    let Commit::Recorded(id) = writer.commit(&locked(&repository), &record).unwrap() else { panic!() };
    Stored { store, repository, record, id }
}

pub fn archive(stored: &Stored) -> Wrote<Vec<u8>> {
    let label = SessionLabel::new(LabelFields::of_record(&stored.id, &stored.record)).unwrap();
    let session = (&label, &stored.record.tree);
    from_repository(&stored.repository, session, Vec::new(), &scratch(), &NoMonitor).unwrap()
}

fn taken(bytes: &[u8], options: &IntoOptions) -> Result<(Arc<Repository>, Taken)> {
    let (_, repository) = fresh();
    let lock = locked(&repository);
    let into = into_repository(bytes, options, (&repository, &lock), &scratch(), &NoMonitor)?;
    Ok((repository, into))
}

/// All nodes with the bytes of files.
fn all(repository: &Repository, tree: &Id) -> BTreeMap<Vec<u8>, (Node, Vec<u8>)> {
    let mut found = BTreeMap::new();
    repository
        .walk(tree, &mut |path, node| {
            let blobs = node.content.iter();
            let content =
                blobs.flat_map(|blob| repository.load_blob(BlobKind::Data, blob).unwrap()).collect();
            found.insert(path.to_vec(), (Node { subtree: None, ..node }, content));
            Step::Into
        })
        .unwrap();
    found
}

#[test]
fn a_session_survives_the_way_to_tape_and_back() {
    let random = Random::from_clock("a_session_survives_the_way_to_tape_and_back");
    let stored = stored(random, true);
    let wrote = archive(&stored);
    assert!(wrote.listed.is_empty(), "{:?}", wrote.listed);
    let (repository, into) = taken(&wrote.out, &IntoOptions::default()).unwrap();
    // Equal trees have equal ids: names, metadata, contents, all of it.
    assert_eq!(into.tree, stored.record.tree);
    assert!(all(&repository, &into.tree) == all(&stored.repository, &stored.record.tree));
    assert_eq!((into.missed_count, into.not_found.len()), (0, 0));
    let record = repository.load_session(&into.id).unwrap();
    assert_eq!(record.original, Some(stored.id));
    assert_eq!((&record.tags, &record.paths), (&stored.record.tags, &stored.record.paths));
    assert_eq!((record.time, &record.hostname), (stored.record.time, &stored.record.hostname));
    assert_eq!(record.excludes, stored.record.excludes);
    assert_eq!(record.missed(), 2, "what the session lacked before it still lacks");
    let totals = into.totals;
    assert_eq!(
        (totals.files, totals.directories, totals.bytes),
        (wrote.totals.files, wrote.totals.directories, wrote.totals.bytes)
    );
    let label = into.verdict.label.unwrap();
    assert_eq!((label.fields().scenario.as_str(), label.fields().lsn.as_str()), ("files", "12.0"));
}

#[test]
fn zeros_of_a_repository_are_holes_on_tape() {
    let (_, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let content = [vec![0; 30 << 20], b"end".to_vec()].concat();
    let node = Node { size: content.len() as u64, ..super::node("disk", NodeKind::File) };
    let mut dir = Dir::default();
    dir.below.insert(b"disk".to_vec(), Entry::Other(node, content));
    let tree = save(&writer, &mut Chunker::new(), &dir);
    writer.flush().unwrap();
    let label = super::label();
    let wrote = from_repository(&repository, (&label, &tree), Vec::new(), &scratch(), &NoMonitor).unwrap();
    assert!(wrote.bytes < 128 << 10, "{} bytes", wrote.bytes);
    let (_, into) = taken(&wrote.out, &IntoOptions::default()).unwrap();
    assert_eq!(into.tree, tree);
}

#[test]
fn a_file_that_is_looked_at_for_long_can_be_cancelled() {
    struct Third(AtomicUsize);
    impl Monitor for Third {
        fn progress(&self, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst) >= 2
        }
    }
    let (_, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    // Takes next to nothing, and is not zeros.
    let content: Vec<u8> = (1..=40).flat_map(|byte| vec![byte; 1 << 20]).collect();
    let node = Node { size: content.len() as u64, ..super::node("disk", NodeKind::File) };
    let mut dir = Dir::default();
    dir.below.insert(b"disk".to_vec(), Entry::Other(node, content));
    let tree = save(&writer, &mut Chunker::new(), &dir);
    writer.flush().unwrap();
    let (label, mut out, monitor) = (super::label(), Vec::new(), Third(AtomicUsize::new(0)));
    let cancelled = from_repository(&repository, (&label, &tree), &mut out, &scratch(), &monitor);
    assert_eq!(cancelled.unwrap_err().kind(), ArchiveErrorKind::Cancelled);
    assert!(!out.windows(4).any(|bytes| bytes == b"disk"), "it was looked at to its end");
}

#[test]
fn wanted_paths_alone_are_taken() {
    let random = Random::from_clock("wanted_paths_alone_are_taken");
    let stored = stored(random, false);
    let wrote = archive(&stored);
    let whole = all(&stored.repository, &stored.record.tree);
    // A link whose first name is not wanted, and a directory.
    let directory =
        whole.iter().find(|(path, (node, _))| path.contains(&b'/') && node.kind == NodeKind::Directory);
    let mut wanted = vec![b"/srv/l3".to_vec(), b"/srv/none".to_vec()];
    let directory = directory.map(|(path, _)| path.clone());
    wanted.extend(directory.as_ref().map(|path| [b"/", path.as_slice(), b"/"].concat()));
    let options = IntoOptions { wanted, ..IntoOptions::default() };
    let (repository, into) = taken(&wrote.out, &options).unwrap();
    assert_eq!(into.not_found, [b"/srv/none".to_vec()]);
    let got = all(&repository, &into.tree);
    let expected: BTreeMap<_, _> = whole
        .into_iter()
        .filter(|(path, _)| {
            let below =
                |above: &Vec<u8>| path == above || path.starts_with(&[above.as_slice(), b"/"].concat());
            let above = |below: &Vec<u8>| below.starts_with(&[path.as_slice(), b"/"].concat());
            path == b"srv"
                || path == b"srv/l3"
                || directory.as_ref().is_some_and(|one| below(one) || above(one))
        })
        .collect();
    assert!(got.keys().eq(expected.keys()), "{:?} {:?}", got.keys(), expected.keys());
    assert!(got == expected);
}

#[test]
fn a_damaged_archive_is_refused_or_recorded_without_the_damage() {
    let random = Random::from_clock("a_damaged_archive_is_refused");
    let stored = stored(random, false);
    let wrote = archive(&stored);
    let whole = all(&stored.repository, &stored.record.tree);
    let mut random = Random::from_clock("a_damaged_archive_is_refused, flips");
    for round in 0..12 {
        let mut bytes = wrote.out.clone();
        let length = bytes.len() as u64;
        match round % 3 {
            0 => bytes[random.below(length) as usize] ^= 0x10,
            1 => bytes.truncate(4096 + random.below(length - 8192) as usize),
            _ => {
                let at = random.below(length / 512) as usize * 512;
                bytes.drain(at..(at + 512).min(length as usize));
            }
        }
        let what = format!("round {round}");
        let refused = taken(&bytes, &IntoOptions::default());
        let (repository, into) = match refused {
            // What was hit says nothing.
            Ok((repository, into)) => {
                assert_eq!(into.tree, stored.record.tree, "{what}");
                (repository, into)
            }
            Err(error) => {
                assert_eq!(error.kind(), ArchiveErrorKind::Damaged, "{what}: {error}");
                let options = IntoOptions { unfit: Unfit::Record, ..IntoOptions::default() };
                let (repository, into) = taken(&bytes, &options).unwrap();
                assert!(into.missed_count > 0, "{what}");
                assert_eq!(repository.load_session(&into.id).unwrap().missed(), 2 + into.missed_count);
                (repository, into)
            }
        };
        let got = all(&repository, &into.tree);
        for (path, (node, content)) in &got {
            let (was, had) = &whole[path];
            assert!(content == had, "{what}: content of {}", path.escape_ascii());
            // A directory that lost its header is made up.
            if node.kind != NodeKind::Directory {
                assert_eq!(node, was, "{what}: {}", path.escape_ascii());
            }
        }
        let lost = whole.keys().filter(|path| !got.contains_key(*path)).count() as u64;
        if into.verdict.totals.is_some() {
            assert!(into.missed_count >= lost, "{what}: {} told, {lost} lost", into.missed_count);
        }
    }
}

#[test]
fn a_repository_that_lost_blobs_says_so_on_tape() {
    let stored = stored(Random::from_clock("a_repository_that_lost_blobs_says_so_on_tape"), false);
    // One pack of data is damaged in the middle.
    let packs = stored.store.names("data/");
    let pack = packs.iter().max_by_key(|name| stored.store.objects.lock()[*name].len()).unwrap();
    stored.store.edit(pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let wrote = archive(&stored);
    assert!(wrote.totals.damaged > 0, "{:?}", wrote.totals);
    let (_, into) = taken(&wrote.out, &IntoOptions::default()).unwrap();
    assert_eq!(into.missed_count, wrote.totals.damaged, "known when it was written, so the archive is whole");
    assert!(into.verdict.is_whole());
}
