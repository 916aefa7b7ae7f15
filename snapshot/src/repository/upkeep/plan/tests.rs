//! Fates by example, and what holds for every plan.

use super::*;
use crate::repository::testing::Random;

const NOW: Timestamp = Timestamp { seconds: 10_000_000, nanoseconds: 0 };

fn pack(number: u8, used: u64, unused: u64) -> PackFigures {
    let blob_bytes = used + unused;
    let size = blob_bytes + 100;
    PackFigures {
        id: Id::of(&[number]),
        size: Some(size),
        indexed: true,
        fresh: false,
        marked: None,
        used_bytes: used,
        blob_bytes,
        expected_bytes: size,
    }
}

fn marked(seconds_ago: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: NOW.seconds - seconds_ago, ..NOW })
}

fn fate(pack: PackFigures) -> Fate {
    plan(&[pack], &PruneOptions::default(), NOW).unwrap().fates[0].1
}

#[test]
fn each_fate() {
    let week = 7 * 86_400;
    assert_eq!(fate(pack(1, 10, 0)), Fate::Keep);
    assert_eq!(fate(pack(1, 0, 10)), Fate::Mark);
    assert_eq!(fate(PackFigures { indexed: false, ..pack(1, 0, 0) }), Fate::Mark);
    // A backup that is at work may need it.
    assert_eq!(fate(PackFigures { fresh: true, ..pack(1, 0, 10) }), Fate::Keep);
    assert_eq!(fate(PackFigures { fresh: true, indexed: false, ..pack(1, 0, 0) }), Fate::Keep);
    assert_eq!(fate(PackFigures { size: None, ..pack(1, 0, 10) }), Fate::Drop);
    let unnamed = PackFigures { indexed: false, ..pack(1, 0, 10) };
    assert_eq!(fate(PackFigures { marked: marked(week - 1), ..unnamed }), Fate::Wait);
    assert_eq!(fate(PackFigures { marked: marked(week), ..unnamed }), Fate::Remove);
    // A clock that went back makes nobody hasty.
    assert_eq!(fate(PackFigures { marked: marked(-week), ..unnamed }), Fate::Wait);
    let needed = PackFigures { indexed: false, ..pack(1, 10, 0) };
    assert_eq!(fate(PackFigures { marked: marked(2 * week), ..needed }), Fate::PutBack);
    // Named again by another program: it counts, whatever a mark says.
    assert_eq!(fate(PackFigures { marked: marked(2 * week), ..pack(1, 10, 0) }), Fate::Keep);
    assert_eq!(fate(PackFigures { marked: marked(2 * week), ..pack(1, 0, 10) }), Fate::Mark);
    let missing = PackFigures { size: None, ..pack(1, 10, 0) };
    assert!(matches!(
        plan(&[missing], &PruneOptions::default(), NOW),
        Err(RepositoryError::PackMissing { .. })
    ));
}

#[test]
fn the_emptiest_are_packed_anew() {
    let packs = [pack(1, 1000, 0), pack(2, 10, 90), pack(3, 90, 10), pack(4, 50, 50)];
    // 5 % of 1150 are 57: without the pack of 90, 60 are left; without that of 50 too, 10.
    let plan = plan(&packs, &PruneOptions::default(), NOW).unwrap();
    let fates: Vec<Fate> = plan.fates.iter().map(|(_, fate)| *fate).collect();
    assert_eq!(fates, [Fate::Keep, Fate::Repack, Fate::Keep, Fate::Repack]);
    assert_eq!((plan.used_bytes, plan.unused_bytes, plan.repack_used_bytes), (1150, 10, 60));
    let thorough = PruneOptions { unused_percent: 0, ..PruneOptions::default() };
    assert_eq!(super::plan(&packs, &thorough, NOW).unwrap().repack.packs, 3);
    let none = PruneOptions { unused_percent: 100, ..PruneOptions::default() };
    assert_eq!(super::plan(&packs, &none, NOW).unwrap().repack.packs, 0);
    let little = PruneOptions { repack_bytes_max: 59, ..thorough };
    assert_eq!(super::plan(&packs, &little, NOW).unwrap().repack.packs, 1);
    // What is not as long as it should be is not touched.
    let mut damaged = packs;
    damaged[1].size = Some(7);
    assert_eq!(super::plan(&damaged, &thorough, NOW).unwrap().fates[1].1, Fate::Keep);
}

#[test]
fn what_is_needed_never_goes() {
    let mut random = Random::from_clock("what_is_needed_never_goes");
    for _ in 0..2000 {
        let packs: Vec<PackFigures> = (0..random.below(20) as u8)
            .map(|number| {
                let used = random.below(2) * random.below(1000);
                let unused = random.below(2) * random.below(1000);
                let mut pack = pack(number, used, unused);
                pack.indexed = random.below(3) > 0;
                let age = random.below(30 * 86_400) as i64;
                pack.marked = (random.below(3) == 0).then(|| marked(age)).flatten();
                // What is needed lies in packs that are named or marked.
                pack.indexed |= used > 0 && pack.marked.is_none();
                if random.below(20) == 0 && used == 0 {
                    pack.size = None;
                }
                pack
            })
            .collect();
        let options = PruneOptions {
            grace: Duration::from_secs(random.below(14) * 86_400),
            unused_percent: random.below(120) as u8,
            repack_bytes_max: random.below(10_000),
            spare_running: false,
        };
        let plan = plan(&packs, &options, NOW).unwrap();
        assert_eq!(plan.fates.len(), packs.len());
        for (pack, (id, fate)) in packs.iter().zip(&plan.fates) {
            assert_eq!(pack.id, *id);
            let stays = matches!(fate, Fate::Keep | Fate::Repack | Fate::PutBack);
            assert_eq!(pack.used_bytes > 0, stays, "{pack:?} {fate:?}");
            if *fate == Fate::Remove {
                let age = NOW.seconds - pack.marked.unwrap().seconds;
                assert!(!pack.indexed && age >= options.grace.as_secs() as i64, "{pack:?}");
            }
        }
    }
}
