//! Delivery over a line that loses, delays and cuts, step by step in one thread: the same for the same seed.
//!
//! Everything that decides is the real thing: spool and reader, hello and meeting, who has the place, the session in front
//! of the journal, what is acknowledged and freed. Only the carrier is a model: messages of a connection keep their order,
//! those of one that was given up may still arrive, or not; connections arrive in any order. Journal, replica and master
//! fail, end and come back meanwhile; some masters come back older, or twice.
//!
//! What must be true of it: each capture in the journal is one that was made, whole, on top of the one before it; what was
//! acknowledged is there; a master that never was older or twice never loses its history; in the end all is there.

mod world;

use crate::spool::tests::seed;
use world::World;

type Step = fn(&mut World);

/// What may happen next, and how often.
const STEPS: [(Step, u64); 13] = [
    (World::capture, 25),
    (World::dial, 8),
    (World::deliver, 20),
    (World::hear_master, 30),
    (World::hear_replica, 25),
    (World::acknowledge, 15),
    (World::commit, 20),
    (World::cut, 5),
    (World::lose, 3),
    (World::refuse_commit, 1),
    (World::restart_replica, 1),
    (World::restart_master, 1),
    (World::another_master, 1),
];

fn step(world: &mut World) {
    let mut number = world.random.below(STEPS.iter().map(|(_, share)| share).sum());
    for (step, share) in STEPS {
        if number < share {
            return step(world);
        }
        number -= share;
    }
}

#[test]
fn captures_survive_whatever_the_line_does() {
    let count: u64 = std::env::var("REWIND_LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    let first = seed(0x11ae_0001);
    let mut met = world::Met::default();
    for number in 0..count {
        let seed = first.wrapping_add(number);
        let mut world = World::new(seed);
        for _ in 0..300 {
            step(&mut world);
            world.check();
        }
        world.settle();
        met.add(&world.met);
    }
    println!("{met:?}");
    // A world in which nothing goes wrong shows nothing.
    assert!(met.welcomes > count && met.superseded > count / 10 && met.diverged > 0, "{met:?}");
    assert!(met.captures > 5 * count && met.late > count / 10, "{met:?}");
}
