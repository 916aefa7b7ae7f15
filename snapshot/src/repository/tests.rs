//! Repositories as a whole: init, open, keys, index, sessions; damage of each object.

mod damage;
mod restic;

use super::testing::{MemoryStore, fresh, password, quick, reopen};
use super::*;

fn kind_of<T: std::fmt::Debug>(result: Result<T, RepositoryError>) -> RepositoryErrorKind {
    result.unwrap_err().kind()
}

fn record(tree: Id, tag: &str) -> SessionRecord {
    SessionRecord {
        time: Timestamp::now(),
        parent: None,
        tree,
        paths: vec!["/srv/docs".into()],
        hostname: "master".into(),
        username: "root".into(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: vec![tag.into()],
        original: None,
        program_version: String::new(),
        summary: None,
    }
}

#[test]
fn init_and_open() {
    let store = MemoryStore::new();
    let open = |word: &str| Repository::open_with(Arc::clone(&store) as _, &password(word), quick());
    assert_eq!(kind_of(open("secret")), RepositoryErrorKind::NoRepository);
    let init = || Repository::init(Arc::clone(&store) as _, &password("secret"), quick());
    let made = init().unwrap();
    assert_eq!(made.config().version, 2);
    assert_eq!(kind_of(init()), RepositoryErrorKind::AlreadyExists);
    assert_eq!(open("secret").unwrap().config(), made.config());
    let wrong = open("Secret").unwrap_err();
    assert_eq!(wrong.kind(), RepositoryErrorKind::WrongPassword);
    assert_eq!(wrong.to_string(), "the password opens none of the 1 keys of this repository");
}

/// Two init at the same time: the one whose config was written over is told, and does not go on with a key of its own.
#[test]
fn the_loser_of_two_inits_is_told() {
    let (other, _) = fresh();
    let config = other.objects.lock()["config"].clone();
    let store = MemoryStore::new();
    // Appears when ours is read back.
    *store.instead.lock() = Some(("config".into(), "config".into(), config));
    let outcome = Repository::init(Arc::clone(&store) as _, &password("secret"), quick());
    assert_eq!(kind_of(outcome), RepositoryErrorKind::AlreadyExists);
}

#[test]
fn data_without_config_is_no_place_for_a_new_repository() {
    let (store, repository) = fresh();
    repository.save_session(&record(Id([1; 32]), "a")).unwrap();
    store.delete("config").unwrap();
    let again = Repository::init(store, &password("x"), quick());
    assert_eq!(kind_of(again), RepositoryErrorKind::AlreadyExists);
}

#[test]
fn a_key_left_by_a_cut_off_init_is_passed_over() {
    let store = MemoryStore::new();
    for _ in 0..3 {
        store.delete("config").unwrap();
        Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap();
    }
    assert_eq!(store.names("keys").len(), 3);
    assert_eq!(reopen(&store).list_keys().unwrap().len(), 3);
}

#[test]
fn versions() {
    let (store, repository) = fresh();
    for (version, expected) in [(1, None), (3, Some(RepositoryErrorKind::UnsupportedVersion))] {
        let config = Config { version, ..repository.config().clone() };
        store.put("config", repository.key.seal(&config.to_json().unwrap()).unwrap().into()).unwrap();
        let opened = Repository::open_with(Arc::clone(&store) as _, &password("secret"), quick());
        assert_eq!(opened.err().map(|error| error.kind()), expected);
    }
}

/// Nothing is compressed in a repository of version 1.
#[test]
fn version_1_is_written_without_compression() {
    let (store, repository) = fresh();
    let config = Config { version: 1, ..repository.config().clone() };
    store.put("config", repository.key.seal(&config.to_json().unwrap()).unwrap().into()).unwrap();
    let repository = reopen(&store);
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let saved = writer.save_blob(BlobKind::Data, &[b'a'; 1000]).unwrap();
    assert_eq!(saved.stored_bytes, 1032);
    writer.flush().unwrap();
    let again = reopen(&store);
    assert_eq!(again.load_blob(BlobKind::Data, &saved.id).unwrap(), [b'a'; 1000]);
}

#[test]
fn sessions() {
    let (store, repository) = fresh();
    let mut ids: Vec<Id> =
        (0..40).map(|i| repository.save_session(&record(Id([i; 32]), "x")).unwrap()).collect();
    ids.sort_unstable();
    let repository = reopen(&store);
    assert_eq!(repository.list_sessions().unwrap(), ids);
    for id in &ids {
        assert_eq!(repository.resolve_session(&id.to_string()).unwrap(), *id);
        assert_eq!(repository.resolve_session(&id.to_string().to_uppercase()).unwrap(), *id);
        assert_eq!(repository.load_session(id).unwrap().tags, ["x"]);
    }
    // Forty ids cannot differ in one digit of sixteen.
    let kinds: Vec<_> = "0123456789abcdef"
        .chars()
        .filter_map(|digit| repository.resolve_session(&digit.to_string()).err().map(|error| error.kind()))
        .collect();
    assert!(kinds.contains(&RepositoryErrorKind::Ambiguous));
    for bad in ["", "x", "../a", &"0".repeat(65)] {
        assert_eq!(kind_of(repository.resolve_session(bad)), RepositoryErrorKind::Refused, "{bad}");
    }
    repository.remove_session(&ids[0]).unwrap();
    let gone = ids[0].to_string();
    assert_eq!(kind_of(repository.resolve_session(&gone)), RepositoryErrorKind::NotFound);
    assert_eq!(kind_of(repository.load_session(&ids[0])), RepositoryErrorKind::NotFound);
}

/// Each object truncated, flipped at each end and the middle, emptied or exchanged: an error that names it.
#[test]
fn damage_is_named() {
    let (store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let blob = writer.save_blob(BlobKind::Data, b"hello").unwrap().id;
    writer.flush().unwrap();
    let session = repository.save_session(&record(blob, "x")).unwrap();
    let names: Vec<String> = store.objects.lock().keys().cloned().collect();
    assert_eq!(names.len(), 5);
    for name in &names {
        let whole = store.objects.lock()[name].clone();
        let middle = whole.len() / 2;
        let mut damaged: Vec<Vec<u8>> =
            vec![vec![], whole[..whole.len() - 1].to_vec(), whole[..middle].to_vec(), b"{}".to_vec()];
        for at in [0, middle, whole.len() - 1] {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 0x10;
            damaged.push(flipped);
        }
        for bytes in damaged {
            store.objects.lock().insert(name.clone(), bytes.into());
            let outcome = Repository::open_with(Arc::clone(&store) as _, &password("secret"), quick())
                .and_then(|repository| {
                    repository.load_session(&session)?;
                    repository.load_blob(BlobKind::Data, &blob)?;
                    let pack = repository.list_ids(ObjectKind::Pack)?[0];
                    let size = repository.store().size(&ObjectKind::Pack.name(&pack))?;
                    pack::read_header(&**repository.store(), repository.seal_key(), &pack, size)
                });
            // A flipped bit in spare places of a key file changes nothing; everything else is noticed and named.
            match outcome {
                Ok(_) => assert!(name.starts_with("keys/"), "{name}"),
                Err(error) => {
                    let text = chain(&error);
                    let kind = error.kind();
                    assert!(text.contains(name.as_str()) || name.starts_with("keys/"), "{name}: {text}");
                    assert!(
                        matches!(kind, RepositoryErrorKind::Damaged | RepositoryErrorKind::WrongPassword)
                            || matches!(kind, RepositoryErrorKind::Store(_)) && name.starts_with("data/")
                            || matches!(kind, RepositoryErrorKind::Refused) && name.starts_with("keys/"),
                        "{name}: {kind:?}: {text}"
                    );
                }
            }
        }
        store.objects.lock().insert(name.clone(), whole);
    }
    assert!(reopen(&store).load_blob(BlobKind::Data, &blob).is_ok());
}

/// A file that another says it supersedes counts while it is there: a prune by restic may have been killed before all
/// that takes its place was written.
#[test]
fn superseded_index_files_count_while_they_are_there() {
    let (store, repository) = fresh();
    let entry = |byte: u8| {
        format!(
            r#"{{"packs":[{{"id":"{0}","blobs":[{{"id":"{0}","type":"data","offset":0,"length":40}}]}}]"#,
            Id([byte; 32])
        )
    };
    let old = repository.save_unpacked(ObjectKind::Index, format!("{}}}", entry(1)).as_bytes()).unwrap();
    let new = format!(r#"{},"supersedes":["{old}"]}}"#, entry(2));
    repository.save_unpacked(ObjectKind::Index, new.as_bytes()).unwrap();
    let repository = reopen(&store);
    let index = repository.index().unwrap();
    assert!([1, 2].iter().all(|byte| index.contains(BlobKind::Data, &Id([*byte; 32]))));
    store.delete(&ObjectKind::Index.name(&old)).unwrap();
    repository.reload_index().unwrap();
    assert_eq!(index.packs(), [Id([2; 32])]);
    assert_eq!(index.losses(), 1);
}

#[test]
fn reloading_sees_what_others_wrote_and_keeps_what_is_unsaved() {
    let (store, ours) = fresh();
    ours.index().unwrap();
    let theirs = reopen(&store);
    let writer = BlobWriter::new(Arc::clone(&theirs), WriterOptions::default()).unwrap();
    let id = writer.save_blob(BlobKind::Data, b"theirs").unwrap().id;
    writer.flush().unwrap();
    let unsaved = pack::PackEntry {
        kind: BlobKind::Tree,
        id: Id([7; 32]),
        offset: 0,
        length: 50,
        uncompressed_length: 9,
    };
    let index = ours.index().unwrap();
    index.add(index::IndexedPack { id: Id([8; 32]), blobs: vec![unsaved] }).unwrap();
    assert!(!index.contains(BlobKind::Data, &id));
    let before = store.reads.load(std::sync::atomic::Ordering::SeqCst);
    ours.reload_index().unwrap();
    ours.reload_index().unwrap();
    let reads = store.reads.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert_eq!(reads, 1, "the new file once, and nothing twice");
    assert!(index.contains(BlobKind::Data, &id) && index.contains(BlobKind::Tree, &Id([7; 32])));
    assert_eq!(index.unsaved_blobs(), 1);
    assert_eq!(ours.load_blob(BlobKind::Data, &id).unwrap(), b"theirs");
}
