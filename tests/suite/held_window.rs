//! Does a journal say how much of the promised history it holds, and do names of what is gone go with it?

use journal::held::HeldLevel;
use journal::retention::RetentionPolicy;
use journal::{Capture, Class, Lsn, Timestamp};
use std::time::Duration;
use tests::lab::Lab;
use tests::model::{Generator, Options};

const SECOND: i64 = 1_000_000_000;
const CAPTURES: i64 = 200;
/// Between two captures.
const STEP: i64 = 5 * SECOND;

/// A thousand seconds of history, and the time of its end. The first capture ends the first synchronization.
fn lived() -> (Lab, Timestamp) {
    let options = Options { revive: false, write_bytes_max: 30_000, ..Options::default() };
    let mut generator = Generator::new(11, options);
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let begin = lab.journal.set().created().0;
    for number in 1..=CAPTURES {
        let capture = Capture { time: Timestamp(begin + number * STEP), ..generator.next() };
        let placed = lab.journal_them(&[capture]).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
    }
    lab.move_cursor().expect("cursor");
    (lab, Timestamp(begin + CAPTURES * STEP))
}

fn policy(bytes_max: u64) -> RetentionPolicy {
    RetentionPolicy { keep: Duration::from_secs(1000), bytes_max }
}

#[test]
fn a_budget_that_shortens_history_is_told() {
    let mut levels = Vec::new();
    let (lab, now) = lived();
    let whole = lab.journal.held(policy(u64::MAX), now).expect("there are points");
    assert_eq!((whole.percent, whole.level, whole.over_budget), (100, HeldLevel::Whole, false));
    let bytes = [lab.journal.redo().segments(), lab.journal.undo().segments()];
    let bytes: u64 = bytes.iter().flatten().map(|segment| segment.bytes).sum();
    for share in (1..=9).rev() {
        let policy = policy(bytes * share / 10);
        lab.journal.retain(policy, now).expect("retention");
        let held = lab.journal.held(policy, now).expect("there are points");
        let (oldest, _) = lab.journal.window();
        assert_eq!(held.oldest.0, oldest);
        // The first capture made the first point; number n of the others has LSN n + 1.
        let age = (CAPTURES - (oldest.captured as i64 - 1)) * STEP;
        let expected = if oldest == Lsn::captured(1) { 100 } else { age * 100 / (CAPTURES * STEP) };
        assert_eq!(i64::from(held.percent), expected, "{held:?}");
        let level = match expected {
            0..75 => HeldLevel::Error,
            75..85 => HeldLevel::Warning,
            _ => HeldLevel::Whole,
        };
        assert_eq!(held.level, level, "{held:?}");
        levels.push(level);
    }
    assert!(levels.contains(&HeldLevel::Error) && levels.is_sorted(), "{levels:?}");
}

#[test]
fn a_pin_keeps_history_whole_and_the_journal_over_its_budget() {
    let (lab, now) = lived();
    let oldest = lab.journal.window().0;
    let pin = lab.journal.pin(oldest, "test").expect("pin");
    let retained = lab.journal.retain(policy(1), now).expect("retention");
    assert!(retained.over_budget);
    let held = lab.journal.held(policy(1), now).expect("there are points");
    assert_eq!((held.percent, held.level, held.over_budget), (100, HeldLevel::Whole, true));
    lab.journal.control(journal::record::Control::Unpinned { pin }).expect("unpin");
    lab.journal.retain(policy(1), now).expect("retention");
    let held = lab.journal.held(policy(1), now).expect("there are points");
    assert_eq!(held.level, HeldLevel::Error, "{held:?}");
}

#[test]
fn automatic_bookmarks_go_with_their_points() {
    let (lab, now) = lived();
    let (oldest, newest) = lab.journal.window();
    for (name, lsn, automatic) in
        [("old-automatic", oldest, true), ("old", oldest, false), ("new-automatic", newest, true)]
    {
        lab.journal.set_bookmark(name, lsn, Class::Crash, automatic, now).expect("bookmark");
    }
    lab.journal.retain(policy(1), now).expect("retention");
    assert!(lab.journal.window().0 > oldest, "the horizon stays");
    let names = lab.journal.with_controls(|controls| controls.bookmarks.keys().cloned().collect::<Vec<_>>());
    assert_eq!(names, ["new-automatic", "old"]);
    let (disk, tree, _) = lab.stop();
    let lab = Lab::open(disk, tree, std::sync::Arc::default()).expect("rebuild");
    assert_eq!(lab.journal.with_controls(|controls| controls.bookmarks.len()), 2);
}
