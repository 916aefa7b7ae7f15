//! What comes out is what went in: random trees, long paths, sparse files, ACLs, parts of sessions, restic's sessions.

use super::world::{
    Object, Random, Special, World, assert_same, directory, expected, file, look, object, planned, restore,
};
use crate::session::{BatchLimits, Options, Outcome, Owner, SessionRestoreError, Sparse};
use secrecy::SecretString;
use snapshot::repository::{NodeKind, Repository, Xattr};
use snapshot::store::DirectoryStore;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::Arc;

#[test]
fn random_trees_come_out_as_they_were() {
    let mut random = Random::from_clock("random_trees_come_out_as_they_were");
    for round in 0..12 {
        let target = tempfile::tempdir().unwrap();
        let special = Special::of(target.path());
        let world = World::new();
        let mut top = directory();
        let model = random.tree(4, &mut Vec::new(), &special);
        top.put("srv/data", model);
        let tree = world.save(&mut top, &mut || 1 + random.below(60_000) as usize);
        let batch = BatchLimits {
            blobs: 1 + random.below(20) as usize,
            files: 1 + random.below(10) as usize,
            bytes: 1 + random.below(1 << 20),
        };
        let sparse = if round % 2 == 0 { Sparse::Auto } else { Sparse::Off };
        let options = Options { verify: true, batch, sparse, ..Options::default() };
        let plan = planned(&world.repository, tree, &[], target.path(), options).unwrap();
        assert_eq!(look(target.path()).len(), 0, "planning writes nothing");
        let receipt = crate::session::execute(&plan, &crate::NoMonitor).unwrap();
        assert_same(&look(target.path()), &expected(&top));
        if special.root {
            // The model gives set-id bits only to owners who can be given.
            assert_eq!(receipt.outcome(), Outcome::Done, "{:?} {:?}", receipt.warnings, receipt.failures);
        }
        let totals = &plan.totals;
        assert_eq!(
            (receipt.files, receipt.directories, receipt.others, receipt.links, receipt.bytes),
            (totals.files, totals.directories, totals.others, totals.links, totals.bytes)
        );
        assert_eq!((receipt.verified, receipt.verified_files), (Some(true), receipt.files));
    }
}

#[test]
fn paths_may_be_longer_than_the_kernels_limit() {
    let world = World::new();
    let mut deep = directory();
    deep.below.insert(vec![b'f'; 255], file(b"at the bottom"));
    for _ in 0..40 {
        let mut above = directory();
        above.below.insert(vec![b'd'; 255], deep);
        deep = above;
    }
    let tree = world.save(&mut deep, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    let receipt = restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    assert_eq!(receipt.outcome(), Outcome::Done);
    assert_same(&look(target.path()), &expected(&deep));
    assert!(expected(&deep).keys().map(Vec::len).max().unwrap() > 10_000);
}

#[test]
fn zeros_are_holes_unless_they_shall_not_be() {
    let world = World::new();
    let mut data = vec![0; 9 << 20];
    data[5_000_000] = 1;
    let mut top = directory();
    top.put("sparse", file(&data)).put("end", file(&[vec![7; 5000], vec![0; 1 << 20]].concat()));
    let tree = world.save(&mut top, &mut || 700_001);
    for (sparse, all) in [(Sparse::Auto, false), (Sparse::Off, true)] {
        let target = tempfile::tempdir().unwrap();
        let options = Options { sparse, ..Options::default() };
        let receipt = restore(&world.repository, tree, &[], target.path(), options).unwrap();
        assert_same(&look(target.path()), &expected(&top));
        let blocks = std::fs::metadata(target.path().join("sparse")).unwrap().blocks() * 512;
        assert_eq!(blocks >= 9 << 20, all, "{blocks}");
        assert_eq!(receipt.bytes_written == receipt.bytes, all, "{receipt:?}");
    }
}

#[test]
fn access_control_lists_and_set_id_bits() {
    let target = tempfile::tempdir().unwrap();
    let special = Special::of(target.path());
    if !special.root || !special.xattrs {
        println!("not run: neither owners nor attributes can be set here");
        return;
    }
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 6, nobody),
        entry(2, 4, 1234),
        entry(4, 4, nobody),
        entry(16, 4, nobody),
        entry(32, 0, nobody),
    ]
    .concat();
    let mut top = directory();
    let mut with_acl = object(NodeKind::File, 0o640);
    with_acl.node.xattrs.push(Xattr { name: b"system.posix_acl_access".to_vec(), value: acl });
    let mut program = object(NodeKind::File, 0o6755);
    (program.node.uid, program.node.gid) = (1000, 1001);
    top.put("d/with-acl", with_acl).put("d/program", program);
    let world = World::new();
    let tree = world.save(&mut top, &mut || 10);
    let receipt = restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    if receipt.warned > 0 {
        println!("not run to its end: no access control lists here: {:?}", receipt.warnings);
        return;
    }
    assert_same(&look(target.path()), &expected(&top));
    // For whoever restores: no program of somebody else's.
    let ignored = tempfile::tempdir().unwrap();
    let options = Options { owner: Owner::Ignore, ..Options::default() };
    let receipt = restore(&world.repository, tree, &["/d/program"], ignored.path(), options).unwrap();
    let metadata = std::fs::metadata(ignored.path().join("d/program")).unwrap();
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o7777), (0, 0o755));
    assert_eq!((receipt.outcome(), receipt.warnings[0].what), (Outcome::Incomplete, "set-id bits"));
    assert_eq!(receipt.warnings[0].path, b"/d/program");
}

