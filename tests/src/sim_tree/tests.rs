//! That the simulation keeps its contract.

use super::{DataChoice, Fate, Fault, Pending, SimTree};
use crate::canonical::{assert_equal, dump};
use crate::rng::Rng;
use journal::{Attributes, Kind, Name, RootNo, Timestamp, TreeFile, TreeIo};

const R: RootNo = RootNo(0);

fn n(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

fn contents(tree: &SimTree, name: &str) -> Option<Vec<u8>> {
    let root = tree.root(R).unwrap();
    let size = tree.stat(&root, &n(name)).unwrap()?.size;
    let mut bytes = vec![1; size as usize + 1];
    let length = tree.open_file(&root, &n(name), false).unwrap().read_at(&mut bytes, 0).unwrap();
    bytes.truncate(length);
    Some(bytes)
}

#[test]
fn inode_numbers_are_reused_when_names_and_handles_are_gone() {
    let tree = SimTree::new(1);
    let root = tree.root(R).unwrap();
    let file = tree.create_file(&root, &n("a")).unwrap();
    let number = file.stat().unwrap().inode;
    tree.unlink(&root, &n("a")).unwrap();
    file.write_at(b"still there", 0).unwrap();
    assert_ne!(tree.create(&root, &n("b"), &Kind::File).unwrap().inode, number);
    drop(file);
    assert_eq!(tree.create(&root, &n("c"), &Kind::Fifo).unwrap().inode, number);
}

#[test]
fn metadata_is_durable_as_a_prefix_and_bytes_are_not() {
    let tree = SimTree::new(1);
    let root = tree.root(R).unwrap();
    let file = tree.create_file(&root, &n("a")).unwrap();
    file.write_at(b"12345678", 0).unwrap();
    tree.sync().unwrap();
    assert_eq!(tree.pending(), Pending { metadata: 0, data: 0 });
    file.write_at(b"abcd", 2).unwrap();
    file.write_at(b"WXYZ", 6).unwrap();
    tree.rename((&root, &n("a")), (&root, &n("b"))).unwrap();
    // touch, (write), resize, touch, (write), rename
    assert_eq!(tree.pending(), Pending { metadata: 4, data: 2 });

    let after = |prefix, data| tree.crash_at(prefix, &data);
    let kept = after(0, DataChoice::All(Fate::Kept));
    assert_eq!((contents(&kept, "a").unwrap(), contents(&kept, "b")), (b"12abcdWX".to_vec(), None));
    let dropped = after(4, DataChoice::All(Fate::Dropped));
    assert_eq!((contents(&dropped, "b").unwrap(), contents(&dropped, "a")), (b"12345678\0\0".to_vec(), None));
    assert_eq!(contents(&after(3, DataChoice::Only(1)), "a").unwrap(), b"123456WXYZ");
    assert_eq!(contents(&after(3, DataChoice::AllBut(1)), "a").unwrap(), b"12abcd78\0\0");
    assert_eq!(contents(&after(3, DataChoice::All(Fate::Front)), "a").unwrap(), b"12ab56WX\0\0");
    assert_eq!(contents(&after(3, DataChoice::All(Fate::Back)), "a").unwrap(), b"1234cd78YZ");
    assert_eq!(tree.crash_states().len(), 5 * (4 + 2 + 2));
    assert_eq!(contents(&tree, "b").unwrap(), b"12abcdWXYZ");
}

#[test]
fn the_last_state_is_a_state_a_crash_may_leave() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let tree = SimTree::new(1);
        busy(&tree, &mut rng);
        let now = dump(&tree, R).unwrap();
        let all = tree.crash_at(usize::MAX, &DataChoice::All(Fate::Kept));
        assert_equal(&now, &dump(&all, R).unwrap(), &format!("seed {seed}, nothing lost"));
        for _ in 0..4 {
            dump(&tree.crash(&mut rng), R).unwrap();
        }
        assert_equal(&now, &dump(&tree, R).unwrap(), &format!("seed {seed}, untouched by crashes"));
        tree.sync().unwrap();
        let synced = tree.crash_at(0, &DataChoice::All(Fate::Dropped));
        assert_equal(&now, &dump(&synced, R).unwrap(), &format!("seed {seed}, synced"));
    }
}

/// Anything, allowed or not.
fn busy(tree: &SimTree, rng: &mut Rng) {
    let names = ["a", "b", "c", "d"].map(n);
    let mut dirs = vec![tree.root(R).unwrap(), tree.kept(R).unwrap()];
    for _ in 0..60 {
        let (from, to) = (rng.pick(&dirs).unwrap().clone(), rng.pick(&dirs).unwrap().clone());
        let (a, b) = (rng.pick(&names).unwrap(), rng.pick(&names).unwrap());
        let _ = match rng.below(10) {
            0 => tree.create(&from, a, &Kind::Directory).map(|_| ()),
            1 => tree.create(&from, a, &Kind::Symlink(b"x".to_vec())).map(|_| ()),
            2 => tree.rename((&from, a), (&to, b)),
            3 => tree.unlink(&from, a),
            4 => tree.remove_dir(&from, a),
            5 => tree.link((&from, a), (&to, b)),
            6 => tree.open_dir(&from, a).map(|dir| dirs.push(dir)),
            7 if rng.chance(1, 4) => tree.sync(),
            _ => scribble(tree, rng, (&from, a)),
        };
    }
}

