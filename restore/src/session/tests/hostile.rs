//! Targets that were prepared to lead elsewhere, and sessions that lie.

use super::world::{World, directory, file, look, object, planned, restore};
use crate::session::meta::Meta;
use crate::session::target::{Dir, Target};
use crate::session::walk::{DEPTH_MAX, Entered, Step, Visitor};
use crate::session::{IfExists, Listed, Options, Outcome, SessionRestoreError, Totals};
use snapshot::repository::{BlobKind, BlobWriter, Id, Node, NodeKind, TreeBuilder, WriterOptions};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

fn all_rules() -> [Options; 5] {
    [IfExists::Overwrite, IfExists::Newer, IfExists::Skip, IfExists::Rename, IfExists::Fail]
        .map(|if_exists| Options { if_exists, ..Options::default() })
}

#[test]
fn links_in_the_target_lead_nowhere() {
    let world = World::new();
    let mut top = directory();
    top.put("srv/d/secret", file(b"session")).put("srv/f", file(b"session"));
    let tree = world.save(&mut top, &mut || 100);
    for options in all_rules() {
        for (delete, paths) in [(false, vec![]), (true, vec!["/srv"]), (false, vec!["/srv/d/secret"])] {
            if delete && options.if_exists == IfExists::Rename {
                continue;
            }
            let outside = tempfile::tempdir().unwrap();
            fs::write(outside.path().join("secret"), b"outside").unwrap();
            fs::write(outside.path().join("f"), b"outside").unwrap();
            let before = look(outside.path());
            let target = tempfile::tempdir().unwrap();
            fs::create_dir(target.path().join("srv")).unwrap();
            symlink(outside.path(), target.path().join("srv/d")).unwrap();
            symlink(outside.path().join("f"), target.path().join("srv/f")).unwrap();
            let options = Options { delete, ..options };
            let outcome = restore(&world.repository, tree, &paths, target.path(), options);
            assert_eq!(look(outside.path()), before, "{options:?} {paths:?}: {outcome:?}");
            if paths == ["/srv/d/secret"] {
                let blocked =
                    matches!(&outcome, Err(SessionRestoreError::PathBlocked { path }) if path == b"/srv/d");
                assert!(blocked, "{outcome:?}");
            }
            if options.if_exists == IfExists::Overwrite && paths != ["/srv/d/secret"] {
                // The link itself is what was replaced.
                assert_eq!(fs::read(target.path().join("srv/d/secret")).unwrap(), b"session");
                assert!(fs::symlink_metadata(target.path().join("srv/f")).unwrap().is_file());
            }
        }
    }
}

#[test]
fn links_of_the_session_are_not_followed() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    let mut link = object(NodeKind::Symlink, 0o777);
    link.node.link_target = outside.path().to_str().unwrap().as_bytes().to_vec();
    let mut first = directory();
    first.put("d", link);
    let first = world.save(&mut first, &mut || 100);
    let mut second = directory();
    second.put("d/planted", file(b"planted"));
    let second = world.save(&mut second, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    restore(&world.repository, first, &[], target.path(), Options::default()).unwrap();
    for options in all_rules() {
        let _ = restore(&world.repository, second, &[], target.path(), options);
        assert_eq!(look(outside.path()).len(), 0, "{options:?}");
    }
}

/// Saves trees by hand.
struct Hand(BlobWriter);

impl Hand {
    fn new(world: &World) -> Self {
        Hand(BlobWriter::new(Arc::clone(&world.repository), WriterOptions::default()).unwrap())
    }

    fn tree(&self, nodes: &[Node]) -> Id {
        let mut tree = TreeBuilder::new();
        nodes.iter().for_each(|node| tree.add(node).unwrap());
        self.0.save_blob(BlobKind::Tree, tree.finish()).unwrap().id
    }

