//! One writer of a journal's archive at a time.

use super::*;

#[test]
fn the_next_writer_waits_for_the_one_before() {
    let (mine, other) = ([0xa1; 16], [0xa2; 16]);
    let turn = Turn::take(mine).unwrap();
    assert!(Turn::take(mine).is_none());
    let another = Turn::take(other).unwrap();
    assert!(Turn::take(mine).is_none());
    drop(turn);
    let turn = Turn::take(mine).unwrap();
    drop(another);
    assert!(Turn::take(mine).is_none());
    drop(turn);
}
