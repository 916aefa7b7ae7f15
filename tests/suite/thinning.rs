//! Does every retained point read as before when all undo that no retained point needs is gone?
//!
//! Random histories, with rewinds; points to keep chosen at random; the merge begins anew at random places as well. Then
//! history in the tables is replaced by what the merge left, kept nodes that no retained point shows are removed from
//! the tree, and every retained point is compared with the model, as a view and as a rewind. Again with fewer points,
//! from what the first thinning left.

use crate::history::seeds;
use journal::dump::{Range, Record, Records};
use journal::log::Part;
use journal::record::{RedoRecord, UndoPart, UndoRecord};
use journal::state::{Replaced, State, history_puts, links_of};
use journal::thin::{Merge, born, is_gone};
use journal::{Lsn, NodeId, RootNo, Space, Tables, TreeIo};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use tests::canonical::{assert_equal, dump};
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;

/// Undo of captures in the order of LSNs, each as one part.
fn undo_of(lab: &Lab) -> BTreeMap<Lsn, UndoPart> {
    let mut all: BTreeMap<Lsn, UndoPart> = BTreeMap::new();
    for record in Records::new(lab.journal.undo(), Range::default()) {
        let (_, Record::Undo(UndoRecord::Undo(part))) = record.expect("the undo stream reads") else {
            continue;
        };
        let whole = all.entry(part.lsn).or_insert_with(|| UndoPart {
            lsn: part.lsn,
            last: true,
            ..UndoPart::default()
        });
        whole.names.extend(part.names);
        whole.nodes.extend(part.nodes);
        whole.data.extend(part.data);
    }
    all
}

/// When nodes were created.
fn births(lab: &Lab) -> BTreeMap<NodeId, Lsn> {
    let mut all = BTreeMap::new();
    for record in Records::new(lab.journal.redo(), Range::default()) {
        let (_, Record::Redo(RedoRecord::Part(Part { capture, .. }))) =
            record.expect("the redo stream reads")
        else {
            continue;
        };
        all.extend(born(&capture.events).map(|node| (node, capture.lsn)));
    }
    all
}

/// The retained points around an LSN that lies between them.
fn around(retained: &BTreeSet<Lsn>, lsn: Lsn) -> Option<(Lsn, Lsn)> {
    Some((*retained.range(..lsn).next_back()?, *retained.range(lsn..).next()?))
}

fn gone(lab: &Lab, births: &BTreeMap<NodeId, Lsn>, retained: &BTreeSet<Lsn>) -> HashSet<NodeId> {
    let tables: &dyn Tables = &*lab.tables;
    let is_gone = |node: NodeId, birth: Lsn| {
        let (Some(row), Some((_, next))) =
            (State::node(tables, node).expect("memory reads"), around(retained, birth))
        else {
            return false;
        };
        let links = links_of(tables, node).expect("memory reads");
        let holds = tables.range(Space::Names, &node.to_key(), &NodeId(node.0 + 1).to_key()).next().is_some();
        is_gone(&row, &links, holds, next)
    };
    births.iter().filter(|(node, birth)| is_gone(**node, **birth)).map(|(node, _)| *node).collect()
}

/// Replaces history in the tables by what retained points need; how many rows there were, and how many there are.
fn thin(
    lab: &Lab,
    undo: &mut BTreeMap<Lsn, UndoPart>,
    retained: &BTreeSet<Lsn>,
    gone: &HashSet<NodeId>,
    rng: &mut Rng,
) -> (usize, usize) {
    let spaces = [Space::NameUndo, Space::NodeUndo, Space::DataUndo, Space::Changes];
    let mut puts = Vec::new();
    for space in spaces {
        let rows = lab.tables.range(space, &[], &[0xff; 400]).map(|row| row.expect("memory reads"));
        puts.extend(rows.map(|(key, _)| (space, key, None)));
    }
    let before = puts.len();
    let mut merge = Merge::default();
    for (lsn, part) in undo.iter_mut() {
        *part = merge.take(std::mem::take(part), gone);
        let replaced = Replaced { names: part.names.clone(), nodes: part.nodes.clone() };
        puts.extend(history_puts(*lsn, &replaced, &part.data));
        if retained.contains(lsn) || rng.chance(1, 100) {
            merge.begin();
        }
    }
    let after = puts.len() - before;
    lab.tables.commit(puts).expect("memory writes");
    (before, after)
}

/// Removes nodes that no retained point shows, as pruning does.
fn remove(lab: &Lab, gone: &HashSet<NodeId>) {
    for node in gone {
        for link in links_of(&*lab.tables, *node).expect("memory reads") {
            let kept = lab.tree.kept(RootNo(0)).expect("the kept area");
            let stat = lab.tree.stat(&kept, &link.name).expect("stat");
            match stat.map(|stat| stat.kind.is_directory()) {
                Some(true) => lab.tree.remove_dir(&kept, &link.name).expect("rmdir"),
                Some(false) => lab.tree.unlink(&kept, &link.name).expect("unlink"),
                None => {}
            }
        }
        lab.journal.forget_kept(*node).expect("forget");
    }
}

