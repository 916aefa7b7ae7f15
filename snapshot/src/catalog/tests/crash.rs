//! Power cuts and failures at every call to the disk: a session is complete or absent, what was said to be done is done,
//! and the catalog goes on.

use super::disk::{Cut, Fault, SimDisk};
use super::model::Listing;
use super::*;
use Step::{Delta, Forget, Load, Reopen, Tidy};
use std::collections::BTreeMap;

const PLACE: &str = "/projections/catalog";

/// What a step of the story does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Number, listing of that version, order.
    Load(u64, u64, Order),
    /// Number, previous, listing of that version.
    Delta(u64, u64, u64),
    Forget(u64),
    Tidy,
    Reopen,
}

/// Loads of both kinds, with runs on the disk; merges by loads and by hand; forgotten leaves, folded parents, a whole
/// forgotten entity; an empty session.
const STORY: [Step; 15] = [
    Load(1, 1, Order::Sorted),
    Load(2, 2, Order::Any),
    Delta(3, 1, 3),
    Forget(1),
    Load(101, 1, Order::Sorted),
    Delta(4, 3, 4),
    Load(5, 5, Order::Sorted),
    Reopen,
    Forget(4),
    Delta(6, 2, 0),
    Forget(2),
    Tidy,
    Forget(101),
    Load(7, 6, Order::Any),
    Tidy,
];

fn listing(version: u64) -> Listing {
    let mut listing = Listing::new();
    if version == 0 {
        return listing;
    }
    listing.insert(b"/srv".to_vec(), Row { kind: EntryKind::Directory, ..file(0) });
    for number in 0..24 {
        if !(number + version).is_multiple_of(5) {
            let path = format!("/srv/{}/{number}-of-a-few-names", number % 3);
            listing.insert(
                path.into_bytes(),
                file(number * 10 + if number % 4 == version % 4 { version } else { 0 }),
            );
        }
    }
    listing
}

fn entity_of(session: u64) -> Entity {
    entity(if session > 100 { "other" } else { "data" }, "/srv")
}

/// What has to be there.
#[derive(Clone, Debug, Default)]
struct Expected {
    sessions: BTreeMap<u64, Listing>,
    /// May be there or not, because the step did not end.
    open: Option<u64>,
}

struct Story {
    disk: SimDisk,
    catalog: Option<Catalog>,
    expected: Expected,
}

fn open_on(disk: &SimDisk) -> Result<Catalog, CatalogError> {
    Catalog::open_sized(Arc::new(disk.clone()), Path::new(PLACE), SMALL)
}

impl Story {
    fn new(disk: SimDisk) -> Self {
        Story { disk, catalog: None, expected: Expected::default() }
    }

    fn catalog(&mut self) -> Result<Catalog, CatalogError> {
        if self.catalog.is_none() {
            self.catalog = Some(open_on(&self.disk)?);
        }
        Ok(self.catalog.clone().unwrap())
    }

    fn step(&mut self, step: Step) -> Result<(), CatalogError> {
        let catalog = self.catalog()?;
        match step {
            Load(number, version, order) => {
                self.expected.open = Some(number);
                let rows = listing(version);
                let mut loader = catalog.begin(info(number, &entity_of(number), number as i64), order)?;
                let mut rows: Vec<_> = rows.iter().collect();
                rows.sort_by(|a, b| path_order(a.0, b.0));
                rows.into_iter().try_for_each(|(path, row)| loader.put(path, *row))?;
                loader.finish()?;
                self.expected.sessions.insert(number, listing(version));
            }
            Delta(number, previous, version) => {
                self.expected.open = Some(number);
                let (rows, base) = (listing(version), self.expected.sessions[&previous].clone());
                let mut loader =
                    catalog.begin_from(id(previous), info(number, &entity_of(number), number as i64))?;
                base.keys()
                    .filter(|path| !rows.contains_key(*path))
                    .try_for_each(|path| loader.remove(path))?;
                let changed = rows.iter().filter(|(path, row)| base.get(*path) != Some(row));
                changed.into_iter().try_for_each(|(path, row)| loader.put(path, *row))?;
                loader.finish()?;
                self.expected.sessions.insert(number, rows);
            }
            Forget(number) => {
                self.expected.open = Some(number);
                catalog.forget(id(number))?;
                self.expected.sessions.remove(&number);
            }
            Tidy => catalog.tidy()?,
            Reopen => {
                drop(catalog);
                self.catalog = None;
                self.catalog()?;
            }
        }
        self.expected.open = None;
        Ok(())
    }

    fn run(&mut self) -> Result<(), (usize, CatalogError)> {
        STORY.iter().enumerate().try_for_each(|(at, step)| self.step(*step).map_err(|error| (at, error)))
    }
}

