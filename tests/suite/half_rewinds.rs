//! What is left of a rewind that the power interrupted between redo and undo of its own changes?
//!
//! Such changes are durable and were never begun. They must not come back: neither beside the changes of the next
//! rewind, which would get the same LSNs, nor in recovery, nor in tables that are rebuilt. Rewinds run on a disk and a
//! tree that lose power after every operation in turn; then they are begun anew, interrupted again, and the replica goes
//! on. Every captured point must stay exact all the while, and every state of the branch that was reached as well.

use crate::history::seeds;
use journal::{
    Capture, Edge, Event, JournalError, Lsn, NodeId, Provenance, RootNo, Space, Tables, Timestamp,
};
use replication::apply::ApplyError;
use std::collections::BTreeMap;
use std::sync::Arc;
use tests::canonical::{Canonical, assert_equal, dump};
use tests::lab::{Lab, copy_of};
use tests::model::{Generator, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::SimTree;

fn options(seed: u64) -> Options {
    let bytes = if seed.is_multiple_of(2) { 6_000 } else { 60 };
    let (file_bytes_max, write_bytes_max) = (bytes, bytes);
    Options { names_max: 6, file_bytes_max, write_bytes_max, revive: false, ..Options::default() }
}

/// Journals all changes of a rewind, applies them in pieces, moves the cursor between them.
fn carry_out(lab: &mut Lab, captures: &[Capture]) -> Result<(), JournalError> {
    let placed = lab.journal_them(captures)?;
    for (number, some) in placed.chunks(2).enumerate() {
        lab.apply(some).map_err(|(ApplyError::Before(error) | ApplyError::Touching(error))| error)?;
        if number % 2 == 1 {
            lab.move_cursor()?;
        }
    }
    Ok(())
}

/// A replica that may die, with all that must stay true of it.
struct Branch<'g> {
    generator: &'g Generator,
    /// What local points showed when they were reached.
    seen: BTreeMap<Lsn, Canonical>,
    context: String,
}

impl Branch<'_> {
    fn check(&mut self, lab: &Lab, when: &str) {
        let (root, context) = (RootNo(0), format!("{}, {when}", self.context));
        let applied = lab.journal.applied();
        for lsn in self.generator.model.lsns().into_iter().skip(1).filter(|lsn| *lsn <= applied) {
            let expected = self.generator.model.canonical_at(lsn, root);
            assert_equal(&expected, &lab.canonical(lsn), &format!("{context}: view of {lsn}"));
        }
        for (lsn, expected) in &self.seen {
            assert_equal(expected, &lab.canonical(*lsn), &format!("{context}: view of {lsn}"));
        }
        let tree = dump(&*lab.tree, root).expect("dump");
        assert_equal(&lab.canonical(applied), &tree, &format!("{context}: tree at {applied}"));
        self.seen.insert(applied, tree);
    }

    fn open(&mut self, disk: SimDisk, tree: SimTree, tables: Arc<journal::tables::MemoryTables>) -> Lab {
        Lab::open(disk, Arc::new(tree), tables).unwrap_or_else(|error| panic!("{}: {error:?}", self.context))
    }

    /// Lets the power go at an operation of a rewind, and opens what is left. Whether it went.
    fn interrupt(
        &mut self,
        mut lab: Lab,
        to: Lsn,
        at: Option<u64>,
        (cut, rng): (Cut, &mut Rng),
    ) -> (Lab, bool) {
        let captures = lab.captures_to(to);
        if let Some(at) = at {
            lab.disk.stop_after(lab.disk.operations() + at);
        }
        let died = carry_out(&mut lab, &captures).is_err();
        let (disk, tree, tables) = lab.stop();
        let keep = rng.chance(1, 2).then(|| copy_of(&tables));
        let (disk, tree) = (disk.crash(cut, rng), tree.crash(rng));
        let lab = self.open(disk, tree, keep.unwrap_or_default());
        self.check(&lab, &format!("after the cut at {at:?} on the way to {to}, {cut:?}"));
        // What has come out is what the next one begins with.
        lab.move_cursor().expect("cursor");
        (lab, died)
    }

    fn go(&mut self, lab: &mut Lab, to: Lsn, when: &str) {
        let captures = lab.captures_to(to);
        carry_out(lab, &captures).unwrap_or_else(|error| panic!("{}, {when}: {error:?}", self.context));
        let expected = self.generator.model.canonical_at(to, RootNo(0));
        let tree = dump(&*lab.tree, RootNo(0)).expect("dump");
        assert_equal(&expected, &tree, &format!("{}, {when}: at {to}", self.context));
        self.check(lab, when);
    }
}

