//! What is wanted of which root.

use super::stage::{MARKER, STAGE};
use super::*;
use snapshot::repository::Id;

fn base(path: &str) -> Base {
    Base { session: Id([0; 32]), tree: Id([0; 32]), path: path.into(), lsn: 1, time: 0 }
}

fn check(paths: &[&str], expected: &[(usize, &str, &str)]) {
    let bases = [base("/srv/docs"), base("/srv/mail")];
    let bases: Vec<&Base> = bases.iter().collect();
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let expected =
        expected.iter().map(|(at, inside, to)| (*at, inside.as_bytes().to_vec(), to.as_bytes().to_vec()));
    assert_eq!(places(&bases, &paths), expected.collect::<Vec<_>>(), "{paths:?}");
}

#[test]
fn paths_belong_to_roots() {
    let both = [(0, "", "/srv/docs"), (1, "", "/srv/mail")];
    check(&[], &both);
    check(&["/srv"], &both);
    check(&["/srv/mail"], &both[1..]);
    check(&["/srv/docs/a/b"], &[(0, "/a/b", "/srv/docs/a/b")]);
    check(&["/srv/docs/a/b", "/srv/docs/a", "/srv/docs/a"], &[(0, "/a", "/srv/docs/a")]);
    check(&["/srv/docsx", "/etc"], &[]);
}