/// Each session is as it was loaded, and none but those expected is there.
fn check(catalog: &Catalog, expected: &Expected, context: &str) {
    catalog.verify().unwrap();
    let found: Vec<u64> =
        catalog.sessions().iter().map(|s| u64::from_le_bytes(*s.id.0.first_chunk().unwrap())).collect();
    for number in expected.sessions.keys().filter(|number| expected.open != Some(**number)) {
        assert!(found.contains(number), "{context}: session {number} is lost");
    }
    for number in found {
        let is_open = expected.open == Some(number);
        assert!(is_open || expected.sessions.contains_key(&number), "{context}: session {number} came back");
        let step = STORY.iter().find_map(|step| match step {
            Load(n, version, _) | Delta(n, _, version) if *n == number => Some(*version),
            _ => None,
        });
        let filter = Filter { session: Some(id(number)), ..Filter::default() };
        let query = Query { filter, ..ask(Pattern::All) };
        let rows = catalog.query(&query).unwrap().rows;
        let rows: Listing = rows.into_iter().map(|found| (found.path, found.newest)).collect();
        assert_eq!(rows, listing(step.unwrap()), "{context}: session {number} is not complete");
    }
}

/// How many calls the story makes when nothing fails.
fn calls() -> u64 {
    let mut story = Story::new(SimDisk::default());
    story.run().unwrap();
    let calls = story.disk.calls();
    check(&story.catalog().unwrap(), &story.expected, "no fault");
    calls
}

#[test]
fn a_power_cut_at_any_call_leaves_each_session_complete_or_absent() {
    let mut rng = Rng::new(seed());
    for call in 1..=calls() {
        let mut story = Story::new(SimDisk::default());
        story.disk.set_fault(Fault::From(call));
        let _ = story.run();
        story.catalog = None;
        for cut in [Cut::Nothing, Cut::Everything, Cut::Part, Cut::Part] {
            let context = format!("power cut at call {call}, {cut:?}");
            let disk = story.disk.cut(cut, &mut rng);
            // Once more in the middle of what opening does, to find it again.
            disk.set_fault(Fault::From(1 + rng.below(12) as u64));
            let _ = open_on(&disk);
            let disk = disk.cut(rng.pick(&Cut::ALL), &mut rng);
            let catalog = open_on(&disk).unwrap_or_else(|error| panic!("{context}: {error:?}"));
            check(&catalog, &story.expected, &context);
            let names = disk.names().len() as u64;
            let is_new = !disk.names().contains(&"manifest".to_owned());
            assert_eq!(
                names + u64::from(is_new),
                catalog.stats().segments + 1,
                "{context}: {:?}",
                disk.names()
            );
        }
    }
}

#[test]
fn a_power_cut_after_a_restart_brings_back_no_manifest_without_its_segments() {
    let mut rng = Rng::new(seed());
    for call in 1..=calls() {
        // Killed: what was not synced is there when the next process looks, and goes with the power later.
        let mut story = Story::new(SimDisk::default());
        story.disk.set_fault(Fault::From(call));
        let _ = story.run();
        story.catalog = None;
        story.disk.set_fault(Fault::From(u64::MAX));
        drop(open_on(&story.disk).unwrap_or_else(|error| panic!("killed at call {call}: {error:?}")));
        for cut in [Cut::Nothing, Cut::Part, Cut::Part, Cut::Part] {
            let context = format!("killed at call {call}, opened, power cut, {cut:?}");
            let catalog = open_on(&story.disk.cut(cut, &mut rng))
                .unwrap_or_else(|error| panic!("{context}: {error:?}"));
            check(&catalog, &story.expected, &context);
        }
    }
}

#[test]
fn a_call_that_fails_once_loses_nothing_that_was_said_to_be_done() {
    let mut rng = Rng::new(seed());
    for call in 1..=calls() {
        let context = format!("call {call} fails");
        // Nobody was told that it was done, though it may be.
        let mut untold = None;
        let mut story = Story::new(SimDisk::default());
        story.disk.set_fault(Fault::Only(call));
        for (at, step) in STORY.iter().enumerate() {
            if let Err(error) = story.step(*step) {
                assert_eq!(error.kind(), CatalogErrorKind::Disk, "{context}: step {at}: {error:?}");
                // Whoever is told that it must be opened again does; everybody else just tries again.
                let catalog = story.catalog.clone();
                let again = catalog.map(|catalog| catalog.forget(id(999)).unwrap_err().kind());
                if again == Some(CatalogErrorKind::Disk) {
                    story.catalog = None;
                }
                let (catalog, expected) = (story.catalog().unwrap(), story.expected.clone());
                check(&catalog, &expected, &context);
                untold = story.expected.open;
                let is_there = untold.is_some_and(|number| catalog.session(id(number)).is_some());
                match (step, is_there) {
                    (Load(number, version, _) | Delta(number, _, version), true) => {
                        story.expected.sessions.insert(*number, listing(*version));
                    }
                    (Forget(number), false) => {
                        story.expected.sessions.remove(number);
                    }
                    _ => {
                        drop(catalog);
                        untold = None;
                        story.step(*step).unwrap_or_else(|error| panic!("{context}: again: {error:?}"));
                    }
                }
                story.expected.open = None;
            }
        }
        check(&story.catalog().unwrap(), &story.expected, &context);
        story.expected.open = untold;
        for cut in Cut::ALL {
            let catalog = open_on(&story.disk.cut(cut, &mut rng)).unwrap();
            check(&catalog, &story.expected, &format!("{context}, then {cut:?} survives"));
        }
    }
}

