//! The program restic reads what we write, and we read what it writes.

use super::*;
use crate::repository::testing::{PlainDirectory, Random, Restic, password, quick};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

fn node(name: &[u8]) -> Node {
    let time = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    Node {
        name: name.to_vec(),
        permissions: 0o640,
        modified: time,
        accessed: time,
        changed: time,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        inode: 5,
        device_id: 6,
        links: 1,
        ..Node::default()
    }
}

/// Writes a session of some files, a directory of names of all sorts, links and attributes.
fn write_session(repository: &Arc<Repository>, content: &[u8]) -> Id {
    let writer = BlobWriter::new(Arc::clone(repository), WriterOptions::default()).unwrap();
    let content_ids: Vec<Id> =
        chunk::chunks(content).map(|chunk| writer.save_blob(BlobKind::Data, chunk).unwrap().id).collect();
    let large = |name: &[u8]| Node { size: content.len() as u64, content: content_ids.clone(), ..node(name) };
    let mut tree = TreeBuilder::new();
    for name in [&b"\x01\x1b"[..], b"\"quoted\" \\", "ä 漢字 \u{200b}".as_bytes(), b"\xff\xfe"] {
        tree.add(&node(name)).unwrap();
    }
    let odd = writer.save_blob(BlobKind::Tree, tree.finish()).unwrap().id;
    tree.clear();
    let xattr = Xattr { name: b"user.test".to_vec(), value: b"\0value".to_vec() };
    tree.add(&Node { links: 2, inode: 9, xattrs: vec![xattr], ..large(b"large") }).unwrap();
    tree.add(&Node { links: 2, inode: 9, ..large(b"large-too") }).unwrap();
    let directory = Node { kind: NodeKind::Directory, permissions: 0o755, links: 0, ..node(b"odd") };
    tree.add(&Node { subtree: Some(odd), ..directory.clone() }).unwrap();
    tree.add(&Node { kind: NodeKind::Symlink, link_target: b"odd/<&>".to_vec(), ..node(b"symlink") })
        .unwrap();
    let docs = writer.save_blob(BlobKind::Tree, tree.finish()).unwrap().id;
    tree.clear();
    tree.add(&Node { name: b"docs".to_vec(), subtree: Some(docs), ..directory }).unwrap();
    let root = writer.save_blob(BlobKind::Tree, tree.finish()).unwrap().id;
    writer.flush().unwrap();
    let session = SessionRecord {
        time: Timestamp::now(),
        parent: None,
        tree: root,
        paths: vec!["/docs".into()],
        hostname: "master".into(),
        username: "root".into(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: vec!["rewind-lsn=17".into()],
        original: None,
        program_version: "rewind 0.1.0".into(),
        summary: None,
    };
    repository.save_session(&session).unwrap()
}

#[test]
fn restic_reads_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let Some(restic) = Restic::new(&place, "secret") else { return };
    let store = Arc::new(PlainDirectory(place.clone()));
    // With the cost that users get.
    let options = RepositoryOptions::default();
    let repository = Arc::new(Repository::init(store, &password("secret"), options).unwrap());
    let mut random = Random::from_clock("restic reads");
    let content = [random.text(3 << 20), random.bytes(2 << 20)].concat();
    let first = write_session(&repository, &content);
    let second = write_session(&repository, &content[1000..]);
    repository.add_key(&password("second")).unwrap();

    let check = restic.ok(&["check", "--read-data"]);
    assert!(check.contains("no errors were found"), "{check}");
    let snapshots = restic.ok(&["snapshots"]);
    for expected in [&first.short(), &second.short(), "master", "rewind-lsn=17", "/docs"] {
        assert!(snapshots.contains(expected), "{expected}: {snapshots}");
    }
    let listing = restic.ok(&["ls", &first.to_string()]);
    for expected in
        ["/docs/large\n", "/docs/large-too\n", "/docs/odd\n", "/docs/symlink\n", "/docs/odd/ä 漢字"]
    {
        assert!(listing.contains(expected), "{listing}");
    }
    let target = directory.path().join("target");
    restic.ok(&["restore", &first.to_string(), "--target", target.to_str().unwrap()]);
    assert_eq!(std::fs::read(target.join("docs/large")).unwrap(), content);
    assert_eq!(std::fs::read(target.join("docs/large-too")).unwrap(), content);
    assert_eq!(std::fs::read_link(target.join("docs/symlink")).unwrap(), Path::new("odd/<&>"));
    let mut names: Vec<Vec<u8>> = std::fs::read_dir(target.join("docs/odd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    assert_eq!(names, [&b"\x01\x1b"[..], b"\"quoted\" \\", "ä 漢字 \u{200b}".as_bytes(), b"\xff\xfe"]);

    // A foreign backup into our repository, and a prune of it; ours stays.
    restic.ok(&["backup", "--quiet", target.to_str().unwrap()]);
    restic.ok(&["forget", "--prune", &second.to_string()]);
    let other = Restic::new(&place, "second").unwrap();
    assert!(other.ok(&["check", "--read-data"]).contains("no errors were found"));
    repository.reload_index().unwrap();
    assert_eq!(repository.list_sessions().unwrap().len(), 2);
    verify_all(&repository);
    let wrong = Restic::new(&place, "wrong").unwrap().run(&["snapshots"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("wrong password"));
}

/// Our locks mean to restic what its own mean.
#[test]
fn restic_respects_our_locks_and_we_its() {
    let directory = tempfile::tempdir().unwrap();
    let Some(restic) = Restic::new(directory.path(), "secret") else { return };
    restic.ok(&["init"]);
    let store = Arc::new(PlainDirectory(directory.path().into()));
    let repository = Arc::new(Repository::open_with(store, &password("secret"), quick()).unwrap());
    let held = lock::acquire(&repository, Purpose::Backup, LockOptions::default()).unwrap();
    restic.ok(&["snapshots"]);
    assert!(!restic.run(&["prune"]).status.success());
    drop(held);
    let held = lock::acquire(&repository, Purpose::Prune, LockOptions::default()).unwrap();
    let refused = restic.run(&["snapshots"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("already locked"), "{text}");
    let unlocked = restic.ok(&["unlock"]);
    assert_eq!(lock::list(&repository).unwrap().len(), 1, "{unlocked}: it is not stale");
    drop(held);
    restic.ok(&["prune"]);
    // What a daemon that was killed leaves: restic removes it, since no such process is there.
    let mut child = Command::new("true").spawn().unwrap();
    let pid = i64::from(child.id());
    child.wait().unwrap();
    let Identity { hostname, username, .. } = Identity::of_process();
    let purpose = Some(Purpose::Prune);
    let time = Timestamp::now();
    let dead = lock::LockRecord {
        time,
        exclusive: true,
        hostname,
        username,
        pid,
        uid: 0,
        gid: 0,
        purpose,
        word: None,
        since: None,
    };
    repository.save_unpacked(ObjectKind::Lock, &serde_json::to_vec(&dead).unwrap()).unwrap();
    restic.ok(&["unlock"]);
    assert!(lock::list(&repository).unwrap().is_empty());
}

/// Loads every tree and blob of every session, compares ids, and writes each tree again: the same bytes.
fn verify_all(repository: &Repository) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    for session in repository.list_sessions().unwrap() {
        let mut trees = vec![repository.load_session(&session).unwrap().tree];
        while let Some(tree) = trees.pop() {
            let json = repository.load_blob(BlobKind::Tree, &tree).unwrap();
            let mut again = TreeBuilder::new();
            let mut failure = None;
            read_tree(&tree, &json, &mut |node| {
                failure = again.add(&node).err();
                trees.extend(node.subtree);
                for id in &node.content {
                    assert_eq!(Id::of(&repository.load_blob(BlobKind::Data, id).unwrap()), *id);
                }
                nodes.insert(node.name.clone(), node);
                failure.is_none()
            })
            .unwrap();
            assert!(failure.is_none(), "{failure:?}");
            // restic 0.14 does not keep raw link targets, so these differ only where it lost them.
            let ours = String::from_utf8(again.finish().to_vec()).unwrap();
            assert_eq!(ours, String::from_utf8(json).unwrap());
        }
    }
    nodes
}

fn shell(directory: &Path, script: &str) {
    let output = Command::new("bash").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn we_read_what_restic_writes() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let Some(restic) = Restic::new(&place, "first") else { return };
    restic.ok(&["init"]);
    let source = directory.path().join("source");
    std::fs::create_dir_all(source.join("sub/deep")).unwrap();
    shell(
        &source,
        r#"printf hello > a; ln a hard; ln -s 'to<&>' link; mkfifo pipe; : > empty; chmod 4755 a; mkdir empty-dir
           printf x > "$(printf 'b\xff"\\ \x01\xc2\xa0\xe2\x80\x8b\xc3\xa4\xf0\x9f\x8e\x89')"
           head -c 5000000 /dev/urandom > sub/noise; seq 1 200000 > sub/deep/text
           setfattr -n user.k -v "$(printf 'v\x01')" a 2>/dev/null || touch no-xattrs
           touch -d '1969-12-31T23:59:59.5Z' empty"#,
    );
    let backup = || restic.ok(&["backup", "--quiet", "--tag", "t1,t2", source.to_str().unwrap()]);
    backup();
    shell(&source, "rm sub/noise; seq 1 100 > sub/new");
    backup();
    shell(&source, "head -c 300000 /dev/urandom > sub/more");
    backup();
    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "second").unwrap();
    restic.ok(&["key", "add", "--new-password-file", password_file.to_str().unwrap()]);
    let store = Arc::new(PlainDirectory(place.clone()));
    let open = |word: &str| Repository::open(Arc::clone(&store) as _, &password(word));
    let repository = open("first").unwrap();
    let before = repository.list_sessions().unwrap();
    assert_eq!(before.len(), 3);
    assert!(verify_all(&repository).contains_key(&b"noise"[..]));
    restic.ok(&["forget", "--prune", "--max-unused", "0", "--keep-last", "2"]);

    let repository = open("second").unwrap();
    assert_eq!(repository.list_keys().unwrap().len(), 2);
    assert_eq!(open("third").unwrap_err().kind(), RepositoryErrorKind::WrongPassword);
    let sessions = repository.list_sessions().unwrap();
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|id| before.contains(id)));
    assert_eq!(repository.load_session(&sessions[0]).unwrap().tags, ["t1", "t2"]);
    let nodes = verify_all(&repository);
    assert!(nodes.contains_key(&b"b\xff\"\\ \x01\xc2\xa0\xe2\x80\x8b\xc3\xa4\xf0\x9f\x8e\x89"[..]));
    assert!(!nodes.contains_key(&b"noise"[..]));
    let node = |name: &str| &nodes[name.as_bytes()];
    assert_eq!((node("a").permissions, node("a").links), (0o4755, 2));
    assert_eq!(node("a").inode, node("hard").inode);
    assert_eq!((node("pipe").kind, node("link").kind), (NodeKind::Fifo, NodeKind::Symlink));
    assert_eq!(node("link").link_target, b"to<&>");
    assert_eq!(node("empty").modified, Timestamp { seconds: -1, nanoseconds: 500_000_000 });
    if !nodes.contains_key(&b"no-xattrs"[..]) {
        assert_eq!(node("a").xattrs, [Xattr { name: b"user.k".to_vec(), value: b"v\x01".to_vec() }]);
    }
    headers_say_what_the_index_says(&repository);
}