fn compare(lab: &Lab, generator: &Generator, retained: &BTreeSet<Lsn>, context: &str) {
    for lsn in retained.iter().filter(|lsn| !lsn.is_local()) {
        let expected = generator.model.canonical_at(*lsn, RootNo(0));
        assert_equal(&expected, &lab.canonical(*lsn), &format!("{context}, view at {lsn}"));
    }
}

/// A random history; what every local point showed is kept aside, for the model knows captured ones only.
fn lived(seed: u64, rng: &mut Rng) -> (Lab, Generator, BTreeMap<Lsn, tests::canonical::Canonical>) {
    let options = match seed % 3 {
        0 => Options { names_max: 6, file_bytes_max: 9_000, write_bytes_max: 5_000, ..Options::default() },
        1 => Options { names_max: 8, file_bytes_max: 200_000, write_bytes_max: 90_000, ..Options::default() },
        _ => Options {
            names_max: 25,
            file_bytes_max: 400,
            write_bytes_max: 300,
            steps_max: 6,
            ..Options::default()
        },
    };
    let mut generator = Generator::new(seed, Options { revive: false, ..options });
    let (mut lab, mut locals) = (Lab::new(), BTreeMap::new());
    lab.synchronized(&mut generator);
    for turn in 0..25 {
        let batch: Vec<_> = (0..rng.below(10) + 1).map(|_| generator.next()).collect();
        let placed = lab.journal_them(&batch).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        if turn % 8 == 5 {
            let here = lab.journal.applied();
            let to = Lsn::captured(1 + rng.below(here.captured));
            lab.rewind(to);
            let branch = lab.journal.applied();
            locals.insert(branch, lab.canonical(branch));
            lab.rewind(here);
        }
    }
    lab.move_cursor().expect("cursor");
    (lab, generator, locals)
}

#[test]
fn retained_points_read_as_before() {
    let (mut rows_before, mut rows_after, mut removed) = (0, 0, 0);
    for seed in seeds(30) {
        let mut rng = Rng::new(seed ^ 0x7417);
        let (mut lab, generator, locals) = lived(seed, &mut rng);
        let (oldest, newest) = (lab.journal.window().0, lab.journal.applied());
        let mut undo = undo_of(&lab);
        let births = births(&lab);
        let share = [2, 8, 40][(seed % 3) as usize] + rng.below(4);
        let mut retained: BTreeSet<Lsn> =
            generator.model.lsns().into_iter().filter(|lsn| *lsn >= oldest && rng.chance(1, share)).collect();
        retained.extend(locals.keys().filter(|_| rng.chance(1, 2)));
        retained.extend([oldest, newest]);
        for round in 0..2 {
            let context = format!("seed {seed}, round {round}");
            let gone = gone(&lab, &births, &retained);
            let (before, after) = thin(&lab, &mut undo, &retained, &gone, &mut rng);
            remove(&lab, &gone);
            removed += gone.len();
            (rows_before, rows_after) = (rows_before + before, rows_after + after);
            compare(&lab, &generator, &retained, &context);
            for (lsn, expected) in locals.iter().filter(|(lsn, _)| retained.contains(lsn)) {
                assert_equal(expected, &lab.canonical(*lsn), &format!("{context}, branch {lsn}"));
            }
            // Later with fewer points, from what is left.
            let fewer =
                retained.iter().copied().filter(|lsn| *lsn == oldest || *lsn == newest || rng.chance(1, 2));
            retained = fewer.collect();
        }
        // The last retained points hold for rewinds, too, there and back.
        let here = Lsn::captured(newest.captured);
        for to in retained.iter().copied().filter(|lsn| !lsn.is_local()).take(3) {
            lab.rewind(to);
            let expected = generator.model.canonical_at(to, RootNo(0));
            let tree = dump(&*lab.tree, RootNo(0)).expect("dump");
            assert_equal(&expected, &tree, &format!("seed {seed}, rewound to {to}"));
        }
        if retained.contains(&here) {
            lab.rewind(here);
            let expected = generator.model.canonical_at(here, RootNo(0));
            assert_equal(
                &expected,
                &dump(&*lab.tree, RootNo(0)).expect("dump"),
                &format!("seed {seed}, back"),
            );
        }
    }
    assert!(
        rows_after * 10 < rows_before * 8,
        "{rows_after} of {rows_before} rows are left: nothing was thinned"
    );
    assert!(removed > 0, "no kept node was ever gone");
}
