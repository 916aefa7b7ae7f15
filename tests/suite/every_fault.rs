//! Each call refused in its turn: is nothing that was acknowledged lost, is it said what is wrong, and does everything
//! go on by itself once the cause is gone?
//!
//! A small life has all that a replica does: changes are journaled and applied, points are pinned, marked, rewound to and
//! returned from, history is given up with a checkpoint, the journal is shipped, read, verified, stopped, opened with its
//! tables and rebuilt without. The calls it makes on disk, tables and tree are counted by their sort; then it is lived
//! again for each of them, with that call and all later ones of the sort refused until somebody heals what is wrong. What
//! failed is tried once more before that, then again after; the replica is opened anew only where its journal says so.
//! In the end it must be what it would have been, every promised point reads exactly, and the power may go: what was
//! acknowledged is there.
//!
//! Every call is tried with `REWIND_LONG=1`; else some, evenly, others for each error. `REWIND_FAULT="Disk(Sync, Io) 17"`
//! tries one.

mod full_journal;
mod full_tables;

use crate::life::world::{End, GiveUp, World};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::faulty_tables::TableCall;
use tests::rng::Rng;
use tests::sim_disk::{Call, Cut, Fault};

/// Whose calls fail, of which sort, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Disk(Call, Fault),
    Table(TableCall),
    /// Changes of the tree, with this error number.
    Touch(i32),
    /// Looks into the tree.
    Look(i32),
}

/// From which call of a sort on.
#[derive(Clone, Copy, Debug)]
struct Plan {
    sort: Sort,
    from: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.sort, self.from)
    }
}

fn calls(world: &World, sort: Sort) -> u64 {
    match sort {
        Sort::Disk(call, _) => world.disk.calls(call),
        Sort::Table(call) => world.table_faults.calls(call),
        Sort::Touch(_) => world.tree.changes(),
        Sort::Look(_) => world.tree.reads(),
    }
}

impl Plan {
    fn set(self, world: &World) {
        match self.sort {
            Sort::Disk(call, fault) => world.disk.fail_calls(call, self.from, fault),
            Sort::Table(call) => world.table_faults.fail_from(call, self.from),
            Sort::Touch(errno) | Sort::Look(errno) => {
                let nth = self.from.saturating_sub(1 + calls(world, self.sort));
                let fault = tests::sim_tree::Fault { nth, errno, times: u64::MAX };
                match self.sort {
                    Sort::Touch(_) => world.tree.fail_changes(fault),
                    _ => world.tree.fail_reads(fault),
                }
            }
        }
    }
}