fn headers_say_what_the_index_says(repository: &Repository) {
    let mut indexed: BTreeMap<Id, Vec<Location>> = BTreeMap::new();
    repository.index().unwrap().for_each(&mut |place| {
        indexed.entry(place.pack).or_default().push(place);
        true
    });
    assert_eq!(indexed.keys().copied().collect::<Vec<_>>(), repository.list_ids(ObjectKind::Pack).unwrap());
    for (pack, mut places) in indexed {
        places.sort_by_key(|place| place.offset);
        let size = repository.store().size(&ObjectKind::Pack.name(&pack)).unwrap();
        let header = pack::read_header(&**repository.store(), repository.seal_key(), &pack, size).unwrap();
        let of_header: Vec<_> =
            header.iter().map(|e| (e.id, e.offset, e.length, e.uncompressed_length)).collect();
        let of_index: Vec<_> =
            places.iter().map(|e| (e.id, e.offset, e.length, e.uncompressed_length)).collect();
        assert_eq!(of_header, of_index);
    }
}

/// Version 1, which restic still makes when asked to.
#[test]
fn we_read_version_1() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let Some(restic) = Restic::new(&place, "first") else { return };
    restic.ok(&["init", "--repository-version", "1"]);
    let source = directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    shell(&source, "seq 1 100000 > a; mkdir d; seq 1 10 > d/b");
    restic.ok(&["backup", "--quiet", source.to_str().unwrap()]);
    let repository = Repository::open(Arc::new(PlainDirectory(place)), &password("first")).unwrap();
    assert_eq!(repository.config().version, 1);
    let nodes = verify_all(&repository);
    assert!(nodes.contains_key(&b"b"[..]));
    let again = Arc::new(repository);
    write_session(&again, b"into version 1");
    assert!(restic.ok(&["check", "--read-data"]).contains("no errors were found"));
}