fn one_branch(seed: u64) -> u64 {
    let mut generator = Generator::new(seed, options(seed));
    let first: Vec<Capture> = (0..8 + seed % 5).map(|_| generator.next()).collect();
    let next: Vec<Capture> = (0..3).map(|_| generator.next()).collect();
    let here = first.last().expect("some").lsn;
    let (mut deaths, mut at) = (0, 1);
    loop {
        let mut rng = Rng::new(seed * 1000 + at);
        let cut = Cut::ALL[at as usize % Cut::ALL.len()];
        let mut lab = Lab::new();
        let placed = lab.journal_them(&first).expect("journal");
        lab.apply(&placed).expect("apply");
        lab.move_cursor().expect("cursor");
        let context = format!("seed {seed}, operation {at}");
        let mut branch = Branch { generator: &generator, seen: BTreeMap::new(), context };
        let (a, b) =
            (Lsn::captured(1 + rng.below(here.captured - 1)), Lsn::captured(1 + rng.below(here.captured)));
        let (lab, died) = branch.interrupt(lab, a, Some(at), (cut, &mut rng));
        let again = rng.below(at) + 1;
        let (mut lab, _) = branch.interrupt(lab, b, Some(again), (cut, &mut rng));
        branch.go(&mut lab, a, "rewound at last");
        branch.go(&mut lab, here, "back");
        let placed = lab.journal_them(&next).expect("journal");
        lab.apply(&placed).expect("apply");
        branch.check(&lab, "followed on");
        // From the journal alone, with the tree as the last sync left it.
        let (disk, tree, _) = lab.stop();
        let lab = branch.open(disk.crash(Cut::Everything, &mut rng), tree.crash(&mut rng), Arc::default());
        branch.check(&lab, "rebuilt");
        deaths += u64::from(died);
        if !died {
            return deaths;
        }
        at += 1;
    }
}

#[test]
fn a_rewind_that_was_cut_off_never_happened_in_part() {
    let mut deaths = 0;
    for seed in seeds(6) {
        deaths += one_branch(seed);
    }
    assert!(deaths > 20, "{deaths} power cuts tried nothing");
}

fn local(lsn: Lsn, events: Vec<Event>) -> Capture {
    let (time, provenance) = (Timestamp(3), Provenance::Local);
    Capture { lsn, time, provenance, root: RootNo(0), path: Vec::new(), events }
}

fn a_file(name: &[u8]) -> (Capture, Edge) {
    let at = Edge::new(NodeId::root(RootNo(0)), journal::Name::new(name).expect("a name"));
    let time = Timestamp(5);
    let attributes = journal::Attributes { mode: 0o644, uid: 0, gid: 0, mtime: time, ctime: time };
    let meta = journal::Meta { kind: journal::Kind::File, size: 0, attributes, xattrs: Vec::new() };
    let create = Event::Create { node: NodeId(5000), at: at.clone(), meta, origin: None, parent_mtime: None };
    let data = journal::Payload::Inline(bytes::Bytes::from_static(b"precious"));
    let write = Event::Write { node: NodeId(5000), offset: 0, data, before: None };
    let (time, provenance, root) = (Timestamp(1), Provenance::Derived, RootNo(0));
    let events = vec![create, write];
    (Capture { lsn: Lsn::captured(1), time, provenance, root, path: Vec::new(), events }, at)
}

