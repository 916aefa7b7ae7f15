//! Lines come back filtered and in order.

use super::*;
use crate::testing::MemoryServerJournal;

#[test]
fn replay_filters() {
    let activity = Activity::new(Arc::new(MemoryServerJournal::default()));
    activity.write(Level::Info, "a", None, "one");
    activity.write(Level::Warning, "b", Some(7), "two");
    activity.write(Level::Error, "a", Some(7), "three");
    let read = |filter: LineFilter| {
        let mut texts = Vec::new();
        let last = activity
            .replay(Position(0), &filter, &mut |line| {
                texts.push(line.text);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(last, Position(3));
        texts
    };
    assert_eq!(read(LineFilter::default()), ["one", "two", "three"]);
    assert_eq!(read(LineFilter { scenario: Some("a".into()), ..LineFilter::default() }), ["one", "three"]);
    assert_eq!(read(LineFilter { job: Some(7), ..LineFilter::default() }), ["two", "three"]);
    assert_eq!(
        read(LineFilter { since: Some(Timestamp(i64::MAX)), ..LineFilter::default() }),
        Vec::<String>::new()
    );
}

#[test]
fn long_lines_are_cut_between_characters() {
    assert_eq!(cut("a\u{e4}", 2), "a");
    assert_eq!(cut("abc", 5), "abc");
}