#[test]
fn a_load_some_of_which_failed_cannot_be_finished() {
    let disk = SimDisk::default();
    let catalog = open_on(&disk).unwrap();
    let mut loader = catalog.begin(info(1, &entity_of(1), 1), Order::Sorted).unwrap();
    loader.put(b"/srv/b", file(1)).unwrap();
    assert_eq!(loader.put(b"/srv/a", file(1)).unwrap_err().kind(), CatalogErrorKind::Input);
    loader.put(b"/srv/c", file(1)).unwrap();
    assert!(matches!(loader.finish(), Err(CatalogError::FailedLoad { .. })));
    load(&catalog, info(1, &entity_of(1), 1), &[("/srv/a", file(1))]);
    let mut loader = catalog.begin_from(id(1), info(2, &entity_of(2), 2)).unwrap();
    assert!(loader.remove(b"srv/a").is_err());
    assert!(matches!(loader.finish(), Err(CatalogError::FailedLoad { .. })));
    assert_eq!(catalog.sessions().len(), 1);
    assert_eq!(disk.names().len(), 2, "{:?}", disk.names());
}

#[test]
fn forgetting_during_a_merge_takes_nothing_from_others() {
    let disk = SimDisk::default();
    let catalog = open_on(&disk).unwrap();
    let one = entity_of(1);
    let change = |number: u64, previous: u64, rows: &[(&str, Row)]| {
        let mut loader = catalog.begin_from(id(previous), info(number, &one, number as i64)).unwrap();
        rows.iter().for_each(|(path, row)| loader.put(path.as_bytes(), *row).unwrap());
        loader.finish().unwrap();
    };
    load(&catalog, info(1, &one, 1), &[("/srv/of-one", file(1))]);
    change(2, 1, &[]);
    change(3, 2, &[("/srv/of-three", file(3))]);
    change(4, 3, &[("/srv/of-four", file(4))]);
    catalog.forget(id(1)).unwrap();
    // The load of the fifth ends with a merge, in which the events of the first become those of the second, which has
    // none itself and goes away just then.
    let other = catalog.clone();
    let watched = disk.clone();
    disk.on_create(".segment", move || {
        watched.on_create(".segment", move || other.forget(id(2)).unwrap());
    });
    change(5, 4, &[("/srv/of-five", file(5))]);
    assert!(!disk.hook_is_set(), "the merge has not taken place");
    assert_eq!(catalog.session(id(2)), None);
    for number in 3..=5 {
        let filter = Filter { session: Some(id(number)), ..Filter::default() };
        let found = catalog.query(&Query { filter, ..ask(Pattern::All) }).unwrap().rows.len() as u64;
        assert_eq!(found, number - 1, "entries of session {number}");
    }
    catalog.tidy().unwrap();
    catalog.verify().unwrap();
    assert_eq!(disk.names().len() as u64, catalog.stats().segments + 1, "{:?}", disk.names());
}

#[test]
fn beginning_again_needs_nothing_that_is_there() {
    for damage in [false, true] {
        let disk = SimDisk::default();
        let catalog = open_on(&disk).unwrap();
        load(&catalog, info(1, &entity_of(1), 1), &[("/srv/a", file(1))]);
        let place = Path::new(PLACE);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        assert_eq!(
            Catalog::recreate(Arc::clone(&shared), place).unwrap_err().kind(),
            CatalogErrorKind::Conflict
        );
        drop(catalog);
        if damage {
            disk.open(&place.join(MANIFEST_NAME)).unwrap().write_at(b"x", 9).unwrap();
            assert!(open_on(&disk).unwrap_err().is_damage());
        }
        let first = disk.calls() + 1;
        for call in first..first + 20 {
            let mut rng = Rng::new(call);
            for cut in Cut::ALL {
                let mut copy = disk.cut(Cut::Everything, &mut rng);
                copy.set_fault(Fault::From(call - first + 1));
                let done = Catalog::recreate(Arc::new(copy.clone()), place).is_ok();
                copy = copy.cut(cut, &mut rng);
                match open_on(&copy) {
                    Ok(catalog) => assert!(catalog.sessions().len() <= usize::from(!done && !damage)),
                    Err(error) => assert!(damage && !done && error.is_damage(), "{error:?}"),
                }
            }
        }
        let catalog = Catalog::recreate(shared, place).unwrap();
        assert_eq!(catalog.stats(), Stats::default());
        load(&catalog, info(1, &entity_of(1), 1), &[("/srv/a", file(1))]);
    }
}