    fn down(&self, tree: Id) -> Id {
        let node = Node { name: b"d".to_vec(), subtree: Some(tree), ..directory().node };
        self.tree(&[node])
    }
}

fn totals(world: &World, tree: Id) -> Totals {
    let target = tempfile::tempdir().unwrap();
    planned(&world.repository, tree, &[], target.path(), Options::default()).unwrap().totals
}

#[test]
fn depth_ends() {
    let world = World::new();
    let hand = Hand::new(&world);
    let mut tree = hand.tree(&[]);
    for _ in 0..DEPTH_MAX + 50 {
        tree = hand.down(tree);
    }
    hand.0.flush().unwrap();
    let totals = totals(&world, tree);
    assert_eq!((totals.directories, totals.failed), (DEPTH_MAX as u64 - 1, 1));
    assert!(totals.failures[0].reason.contains("4096"), "{}", totals.failures[0].reason);
}

#[test]
fn a_link_that_appears_later_is_not_opened() {
    let (outside, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(outside.path().join("below")).unwrap();
    fs::create_dir_all(place.path().join("d/below")).unwrap();
    let target = Target::open(place.path()).unwrap().unwrap();
    let dir = target.child(target.top(), b"d", None);
    let below = target.child(&dir, b"below", None);
    assert!(target.fd(&below).is_ok());
    // As seen before, but not open any more.
    let target = Target::open(place.path()).unwrap().unwrap();
    let dir = target.child(target.top(), b"d", None);
    let below = target.child(&dir, b"below", None);
    fs::remove_dir_all(place.path().join("d")).unwrap();
    symlink(outside.path(), place.path().join("d")).unwrap();
    assert!(target.fd(&below).is_err());
    symlink(outside.path().join("below"), place.path().join("l")).unwrap();
    assert!(target.fd(&target.child(target.top(), b"l", None)).is_err());
    // What is removed is the link.
    for name in [b"d", b"l"] {
        crate::session::target::remove(target.top_fd(), name).unwrap();
    }
    assert_eq!((look(place.path()).len(), look(outside.path()).len()), (0, 1));
}

#[test]
fn nothing_is_removed_where_the_list_is_damaged() {
    let world = World::new();
    let hand = Hand::new(&world);
    let good = Node { name: b"good".to_vec(), ..object(NodeKind::Fifo, 0o600).node };
    let mut json = TreeBuilder::new();
    json.add(&good).unwrap();
    let json = String::from_utf8(json.finish().to_vec()).unwrap();
    let bad = json.replace("]}\n", &format!(",{}]}}\n", &json[10..json.len() - 3].replace("good", "..")));
    let broken = hand.0.save_blob(BlobKind::Tree, bad.as_bytes()).unwrap().id;
    let top = hand.down(broken);
    hand.0.flush().unwrap();
    let target = tempfile::tempdir().unwrap();
    fs::create_dir_all(target.path().join("d/precious")).unwrap();
    let options = Options { delete: true, if_exists: IfExists::Overwrite, ..Options::default() };
    let receipt = restore(&world.repository, top, &["/d"], target.path(), options).unwrap();
    assert_eq!((receipt.failed, receipt.removed, receipt.others), (1, 0, 1), "{receipt:?}");
    assert!(receipt.failures[0].reason.contains("dot name"), "{}", receipt.failures[0].reason);
    assert!(target.path().join("d/precious").exists());
}

#[test]
fn trees_that_repeat_without_end_end() {
    let world = World::new();
    let hand = Hand::new(&world);
    let mut tree = hand.tree(&[]);
    for _ in 0..40 {
        let node = |name: &[u8]| Node { name: name.to_vec(), subtree: Some(tree), ..directory().node };
        tree = hand.tree(&[node(b"a"), node(b"b")]);
    }
    hand.0.flush().unwrap();
    let target = tempfile::tempdir().unwrap();
    let plan = planned(&world.repository, hand.tree(&[]), &[], target.path(), Options::default()).unwrap();
    let mut walk = plan.walk(None, false);
    (walk.tree, walk.objects_max) = (tree, 5000);
    let outcome = walk.run(&mut Nobody);
    assert!(matches!(outcome, Err(SessionRestoreError::Limit { limit: 5000, .. })), "{outcome:?}");
}

/// Lets everything pass.
struct Nobody;

impl Visitor<Arc<Dir>> for Nobody {
    fn enter(&mut self, _: Step<'_, Arc<Dir>>) -> Result<Entered<Arc<Dir>>, SessionRestoreError> {
        Ok(Entered::Here(None, false))
    }

    fn leave(&mut self, _: Arc<Dir>, _: Meta, _: &[u8]) -> Result<(), SessionRestoreError> {
        Ok(())
    }

    fn object(&mut self, _: Step<'_, Arc<Dir>>, _: Node, _: Meta) -> Result<(), SessionRestoreError> {
        Ok(())
    }

    fn extra(&mut self, _: &Arc<Dir>, _: &[u8], _: &[u8]) -> Result<(), SessionRestoreError> {
        Ok(())
    }

    fn failed(&mut self, _: Listed) -> Result<(), SessionRestoreError> {
        Ok(())
    }

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn sizes_are_compared_with_blobs_before_anything_is_written() {
    let world = World::new();
    let hand = Hand::new(&world);
    let blob = hand.0.save_blob(BlobKind::Data, b"12345").unwrap().id;
    let node = |name: &str, size, content| Node {
        name: name.as_bytes().to_vec(),
        size,
        content,
        ..object(NodeKind::File, 0o644).node
    };
    let tree = hand.tree(&[
        node("bomb", 1 << 60, vec![blob]),
        node("missing", 5, vec![Id::of(b"never stored")]),
        node("right", 10, vec![blob, blob]),
        node("short", 4, vec![blob]),
        Node { kind: NodeKind::File, ..node("without", 1 << 50, vec![]) },
    ]);
    hand.0.flush().unwrap();
    assert_eq!((totals(&world, tree).failed, totals(&world, tree).bytes), (4, 10));
    let target = tempfile::tempdir().unwrap();
    let receipt = restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    assert_eq!((receipt.outcome(), receipt.failed, receipt.files), (Outcome::Incomplete, 4, 1));
    let found = look(target.path());
    assert_eq!((found.len(), found[b"/right".as_slice()].data.as_slice()), (1, &b"1234512345"[..]));
}

#[test]
fn names_that_the_file_system_refuses_are_listed() {
    let world = World::new();
    let mut top = directory();
    top.below.insert(vec![b'x'; 300], file(b"too long"));
    top.below.insert(vec![b'y'; 300], directory());
    top.put("good", file(b"good"));
    let tree = world.save(&mut top, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    let receipt = restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    const ENAMETOOLONG: i32 = 36;
    assert_eq!((receipt.failed, receipt.failures[0].errno), (2, Some(ENAMETOOLONG)));
    assert_eq!(look(target.path()).len(), 1);
}

#[test]
fn a_marker_of_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root can make files of others");
        return;
    }
    let world = World::new();
    let mut top = directory();
    top.put("f", file(b"f"));
    let tree = world.save(&mut top, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    let marker = crate::session::marker::Mark::new(&tree, &[]).name();
    fs::write(target.path().join(&marker), b"").unwrap();
    std::os::unix::fs::chown(target.path().join(&marker), Some(1234), None).unwrap();
    let outcome = planned(&world.repository, tree, &[], target.path(), Options::default());
    assert!(matches!(outcome, Err(SessionRestoreError::ForeignMarker { .. })), "{outcome:?}");
    fs::remove_file(target.path().join(&marker)).unwrap();
    symlink("/etc/passwd", target.path().join(&marker)).unwrap();
    assert!(planned(&world.repository, tree, &[], target.path(), Options::default()).is_err());
}
