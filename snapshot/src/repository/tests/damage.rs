//! Every object of a repository truncated, extended, flipped, emptied, removed, exchanged with one of its kind and with
//! one of another kind. Whatever is read then is exactly what was saved, or an error that names the object.

use super::*;
use crate::repository::testing::{MemoryStore, Random, password, quick};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a session holds: of each path the node, and the bytes of a file.
type Content = BTreeMap<Vec<u8>, (Node, Vec<u8>)>;

fn save(repository: &Arc<Repository>, random: &mut Random, files: usize) -> Id {
    let lock = lock::acquire(
        repository,
        Purpose::Backup,
        LockOptions { settle: Duration::ZERO, ..LockOptions::default() },
    )
    .unwrap();
    let options = WriterOptions { pack_bytes: 4 << 10, uploads: 2 };
    let writer = BlobWriter::new(Arc::clone(repository), options).unwrap();
    let (mut chunker, mut tree) = (Chunker::new(), TreeBuilder::new());
    for file in 0..files {
        let bytes = if file % 2 == 0 { random.bytes(1500) } else { random.text(1500) };
        let saved = writer.save_file(&mut chunker, &mut bytes.as_slice()).unwrap();
        let name = format!("file-{file}").into_bytes();
        tree.add(&Node { name, size: 1500, content: saved.content, ..Node::default() }).unwrap();
    }
    let subtree = Some(writer.save_tree(&mut tree).unwrap().id);
    let directory = Node { name: b"sub".to_vec(), kind: NodeKind::Directory, subtree, ..Node::default() };
    tree.add(&directory).unwrap();
    let root = writer.save_tree(&mut tree).unwrap().id;
    let session = SessionRecord {
        time: Timestamp::now(),
        parent: None,
        tree: root,
        paths: vec!["/srv".into()],
        hostname: "master".into(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: vec![],
        original: None,
        program_version: String::new(),
        summary: None,
    };
    match writer.commit(&lock, &session).unwrap() {
        Commit::Recorded(id) => id,
        Commit::Missing(missing) => panic!("{missing:?}"),
    }
}

fn read_session(repository: &Repository, session: &Id) -> Result<Content, RepositoryError> {
    let record = repository.load_session(session)?;
    let mut content = Content::new();
    let mut failed = None;
    repository.walk(&record.tree, &mut |path, node| {
        let mut bytes = Vec::new();
        for id in &node.content {
            match repository.load_blob(BlobKind::Data, id) {
                Ok(blob) => bytes.extend(blob),
                Err(error) => failed = failed.take().or(Some(error)),
            }
        }
        content.insert(path.to_vec(), (node, bytes));
        if failed.is_none() { Step::Into } else { Step::Stop }
    })?;
    failed.map_or(Ok(content), Err)
}

/// Opens and reads these sessions, and what the packs say of themselves.
fn read_all(store: &Arc<MemoryStore>, sessions: &[Id]) -> Result<Vec<Content>, RepositoryError> {
    let repository = Repository::open_with(Arc::clone(store) as _, &password("secret"), quick())?;
    let contents = sessions.iter().map(|id| read_session(&repository, id)).collect::<Result<_, _>>()?;
    for pack in repository.index()?.packs() {
        let size = repository.store().size(&ObjectKind::Pack.name(&pack))?;
        pack::read_header(&**repository.store(), repository.seal_key(), &pack, size)?;
    }
    Ok(contents)
}

struct Damaged {
    what: String,
    objects: Vec<String>,
    bytes: Vec<Option<Bytes>>,
}

/// All damages of one object. Exchanges concern two.
fn damages(name: &str, all: &BTreeMap<String, Bytes>, random: &mut Random) -> Vec<Damaged> {
    let whole = &all[name];
    let length = whole.len();
    let one = |what: String, bytes: Option<Vec<u8>>| Damaged {
        what,
        objects: vec![name.to_owned()],
        bytes: vec![bytes.map(Bytes::from)],
    };
    let mut found = vec![one("removed".into(), None)];
    for keep in [0, 1, 16, 32, length / 2, length - 1] {
        if keep < length {
            found.push(one(format!("truncated to {keep} of {length}"), Some(whole[..keep].to_vec())));
        }
    }
    for add in [1, 4, 1000] {
        found.push(one(format!("{add} bytes longer"), Some([whole, &random.bytes(add)[..]].concat())));
    }
    for at in [0, 15, 16, length / 2, length - 5, length - 1, random.below(length as u64) as usize] {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << random.below(8);
        found.push(one(format!("flipped at {at} of {length}"), Some(bytes)));
    }
    found.push(one("zeros".into(), Some(vec![0; length])));
    found.push(one("noise".into(), Some(random.bytes(length))));
    for (other, bytes) in all.iter().filter(|(other, bytes)| *other != name && *bytes != whole) {
        found.push(Damaged {
            what: "exchanged".into(),
            objects: vec![name.to_owned(), other.clone()],
            bytes: vec![Some(bytes.clone()), Some(whole.clone())],
        });
    }
    found
}

#[test]
fn exact_or_refused_by_name() {
    let mut random = Random::from_clock("damage");
    let store = MemoryStore::new();
    let made = Arc::new(Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap());
    made.add_key(&password("other")).unwrap();
    let sessions = [save(&made, &mut random, 5), save(&made, &mut random, 4)];
    let expected = read_all(&store, &sessions).unwrap();
    assert_eq!(expected[0].len(), 6);
    let all = store.objects.lock().clone();
    for (directory, count) in [("keys", 2), ("index", 2), ("snapshots", 2), ("data", 4), ("config", 1)] {
        let found = all.keys().filter(|name| name.starts_with(directory)).count();
        assert!(found >= count && (found == count || directory == "data"), "{directory}: {found}");
    }
    let (mut tried, mut exact) = (0, 0);
    for name in all.keys() {
        for damaged in damages(name, &all, &mut random) {
            for (name, bytes) in damaged.objects.iter().zip(&damaged.bytes) {
                match bytes {
                    Some(bytes) => drop(store.objects.lock().insert(name.clone(), bytes.clone())),
                    None => store.delete(name).unwrap(),
                }
            }
            tried += 1;
            match read_all(&store, &sessions) {
                Ok(found) => {
                    assert_eq!(found, expected, "{name}: {}", damaged.what);
                    // Longer packs are the same up to their header, spare bits of a key mean nothing, and another
                    // key may open.
                    assert!(damaged.objects.iter().all(|name| name.starts_with("keys/")), "{}", damaged.what);
                    exact += 1;
                }
                Err(error) => check_named(&error, &damaged),
            }
            *store.objects.lock() = all.clone();
        }
    }
    println!("{tried} damages of {} objects, {exact} without effect", all.len());
    assert_eq!(read_all(&store, &sessions).unwrap(), expected);
}

/// The message names a damaged object; where it cannot, since the object that says where things lie or the only key is
/// gone, it says that.
fn check_named(error: &RepositoryError, damaged: &Damaged) {
    let text = chain(error);
    let kind = error.kind();
    let what = &damaged.what;
    let named = damaged.objects.iter().any(|name| {
        let id = name.rsplit('/').next().unwrap();
        text.contains(name.as_str()) || text.contains(id)
    });
    let of = |directory: &str| damaged.objects.iter().any(|name| name.starts_with(directory));
    let explained = match kind {
        RepositoryErrorKind::NoRepository => of("config"),
        RepositoryErrorKind::WrongPassword => of("keys/"),
        RepositoryErrorKind::NotFound => of("index/") && what == "removed" && text.contains("in no index"),
        _ => false,
    };
    assert!(named || explained, "{:?} {what}: {kind:?}: {text}", damaged.objects);
    let expected = matches!(
        kind,
        RepositoryErrorKind::Damaged
            | RepositoryErrorKind::NotFound
            | RepositoryErrorKind::NoRepository
            | RepositoryErrorKind::WrongPassword
            | RepositoryErrorKind::Refused
            | RepositoryErrorKind::UnsupportedVersion
            | RepositoryErrorKind::Store(_)
    );
    assert!(expected, "{kind:?}: {text}");
}
