//! Whether a delta pays is what a plain count says; undo of what is put back from undo is bytes.

use super::*;
use crate::random::Random;

#[test]
fn mostly_the_same_is_what_a_count_says() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let length = 1 + random.below(4096);
        let old: Vec<u8> = (0..length).map(|_| random.below(4) as u8).collect();
        let mut new = old.clone();
        // About half of it, in one stretch or spread.
        let changes = length / 2 + random.below(5);
        let from = random.below(length);
        for change in 0..changes.min(length) {
            let at = if seed % 2 == 0 { (from + change) % length } else { random.below(length) };
            new[at] = old[at].wrapping_add(9);
        }
        let differing = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        assert_eq!(mostly_same(&old, &new), differing * 2 < length, "seed {seed}: {differing} of {length}");
    }
}

/// The tree holds `b`s, older undo what counts up.
struct Ground;

impl OldBytes for Ground {
    fn undone(&mut self, at: PayloadAt) -> Result<Bytes, JournalError> {
        Ok((0..at.bytes).map(|n| n as u8).collect())
    }

    fn read(&mut self, _: NodeId, _: u64, length: usize) -> Result<Bytes, JournalError> {
        Ok(vec![b'b'; length].into())
    }

    fn next_data(&mut self, _: NodeId, offset: u64) -> Result<Option<u64>, JournalError> {
        Ok(Some(offset))
    }
}

#[derive(Default)]
struct Kept {
    copied: Vec<(u64, Bytes)>,
    referred: Vec<DataUndo>,
}

impl UndoSink for Kept {
    fn bytes(&mut self, _: NodeId, offset: u64, bytes: Bytes) -> Result<(), JournalError> {
        self.copied.push((offset, bytes));
        Ok(())
    }

    fn delta(&mut self, _: NodeId, _: u64, _: Bytes, _: PayloadAt, _: u32) -> Result<(), JournalError> {
        panic!("a delta against what is not there")
    }

    fn reference(&mut self, data: DataUndo) -> Result<(), JournalError> {
        self.referred.push(data);
        Ok(())
    }
}

/// Retention may give up what a capture of the batch refers to before it gives up undo of the next one.
#[test]
fn what_was_put_back_is_copied_as_undo_of_the_next_change() {
    let (node, at) = (NodeId(5000), PayloadAt { bytes: 200, ..PayloadAt::default() });
    let (mut content, mut old) = (BatchContent::default(), Ground);
    content.begin_capture();
    content.wrote(node, 1000..1100, WrittenFrom::Undone(at, 20));
    content.begin_capture();
    content.note_size(node, 8192, 8192);
    let mut kept = Kept::default();
    let new = vec![b'c'; 60];
    let change =
        Replacing { node, range: 1070..1130, new: Some(&new), redo: Some(at), size: 8192, before: None };
    content.replace(&change, &mut old, &mut kept).unwrap();
    let undone: Bytes = (90..120).collect();
    assert_eq!(kept.copied, [(1070, undone), (1100, vec![b'b'; 30].into())]);
    assert!(kept.referred.is_empty(), "{:?}", kept.referred);
    // Once a capture.
    content.replace(&change, &mut old, &mut kept).unwrap();
    assert_eq!(kept.copied.len(), 2);
}