#[test]
fn nothing_of_others_is_replaced_or_removed() {
    let place = std::env::temp_dir().join(format!("rewind-place-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&place));
    let (target, tree) = (place.join("target"), place.join("tree"));
    std::fs::create_dir_all(target.join(STAGE)).unwrap();
    std::fs::write(target.join(STAGE).join("theirs"), "").unwrap();
    assert!(matches!(Stage::make(&target), Err(RebuildError::Occupied { .. })), "not marked: not ours");
    std::fs::write(target.join(STAGE).join(MARKER), "").unwrap();
    std::fs::write(target.join(STAGE).join("left"), "").unwrap();
    let stage = Stage::make(&target).unwrap();
    assert!(!stage.path.join("left").exists());
    drop(stage);
    assert!(!target.join(STAGE).exists());
    std::fs::create_dir_all(tree.join("a")).unwrap();
    std::fs::write(tree.join("a/b"), "new").unwrap();
    std::fs::create_dir_all(target.join("srv/a")).unwrap();
    std::fs::write(target.join("srv/a/b"), "old").unwrap();
    let placing = |to: &str| Placing { tree: tree.clone(), inside: b"/a/b".to_vec(), to: to.into() };
    assert!(matches!(check_place(&target, "/srv/a/b"), Err(RebuildError::Occupied { .. })));
    assert!(matches!(place_at(&target, &[placing("/srv/a/b")]), Err(RebuildError::Occupied { .. })));
    assert_eq!(std::fs::read(target.join("srv/a/b")).unwrap(), b"old");
    // A link on the way is not followed.
    std::os::unix::fs::symlink(&place, target.join("link")).unwrap();
    assert!(place_at(&target, &[placing("/link/b")]).is_err());
    assert!(!place.join("b").exists());
    // One of several is refused: none is there.
    std::fs::write(tree.join("a/c"), "too").unwrap();
    let other = Placing { inside: b"/a/c".to_vec(), ..placing("/srv/a/b") };
    let refused = place_at(&target, &[placing("/srv/first"), other]);
    assert!(matches!(refused, Err(RebuildError::Occupied { .. })), "{refused:?}");
    assert!(!target.join("srv/first").exists());
    place_at(&target, &[placing("/srv/other/b")]).unwrap();
    assert_eq!(std::fs::read(target.join("srv/other/b")).unwrap(), b"new");
    assert!(!placing("/x").exists().unwrap(), "it was moved");
    std::fs::remove_dir_all(&place).unwrap();
}

fn check_place(target: &Path, path: &str) -> Result<(), RebuildError> {
    place::check(target, &[path.as_bytes().to_vec()])
}

fn place_at(target: &Path, placings: &[Placing]) -> Result<(), RebuildError> {
    place::place((target, &place::open(target)?), placings)
}

/// What another one is using is neither removed nor placed; what it has left is.
#[test]
fn one_rescue_at_a_time() {
    let target = std::env::temp_dir().join(format!("rewind-stage-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&target));
    let one = Stage::make(&target).unwrap();
    std::fs::write(one.path.join("whole"), b"whole").unwrap();
    assert!(matches!(Stage::make(&target), Err(RebuildError::Busy { .. })));
    assert_eq!(std::fs::read(one.path.join("whole")).unwrap(), b"whole");
    one.check().unwrap();
    drop(one);
    assert!(!target.join(STAGE).exists());
    // Cut off behind the directory, before its marker.
    std::fs::create_dir(target.join(STAGE)).unwrap();
    let one = Stage::make(&target).unwrap();
    // Somebody puts another one in its place.
    std::fs::rename(&one.path, target.join("aside")).unwrap();
    std::fs::create_dir(&one.path).unwrap();
    std::fs::write(one.path.join("theirs"), b"").unwrap();
    assert!(matches!(one.check(), Err(RebuildError::Busy { .. })));
    drop(one);
    assert!(target.join(STAGE).join("theirs").exists());
    // A link is not followed.
    std::fs::rename(target.join(STAGE), target.join("other")).unwrap();
    std::os::unix::fs::symlink(target.join("aside"), target.join(STAGE)).unwrap();
    assert!(matches!(Stage::make(&target), Err(RebuildError::Occupied { .. })));
    std::fs::remove_dir_all(&target).unwrap();
}

#[test]
fn what_is_not_on_the_disk_is_no_success() {
    use replication::replica::Halt;
    let at = journal::Lsn::captured;
    feed::ended(None, at(7), at(7)).unwrap();
    feed::ended(None, at(0), at(0)).unwrap();
    assert!(feed::ended(None, at(6), at(7)).is_err());
    for halt in [Halt::Stopped("a".into()), Halt::Full("b".into()), Halt::Failing("c".into())] {
        assert!(feed::ended(Some(halt), at(7), at(7)).is_err());
    }
}

const JOURNAL: [u8; 16] = [7; 16];

/// What is chosen of an archive of two roots that ends at LSN 50, from sessions of a host, a root and an LSN.
fn chosen(sessions: &[(&str, &str, u64)], moment: Moment) -> Choice {
    use snapshot::archive::{Draft, Manifest, Piece, hex};
    use snapshot::repository::{KeyCost, RepositoryOptions};
    let key_cost = KeyCost { log_n: 4, r: 8, p: 1 };
    let options = RepositoryOptions { key_cost, ..RepositoryOptions::default() };
    let store = std::sync::Arc::new(snapshot::store::MemoryStore::new());
    let repository = Repository::init(store, &"secret".to_owned().into(), options).unwrap();
    let (first, last) = (Some(1), Some(50));
    let place =
        Draft { segment: 1, from: 0, to: 900, sealed: false, first, last, first_time: 10, last_time: 500 };
    let manifest = Manifest {
        version: 1,
        journal: hex(&JOURNAL),
        generation: 1,
        scenario: "docs".into(),
        host: "a".into(),
        roots: vec!["/srv/docs".into(), "/srv/mail".into()],
        written: 0,
        upto: Upto { lsn: 50, time: 500 },
        pieces: vec![Piece { id: Id([1; 32]), plain: Id([2; 32]), place }],
    };
    Archive::new(&repository, JOURNAL).put_manifest(&manifest).unwrap();
    let candidate = |(host, path, lsn): &(&str, &str, u64)| {
        let json = format!(
            "{{\"time\":\"1970-01-01T00:00:00.{:09}Z\",\"tree\":\"{}\",\"paths\":[\"{path}\"],\
             \"hostname\":\"{host}\",\"tags\":[\"journal:{}\",\"lsn:{lsn}\"]}}",
            lsn * 10,
            "00".repeat(32),
            hex(&JOURNAL)
        );
        Candidate { id: Id([*lsn as u8; 32]), record: serde_json::from_str(&json).unwrap() }
    };
    let candidates: Vec<Candidate> = sessions.iter().map(candidate).collect();
    choose(&repository, &candidates, moment).unwrap()
}

/// Each root once, from the newest session of any name of the host; older ones stand behind it.
#[test]
fn a_host_may_get_another_name() {
    let sessions = [("a", "/srv/docs", 5), ("b", "/srv/docs", 20), ("b", "/srv/mail", 20)];
    let choice = chosen(&sessions, Moment::Lsn(30));
    let [one] = choice.chosen.as_slice() else { panic!("{choice:?}") };
    let bases = |attempt| -> Vec<_> {
        let bases = one.bases(attempt).into_iter();
        bases.map(|base| (String::from_utf8(base.path.clone()).unwrap(), base.lsn)).collect()
    };
    assert_eq!(bases(0), [("/srv/docs".to_owned(), 20), ("/srv/mail".to_owned(), 20)]);
    assert_eq!(bases(1), [("/srv/docs".to_owned(), 5), ("/srv/mail".to_owned(), 20)]);
    let entity = |host: &str, path: &str| (host.to_owned(), vec![path.to_owned()]);
    let expected = [entity("a", "/srv/docs"), entity("b", "/srv/docs"), entity("b", "/srv/mail")];
    assert_eq!(one.entities, expected.into(), "no name of it is left to be restored beside it");
    assert!(one.missing.is_empty(), "{one:?}");
}

#[test]
fn what_is_left_out_is_said() {
    let choice = chosen(&[("a", "/srv/docs", 5), ("a", "/srv/mail", 40)], Moment::Lsn(30));
    assert_eq!(choice.chosen[0].missing, [b"/srv/mail".to_vec()]);
    // The archive ended long ago, and the only session there is is behind that.
    let sessions = [("a", "/srv/docs", 5), ("a", "/srv/docs", 80)];
    let choice = chosen(&sessions, Moment::Time(900_000));
    assert!(choice.chosen.is_empty(), "{choice:?}");
    assert!(choice.warnings.iter().any(|text| text.contains("ends at LSN 50")), "{choice:?}");
}