fn files_below(directory: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() && !path.ends_with("target") {
            files_below(&path, out);
        } else if metadata.is_file() && metadata.len() > 0 {
            out.push(path);
        }
    }
}

/// Saves all files with two threads; bytes stored.
fn save_files(files: &[std::path::PathBuf]) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(PlainDirectory(directory.path().into()));
    let repository = Arc::new(Repository::init(store, &password("x"), quick()).unwrap());
    let writer = BlobWriter::new(repository, WriterOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let writer = &writer;
            scope.spawn(move || {
                let mut chunker = chunk::Chunker::new();
                for file in files.iter().skip(half).step_by(2) {
                    chunker.restart();
                    let mut file = std::fs::File::open(file).unwrap();
                    while let Some(chunk) = chunker.next(&mut file).unwrap() {
                        writer.save_blob(BlobKind::Data, chunk).unwrap();
                    }
                }
            });
        }
    });
    writer.flush().unwrap().pack_bytes
}

/// Stored bytes are within 3 % of restic's on the sources of this project. The benchmark `repository` compares more.
#[test]
fn stored_bytes_are_like_restics() {
    let directory = tempfile::tempdir().unwrap();
    let Some(restic) = Restic::new(&directory.path().join("repository"), "x") else { return };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&sources, &mut files);
    restic.ok(&["init"]);
    restic.ok(&["backup", "--quiet", "--exclude", "target", sources.to_str().unwrap()]);
    // Data only: restic's trees hold what this test does not store.
    let store = Arc::new(PlainDirectory(directory.path().join("repository")));
    let theirs = Repository::open_with(store, &password("x"), quick()).unwrap();
    let (mut plain, mut stored) = (0, 0);
    theirs.index().unwrap().for_each(&mut |place| {
        if place.kind == BlobKind::Data {
            plain += place.plain_bytes();
            stored += u64::from(place.length) + 41;
        }
        true
    });
    let ours = save_files(&files);
    println!("{} files, {plain} bytes: restic {stored}, we {ours}", files.len());
    assert!(ours as f64 <= stored as f64 * 1.03);
}
