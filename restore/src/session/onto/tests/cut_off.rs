//! A large file, cut off between its captures and begun again: whole under every rule, never taken for done.

use super::*;

const BYTES: usize = 9 << 20;

fn big() -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..BYTES).map(|_| next()).collect()
}

fn put(world: &World, node: NodeId, bytes: &[u8], mtime: i64) {
    let attributes = Attributes { mtime: Timestamp(mtime), ..attributes(0o644) };
    let meta = Meta { kind: Kind::File, size: 0, attributes, xattrs: Vec::new() };
    let mut events = vec![Event::Create { node, at: at("big"), meta, origin: None, parent_mtime: None }];
    for (number, part) in bytes.chunks(1 << 20).enumerate() {
        let (offset, data) = ((number << 20) as u64, Payload::Inline(Bytes::copy_from_slice(part)));
        events.push(Event::Write { node, offset, data, before: None });
    }
    events.push(Event::SetAttributes { node, attributes });
    world.capture(ROOT, events);
}

#[test]
fn a_file_of_several_captures_is_never_taken_for_done() {
    use IfExists::{Fail, Newer, Overwrite, Rename, Skip};
    let (bytes, store) = (big(), Store::new());
    let world = with_files(&["a"]);
    let node = NodeId(NodeId::FIRST_FREE.0 + 100);
    put(&world, node, &bytes, 5_000_000_000);
    let tree = store.session(&world, world.applied());
    let wanted = world.tree.snapshot(ROOT)[&b"big".to_vec()].clone();
    let mut cut_off = 0;
    for stands in [false, true] {
        let parent_mtime = None;
        let node = NodeId(node.0 + u64::from(stands));
        if stands {
            put(&world, node, b"older", 1_000_000_000);
        } else {
            world.capture(ROOT, vec![Event::Remove { node, at: at("big"), parent_mtime }]);
        }
        let rules: &[IfExists] =
            if stands { &[Overwrite, Newer, Rename] } else { &[Overwrite, Newer, Skip, Rename, Fail] };
        for rule in rules {
            for calls in 0.. {
                let context = format!("stands {stands} {rule:?} cut off at call {calls}");
                // What is there besides the file is a conflict of its own.
                let paths = [absolute(b"big")];
                let options = Options { if_exists: *rule, delete: false, ..exact() };
                let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &paths, options).unwrap();
                world.fail_after(Some(calls));
                let first = restore_replica(&world, &onto, Timestamp(0), &NoMonitor);
                world.fail_after(None);
                let done = first.is_ok();
                if !done {
                    cut_off += 1;
                    let report =
                        restore_replica(&world, &onto.again(), Timestamp(0), &NoMonitor).expect(&context);
                    assert_eq!(report.receipt.outcome(), crate::session::Outcome::Done, "{context}");
                }
                let name: &[u8] = if stands && *rule == Rename { b"big.restored" } else { b"big" };
                let mut now = world.tree.snapshot(ROOT)[&name.to_vec()].clone();
                assert!(now.data == wanted.data, "{context}: other bytes");
                now.object.clone_from(&wanted.object);
                assert!(now == wanted, "{context}: other attributes");
                return_to_capture(&world, &NoMonitor).unwrap();
                if done {
                    break;
                }
            }
        }
    }
    assert!(cut_off >= 16, "{cut_off}");
}