type Step = (&'static str, fn(&mut World) -> bool);

/// What is applied, a few at a time.
fn applied(world: &mut World) -> bool {
    (0..4).all(|_| world.apply(3)) && world.apply(usize::MAX)
}

fn changed(world: &mut World) -> bool {
    world.send() && world.go_home() && applied(world) && world.is_home()
}

/// The life. A step that was not done is begun again, and may find some of it done.
const LIFE: [Step; 31] = [
    ("open", |world| !world.is_down() || world.open()),
    ("make", |world| made(world, 1)),
    ("first", changed),
    ("cursor", World::move_cursor),
    ("make", |world| made(world, 14)),
    ("change", changed),
    ("pin", |world| world.pin_back(9)),
    ("bookmark", |world| world.bookmark_back(4)),
    ("rewind", |world| world.rewind_back(5)),
    ("make", |world| made(world, 3)),
    ("journal", World::send),
    ("return", |world| world.rewind(None)),
    ("make", |world| made(world, 8)),
    ("change", changed),
    ("cursor", World::move_cursor),
    ("unpin", World::unpin),
    ("give up", |world| world.give_up(GiveUp::Bytes(9 << 10))),
    ("look", World::look),
    ("ship", World::ship),
    ("verify", World::audit),
    ("save", World::save),
    ("reopen", |world| world.reopen(true)),
    ("make", |world| made(world, 4)),
    ("change", changed),
    ("cursor", World::move_cursor),
    ("rebuild", |world| world.reopen(false)),
    ("make", |world| made(world, 4)),
    ("change", changed),
    ("pin", |world| world.pin_back(2)),
    ("give up", |world| world.give_up(GiveUp::Bytes(9 << 10))),
    ("look", World::look),
];

fn made(world: &mut World, count: u64) -> bool {
    world.make(count);
    true
}

const SEED: u64 = 4;

/// A process that can do no more ends, with the machine or without, and another one begins.
fn begun_again(world: &mut World, plan: Plan) -> bool {
    let keep_tables = plan.from.is_multiple_of(2);
    match plan.from % 3 {
        0 => world.reopen(keep_tables),
        1 => world.restart(End::Power(Cut::Nothing), keep_tables),
        _ => world.restart(End::Power(Cut::Part), keep_tables),
    }
}

/// A life that is over.
struct Lived {
    world: World,
    failures: u64,
    /// Calls it has made, of each sort.
    calls: Vec<(Sort, u64)>,
}

/// A life in which something fails, and a second time while it recovers. How often steps failed.
fn live(plan: Option<Plan>, second: Option<Plan>) -> Lived {
    let context = |step: &str| format!("{} then {}, {step}", said(plan), said(second));
    let mut world = World::new(SEED, &context("begin"));
    if let Some(plan) = plan {
        plan.set(&world);
    }
    let mut failures = 0;
    for (name, step) in LIFE {
        world.context = context(name);
        if step(&mut world) {
            continue;
        }
        failures += 1;
        let plan = plan.unwrap_or_else(|| panic!("{}: {:?}", world.context, world.met));
        // While it lasts nothing may be said to be done that is not, whatever is tried.
        step(&mut world);
        // A write that finds no room has done nothing, and can be repeated.
        let is_room = matches!(plan.sort, Sort::Disk(Call::Write, Fault::Full | Fault::FullLate));
        assert!(
            !is_room || second.is_some() || !world.is_poisoned(),
            "{}: no room shuts the journal",
            world.context
        );
        world.heal();
        if let Some(second) = second.filter(|_| failures == 1) {
            let from = calls(&world, second.sort) + second.from;
            Plan { from, ..second }.set(&world);
            if world.is_down() {
                world.reopen(second.from.is_multiple_of(2));
            }
            step(&mut world);
            world.heal();
        }
        let mut tries = 0;
        // The writer may not have returned yet from telling of a failure, and refuses what comes meanwhile.
        while (world.is_down() && !begun_again(&mut world, plan)) || !step(&mut world) {
            tries += 1;
            assert!(tries < 3000, "{}: it does not go on: {:?}", world.context, world.met);
            std::thread::yield_now();
        }
    }
    let calls = sorts().into_iter().map(|sort| (sort, calls(&world, sort))).collect();
    world.heal();
    world.context = context("in the end");
    world.recover(End::Kill, true);
    world.assert_whole();
    world.check(false);
    world.verify();
    world.archive();
    // Whatever was acknowledged had better be durable.
    world.context = context("after a power cut in the end");
    world.restart(End::Power(Cut::Nothing), plan.is_some_and(|plan| plan.from.is_multiple_of(2)));
    world.recover(End::Kill, true);
    world.assert_whole();
    world.check(true);
    Lived { world, failures, calls }
}

fn said(plan: Option<Plan>) -> String {
    plan.map_or("nothing".to_owned(), |plan| plan.to_string())
}

fn long() -> bool {
    std::env::var_os("REWIND_LONG").is_some()
}

/// Runs what there is to run on two threads.
fn each<T: Sync>(all: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(one);
        }
    };
    std::thread::scope(|scope| {
        for worker in [scope.spawn(worker), scope.spawn(worker)] {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// Every sort of fault.
fn sorts() -> Vec<Sort> {
    let mut sorts: Vec<Sort> = Vec::new();
    for call in Call::ALL {
        let faults: &[Fault] = match call {
            Call::Write => &[Fault::Full, Fault::FullLate, Fault::Io],
            Call::Create | Call::Cut | Call::Sync | Call::Rename | Call::SyncDirectory => {
                &[Fault::Full, Fault::Io]
            }
            _ => &[Fault::Io],
        };
        sorts.extend(faults.iter().map(|fault| Sort::Disk(call, *fault)));
    }
    sorts.extend(TableCall::ALL.map(Sort::Table));
    sorts.extend([Sort::Touch(5), Sort::Touch(28), Sort::Touch(122), Sort::Look(5)]);
    sorts
}

/// Calls of a sort that are tried: all, or so many of them.
fn chosen(count: u64, most: u64, shift: u64) -> Vec<u64> {
    let step = if long() { 1 } else { count.div_ceil(most).max(1) };
    (1 + shift % step..=count).step_by(step as usize).collect()
}

#[test]
fn whatever_call_is_refused_nothing_is_lost_and_it_goes_on() {
    let calm = live(None, None);
    let mut plans = Vec::new();
    let only = std::env::var("REWIND_FAULT").ok();
    for (number, (sort, count)) in calm.calls.iter().enumerate() {
        println!("{sort:?}: {count} calls");
        let from = chosen(*count, 40, number as u64 * 7);
        plans.extend(from.into_iter().map(|from| Plan { sort: *sort, from }));
    }
    plans.retain(|plan| only.as_ref().is_none_or(|only| plan.to_string() == *only));
    let calm = calm.world.outcome();
    let met = parking_lot::Mutex::new(BTreeMap::<String, u64>::new());
    each(&plans, |plan| {
        let Lived { world, failures, .. } = live(Some(*plan), None);
        let (tree, pins, marks) = world.outcome();
        tests::canonical::assert_equal(&calm.0, &tree, &plan.to_string());
        assert_eq!((&calm.1, &calm.2), (&pins, &marks), "{plan}");
        *met.lock().entry(format!("{:?}, {failures} failures", plan.sort)).or_default() += 1;
    });
    println!("{} lives: {:#?}", plans.len(), met.into_inner());
}

/// A sample: any two faults, the second while the first is got over.
#[test]
fn a_second_fault_at_recovery_is_survived() {
    let calm = live(None, None);
    let sorts: Vec<_> = calm.calls.into_iter().filter(|(_, count)| *count > 0).collect();
    let calm = calm.world.outcome();
    let mut rng = Rng::new(0x2fa);
    let pairs: Vec<(Plan, Plan)> = (0..if long() { 10_000 } else { 150 })
        .map(|_| {
            let mut some = |most: u64| {
                let (sort, count) = sorts[rng.below(sorts.len() as u64) as usize];
                Plan { sort, from: 1 + rng.below(count.min(most)) }
            };
            (some(u64::MAX), some(12))
        })
        .collect();
    each(&pairs, |(first, second)| {
        let lived = live(Some(*first), Some(*second));
        tests::canonical::assert_equal(&calm.0, &lived.world.outcome().0, &format!("{first}, {second}"));
    });
}