/// The journal takes no local LSN twice, and says which one the next change has.
#[test]
fn a_local_lsn_is_given_once() {
    let mut lab = Lab::new();
    let (file, _) = a_file(b"one");
    let placed = lab.journal_them(&[file]).expect("journal");
    lab.apply(&placed).expect("apply");
    let resize = |lsn| local(lsn, vec![Event::Resize { node: NodeId(5000), size: 2 }]);
    assert_eq!(lab.journal.next_local(), Lsn::local(1, 1));
    lab.journal_them(&[resize(Lsn::local(1, 1))]).expect("journal");
    assert_eq!(lab.journal.next_local(), Lsn::local(1, 2));
    assert!(lab.journal_them(&[resize(Lsn::local(1, 1))]).is_err());
    for tables in [false, true] {
        let (disk, tree, had) = lab.stop();
        lab = Lab::open(disk, tree, if tables { had } else { Arc::default() }).expect("open");
        assert_eq!(lab.journal.applied(), Lsn::captured(1));
        assert_eq!(lab.journal.next_local(), Lsn::local(1, 2));
        let all: Vec<_> = lab.journal.captures(lab.journal.redo().first(), Lsn::ZERO, Lsn::MAX).collect();
        assert_eq!(all.len(), 1, "{all:?}");
    }
    assert_eq!(lab.canonical(Lsn::captured(1))[b"one".as_slice()].content.as_slice(), b"precious");
}

/// Two captures of one LSN, as a mistake could have written them, are damage to every reader.
#[test]
fn an_lsn_that_comes_twice_is_damage() {
    let lab = Lab::new();
    let (file, _) = a_file(b"one");
    lab.journal_them(std::slice::from_ref(&file)).expect("journal");
    // The writer's door for captures trusts the order of ingest.
    lab.journal_them(&[file]).expect("journal");
    let read: Vec<_> = lab.journal.captures(lab.journal.redo().first(), Lsn::ZERO, Lsn::MAX).collect();
    assert!(matches!(read.as_slice(), [Ok(_), Err(JournalError::Damaged { .. })]), "{read:?}");
}

/// Whoever rebuilds tables behind a checkpoint reads that a change was given up before it comes to the change.
#[test]
fn what_was_given_up_is_no_point_after_a_rebuild() {
    let seed = 0x91e5;
    eprintln!("seed {seed:#x}");
    let mut generator = Generator::new(seed, Options::default());
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let go_on = |lab: &mut Lab, generator: &mut Generator, turns: u32| {
        for _ in 0..turns {
            let placed = lab.journal_them(&[generator.next()]).expect("journal");
            lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
            lab.move_cursor().expect("the cursor moves");
        }
    };
    go_on(&mut lab, &mut generator, 800);
    let given_up = lab.journal.next_local();
    lab.journal_them(&[local(given_up, Vec::new())]).expect("journal");
    let (disk, tree, tables) = lab.stop();
    let mut lab = Lab::open(disk, tree, tables).expect("open");
    go_on(&mut lab, &mut generator, 30);
    lab.retain(1 << 20).expect("retention runs");
    let (oldest, newest) = lab.journal.window();
    assert!(Lsn::captured(1) < oldest && oldest < given_up && given_up < newest, "{oldest} to {newest}");
    let point = |lab: &Lab, lsn: Lsn| lab.tables.get(Space::Points, &lsn.to_key()).expect("tables").is_some();
    assert!(point(&lab, Lsn::captured(given_up.captured)) && !point(&lab, given_up));
    let (disk, tree, _) = lab.stop();
    let lab = Lab::open(disk, tree, Arc::default()).expect("open");
    assert_eq!(lab.journal.window(), (oldest, newest));
    assert!(point(&lab, Lsn::captured(given_up.captured)) && !point(&lab, given_up));
}