fn scribble(tree: &SimTree, rng: &mut Rng, at: (&super::SimDir, &Name)) -> std::io::Result<()> {
    let file = match tree.stat(at.0, at.1)? {
        Some(_) => tree.open_file(at.0, at.1, true)?,
        None => tree.create_file(at.0, at.1)?,
    };
    match rng.below(4) {
        0 => file.set_len(rng.below(3000)),
        1 => file.punch(rng.below(3000), rng.below(3000)),
        _ => {
            let length = rng.below(900) as usize;
            file.write_at(&rng.bytes(length), rng.below(2000))
        }
    }
}

#[test]
fn holes() {
    let tree = SimTree::new(1);
    let file = tree.create_file(&tree.root(R).unwrap(), &n("a")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_at(&[1; 700], 300).unwrap();
    assert_eq!(file.next_data(0).unwrap(), Some((256, 1024)));
    file.punch(400, 400).unwrap();
    assert_eq!(file.next_data(0).unwrap(), Some((256, 512)));
    assert_eq!(file.next_data(512).unwrap(), Some((768, 1024)));
    assert_eq!(file.next_data(1024).unwrap(), None);
    let mut bytes = [9; 1000];
    file.read_at(&mut bytes, 0).unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(*byte, u8::from((300..400).contains(&at) || at >= 800), "{at}");
    }
    assert_eq!(file.stat().unwrap().size, 1 << 40);
    file.set_len(850).unwrap();
    file.set_len(1000).unwrap();
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes[849], bytes[850]), (1, 0));
}

#[test]
fn a_write_is_felt_in_attributes() {
    let tree = SimTree::new(1);
    let root = tree.root(R).unwrap();
    let file = tree.create_file(&root, &n("a")).unwrap();
    let set = Attributes { mode: 0o6755, uid: 1, gid: 2, mtime: Timestamp(3), ctime: Timestamp(4) };
    tree.set_attributes(&root, &n("a"), &set, &Kind::File).unwrap();
    let set = file.stat().unwrap().attributes;
    assert_eq!((set.mode, set.uid, set.gid, set.mtime), (0o6755, 1, 2, Timestamp(3)));
    let capability = vec![(b"security.capability".to_vec(), vec![1])];
    tree.set_xattrs(&root, &n("a"), &Kind::File, &capability).unwrap();
    file.write_at(b"x", 0).unwrap();
    let now = file.stat().unwrap().attributes;
    assert_eq!(now.mode, 0o755);
    assert!(now.mtime > set.mtime && tree.xattrs(&root, &n("a"), &Kind::File).unwrap().is_empty());
}

#[test]
fn refusals() {
    let tree = SimTree::new(2);
    let root = tree.root(R).unwrap();
    let (eio, enospc) = (5, 28);
    tree.create(&root, &n("d"), &Kind::Directory).unwrap();
    let dir = tree.open_dir(&root, &n("d")).unwrap();
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
    assert_eq!(errno(tree.rename((&root, &n("d")), (&dir, &n("e")))), 22);
    assert_eq!(errno(tree.rename((&root, &n("d")), (&tree.root(RootNo(1)).unwrap(), &n("e")))), 18);
    assert_eq!(errno(tree.unlink(&root, &n("d"))), 21);

    let file = tree.create_file(&root, &n("a")).unwrap();
    tree.fail_changes(Fault { nth: 1, errno: enospc, times: 2 });
    file.set_len(3).unwrap();
    assert_eq!(errno(file.write_at(b"abcdef", 0)), enospc);
    assert_eq!(errno(tree.unlink(&root, &n("a"))), enospc);
    file.set_len(4).unwrap();
    assert_eq!(contents(&tree, "a").unwrap(), b"abc\0");

    tree.fail_reads(Fault { nth: 0, errno: eio, times: u64::MAX });
    assert!(tree.list(&root).is_err());
    tree.heal();
    tree.fail_changes(Fault { nth: 0, errno: eio, times: 1 });
    assert_eq!((errno(tree.sync()), errno(tree.sync())), (eio, eio));
    assert_eq!(tree.syncs(), 0);

    let tree = SimTree::new(1);
    let root = tree.root(R).unwrap();
    tree.cut_power_at(1);
    tree.create(&root, &n("a"), &Kind::File).unwrap();
    assert_eq!(errno(tree.create(&root, &n("b"), &Kind::File).map(|_| ())), eio);
    assert!(!tree.has_power() && tree.list(&root).is_err());
    let after = tree.crash_at(1, &DataChoice::All(Fate::Kept));
    assert_eq!(after.list(&after.root(R).unwrap()).unwrap(), [n("a")]);
}
