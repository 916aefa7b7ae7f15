//! Cursors that are not what was written.

use super::*;

const JOURNAL: [u8; 16] = [3; 16];

fn options() -> ScrubOptions {
    ScrubOptions { roots: 2, repair: true, asker: 11, ..ScrubOptions::default() }
}

fn of(options: &ScrubOptions) -> Of {
    Of::these(JOURNAL, Some((NodeId(98), NodeId(99))), options)
}

fn name(text: &[u8]) -> Name {
    Name::new(text).unwrap()
}

fn suspect(first: u64) -> Suspect {
    let (path, edge) = (b"d/\xff".to_vec(), Edge::new(NodeId(7), name(b"\xff")));
    Suspect { root: RootNo(1), path, edge, node: Some(NodeId(8)), first, tried: None }
}

/// Found to differ, and moved.
fn tried() -> Suspect {
    let differs = Differs { what: "extra", side: Side::Replica, offset: Some(7) };
    Suspect { tried: Some(Tried { differs, aside: Some("strange/1".to_owned()) }), ..suspect(3) }
}

fn position() -> Position {
    let step = Step::Names(Some(name(b"n")), vec![(name(b"o"), NodeId(12), 1 << 40)]);
    Position { at: Some((NodeId(5000), step)), stack: vec![NodeId(4), NodeId(1 << 50)] }
}

fn report() -> ScrubReport {
    let difference = Difference {
        root: RootNo(0),
        path: b"d/\xff".to_vec(),
        what: "bytes",
        side: Side::Rot,
        offset: Some(4096),
        repaired: true,
        aside: Some("lost".to_owned()),
    };
    ScrubReport {
        sums: Scrubbed { entries: 5, files: 4, bytes: 3, replica_differs: 2, ..Scrubbed::default() },
        differences: vec![difference],
        found: 6,
        repaired: 1,
        passed: vec![(RootNo(1), b"e".to_vec(), UNLISTED)],
    }
}

fn written(report: &ScrubReport, later: &[Suspect]) -> Option<Vec<u8>> {
    write(&of(&options()), &position(), report, &[suspect(9)], later.iter())
}

#[test]
fn a_cursor_says_what_was_written() {
    let (report, bytes) = (report(), written(&report(), &[suspect(1), tried()]).unwrap());
    let begun = read(&of(&options()), &bytes).unwrap();
    assert_eq!(begun.position, position());
    assert_eq!((begun.suspects, begun.later), (vec![suspect(9)], vec![suspect(1), tried()]));
    assert_eq!(format!("{:?}", begun.report), format!("{report:?}"));
    // At another rate it is the same scrub.
    let slower = ScrubOptions { bytes_per_second: 1, ..options() };
    assert!(read(&of(&slower), &bytes).is_some());
    for step in
        [Step::Names(None, Vec::new()), Step::Only(5), Step::Ours(Some(name(b"x"))), Step::Theirs(None)]
    {
        let position = Position { at: Some((NodeId(6), step)), stack: Vec::new() };
        let bytes = write(&of(&options()), &position, &report, &[], [].iter()).unwrap();
        assert_eq!(read(&of(&options()), &bytes).unwrap().position, position);
    }
}

#[test]
fn a_cursor_that_is_damaged_or_of_another_scrub_is_none() {
    let bytes = written(&report(), &[]).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        assert!(read(&of(&options()), &damaged).is_none(), "byte {at}");
        assert!(read(&of(&options()), &bytes[..at]).is_none(), "cut at {at}");
    }
    for other in [
        ScrubOptions { repair: false, ..options() },
        ScrubOptions { roots: 1, ..options() },
        ScrubOptions { asker: 12, ..options() },
        ScrubOptions { below: Some((RootNo(0), b"d".to_vec())), ..options() },
    ] {
        assert!(read(&of(&other), &bytes).is_none(), "{other:?}");
    }
    let elsewhere = Of { journal: [4; 16], ..of(&options()) };
    assert!(read(&elsewhere, &bytes).is_none(), "of another journal");
    let replaced = Of { top: Some((NodeId(98), NodeId(100))), ..of(&options()) };
    assert!(read(&replaced, &bytes).is_none(), "something else stands there now");
}

/// Under a right checksum.
#[test]
fn what_no_scrub_writes_is_none() {
    let lie = |lie: fn(&mut ScrubReport)| {
        let mut report = report();
        lie(&mut report);
        written(&report, &[]).unwrap()
    };
    assert!(read(&of(&options()), &lie(|_| {})).is_some());
    for (number, bytes) in [
        lie(|report| report.sums.entries = u64::MAX),
        lie(|report| report.sums.replica_differs = 7),
        lie(|report| report.found = 0),
        lie(|report| report.repaired = 7),
        lie(|report| report.differences[0].root = RootNo(2)),
        lie(|report| report.differences[0].what = "colour"),
        lie(|report| report.passed[0].2 = "it was told"),
        lie(|report| report.passed = vec![report.passed[0].clone(); PASSED_MAX + 1]),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(read(&of(&options()), &bytes).is_none(), "lie {number}");
    }
    assert!(read(&of(&options()), &written(&report(), &vec![suspect(1); LATER_MAX + 1]).unwrap()).is_none());
    // A length that asks for more than there is.
    let mut body = vec![1];
    body.extend(JOURNAL);
    body.extend([11, 0, 1, 98, 99, 1, 2, 0, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let hostile = [&body[..], &crc32c::crc32c(&body).to_le_bytes()[..]].concat();
    assert!(read(&of(&options()), &hostile).is_none());
}

#[test]
fn a_cursor_of_a_million_directories_is_kept_and_one_that_is_too_long_is_not() {
    let wide = |count| {
        let position = Position { at: None, stack: vec![NodeId(1 << 40); count] };
        write(&of(&options()), &position, &report(), &[], [].iter())
    };
    let bytes = wide(1_000_000).unwrap();
    assert_eq!(read(&of(&options()), &bytes).unwrap().position.stack.len(), 1_000_000);
    assert!(wide(2_000_000).is_none() && wide(STACK_MAX + 1).is_none());
}