#[test]
fn only_the_paths_asked_for() {
    let world = World::new();
    let mut top = directory();
    top.put("srv/a/one", file(b"1")).put("srv/a/two", file(b"2")).put("srv/b/three", file(b"3"));
    let mut linked = file(b"linked");
    (linked.node.inode, linked.node.device_id, linked.node.links) = (5, 5, 2);
    top.put("srv/b/x", linked.clone()).put("srv/c/y", linked);
    let tree = world.save(&mut top, &mut || 10);
    let target = tempfile::tempdir().unwrap();
    let receipt =
        restore(&world.repository, tree, &["/srv/a/two", "/srv/c"], target.path(), Options::default())
            .unwrap();
    assert_eq!((receipt.files, receipt.directories, receipt.links), (2, 3, 0));
    let mut wanted = expected(&top);
    let keep = [b"/srv".as_slice(), b"/srv/a", b"/srv/a/two", b"/srv/c", b"/srv/c/y"];
    wanted.retain(|path, _| keep.contains(&path.as_slice()));
    wanted.get_mut(b"/srv/c/y".as_slice()).unwrap().first = b"/srv/c/y".to_vec();
    assert_same(&look(target.path()), &wanted);
    for missing in ["/srv/a/three", "/srv/a/two/below", "/other"] {
        let outcome =
            planned(&world.repository, tree, &["/srv/b", missing], target.path(), Options::default());
        assert!(
            matches!(&outcome, Err(SessionRestoreError::NoSuchPath { path }) if missing.as_bytes().starts_with(path)),
            "{missing}: {outcome:?}"
        );
    }
    for refused in ["srv", "/srv/../etc", "/srv/."] {
        let outcome = planned(&world.repository, tree, &[refused], target.path(), Options::default());
        assert!(matches!(outcome, Err(SessionRestoreError::PathRefused { .. })), "{refused}");
    }
}

#[test]
fn hard_links_with_other_content_are_not_joined() {
    let world = World::new();
    let mut top: Object = directory();
    for (name, data) in [("a", b"one"), ("b", b"one"), ("c", b"two")] {
        let mut object = file(data);
        (object.node.inode, object.node.device_id, object.node.links) = (9, 9, 3);
        top.put(name, object);
    }
    let tree = world.save(&mut top, &mut || 10);
    let target = tempfile::tempdir().unwrap();
    restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    let found = look(target.path());
    assert_eq!(found[b"/b".as_slice()].first, b"/a");
    assert_eq!(
        (found[b"/c".as_slice()].first.as_slice(), found[b"/c".as_slice()].data.as_slice()),
        (&b"/c"[..], &b"two"[..])
    );
}

#[test]
fn a_session_of_restic() {
    let place = tempfile::tempdir().unwrap();
    let (repository, source) = (place.path().join("repository"), place.path().join("source"));
    let restic = |arguments: &[&str]| {
        Command::new("restic")
            .args(arguments)
            .env("RESTIC_REPOSITORY", &repository)
            .env("RESTIC_PASSWORD", "secret")
            .env("RESTIC_CACHE_DIR", place.path().join("cache"))
            .output()
    };
    if let Err(error) = Command::new("restic").arg("version").output() {
        println!("not run: the program restic cannot be started ({error})");
        return;
    }
    let mut random = Random::from_clock("a_session_of_restic");
    std::fs::create_dir_all(source.join("sub/empty")).unwrap();
    std::fs::write(source.join("large"), random.bytes(3_000_000)).unwrap();
    std::fs::write(source.join("sub/small"), b"small").unwrap();
    std::fs::hard_link(source.join("sub/small"), source.join("other name")).unwrap();
    std::os::unix::fs::symlink("../large", source.join("sub/link")).unwrap();
    std::fs::set_permissions(source.join("sub/empty"), PermissionsExt::from_mode(0o1711)).unwrap();
    for arguments in [vec!["init"], vec!["backup", source.to_str().unwrap()]] {
        let output = restic(&arguments).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let store = Arc::new(DirectoryStore::open(&repository).unwrap());
    let opened = Repository::open(store, &SecretString::from("secret".to_owned())).unwrap();
    let session = opened.load_session(&opened.list_sessions().unwrap()[0]).unwrap();
    let target = tempfile::tempdir().unwrap();
    let options = Options { verify: true, ..Options::default() };
    let receipt =
        restore(&opened, session.tree, &[source.to_str().unwrap()], target.path(), options).unwrap();
    assert_eq!((receipt.failed, receipt.links, receipt.verified), (0, 1, Some(true)), "{receipt:?}");
    // Directories above it that belong to root.
    let root = rustix::process::geteuid().is_root();
    assert!(receipt.warnings.iter().all(|warning| warning.what == "owner" && !root), "{receipt:?}");
    let out = target.path().join(source.strip_prefix("/").unwrap());
    assert_same(&look(&out), &look(&source));
}
