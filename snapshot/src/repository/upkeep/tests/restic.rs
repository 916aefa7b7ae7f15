//! restic's view: its checks after our prunes, its prunes between ours, its policy against ours.

use super::*;
use crate::repository::testing::{PlainDirectory, Restic};
use std::path::Path;

/// Writes the repository to a directory and lets restic read all of it. Whether there is a restic.
pub(super) fn check(store: &MemoryStore, place: &Path) -> bool {
    for (name, bytes) in store.contents() {
        let path = place.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let Some(restic) = Restic::new(place, "secret") else { return false };
    restic.ok(&["check", "--read-data"]);
    true
}

fn on_disk(place: &Path) -> Arc<Repository> {
    let store = Arc::new(PlainDirectory(place.into()));
    Arc::new(Repository::init(store, &password("secret"), quick()).unwrap())
}

fn reopen(place: &Path) -> Arc<Repository> {
    open(&(Arc::new(PlainDirectory(place.into())) as _))
}

#[test]
fn prunes_of_both_in_turn() {
    let place = tempfile::tempdir().unwrap();
    let repository = on_disk(place.path());
    let Some(restic) = Restic::new(place.path(), "secret") else { return };
    for number in 0..6_u64 {
        let files: Vec<u64> = (0..10).map(|file| file * (number + 1)).collect();
        let mut files = files;
        files.sort_unstable();
        files.dedup();
        backup(&repository, &files, number as i64);
    }
    keep_last(&repository, 5).unwrap();
    run_prune(&repository, &PruneOptions { unused_percent: 0, ..PruneOptions::default() }).unwrap();
    // Marked packs are no fault, and restic takes them away.
    restic.ok(&["check", "--read-data"]);
    restic.ok(&["forget", "--keep-last", "4", "--prune", "--max-unused", "0"]);
    restic.ok(&["check", "--read-data"]);
    let ours = reopen(place.path());
    assert_eq!(verify_all(&ours), 4);
    assert_whole(&ours);
    // Ours after restic's.
    keep_last(&ours, 2).unwrap();
    run_prune(&ours, &PruneOptions { unused_percent: 0, ..at_once() }).unwrap();
    restic.ok(&["check", "--read-data"]);
    assert_eq!(verify_all(&reopen(place.path())), 2);
    // What restic finds when it makes the index anew counts again.
    keep_last(&ours, 1).unwrap();
    run_prune(&ours, &PruneOptions::default()).unwrap();
    restic.ok(&["rebuild-index"]);
    restic.ok(&["check", "--read-data"]);
    let ours = reopen(place.path());
    let report = run_prune(&ours, &at_once()).unwrap();
    assert!(report.removed.packs > 0, "{report:?}");
    restic.ok(&["check", "--read-data"]);
    assert_eq!(verify_all(&reopen(place.path())), 1);
}

/// A repository that restic wrote is checked, pruned and still read by restic.
#[test]
fn what_restic_wrote() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    let repository = place.path().join("repository");
    let Some(restic) = Restic::new(&repository, "secret") else { return };
    restic.ok(&["init"]);
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    for number in 0..20_u64 {
        std::fs::write(tree.join(format!("sub/{number}")), bytes_of(number)).unwrap();
    }
    restic.ok(&["backup", tree.to_str().unwrap()]);
    std::fs::remove_file(tree.join("sub/3")).unwrap();
    std::fs::write(tree.join("sub/4"), bytes_of(44)).unwrap();
    restic.ok(&["backup", tree.to_str().unwrap()]);
    let ours = reopen(&repository);
    let report = assert_whole(&ours);
    assert_eq!(report.sessions, 2);
    assert_eq!(report.packs, report.packs_read);
    assert_eq!(keep_last(&ours, 1).unwrap().len(), 1);
    run_prune(&ours, &PruneOptions { unused_percent: 0, ..at_once() }).unwrap();
    restic.ok(&["check", "--read-data"]);
    let out = place.path().join("out");
    restic.ok(&["restore", "latest", "--target", out.to_str().unwrap()]);
    let restored = out.join(tree.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(restored.join("sub/4")).unwrap(), bytes_of(44));
    assert!(!restored.join("sub/3").exists());
}

/// The same policies on the same sessions keep the same ones.
#[test]
fn the_policy_is_restics() {
    let place = tempfile::tempdir().unwrap();
    let repository = on_disk(place.path());
    let Some(restic) = Restic::new(place.path(), "secret") else { return };
    let mut random = Random::from_clock("the_policy_is_restics");
    let empty = {
        let writer = writer(&repository);
        let tree = writer.save_tree(&mut TreeBuilder::new()).unwrap().id;
        writer.flush().unwrap();
        tree
    };
    for _ in 0..60 {
        // Over some years, the denser the newer.
        let spread = [3_600, 86_400 * 3, 86_400 * 60, 86_400 * 1200][random.below(4) as usize];
        let seconds = 1_700_000_000 - random.below(spread) as i64;
        let mut session = record(empty, &[], 0);
        session.time = Timestamp { seconds, nanoseconds: random.below(1_000_000_000) as u32 };
        session.hostname = ["one", "two"][random.below(2) as usize].into();
        session.paths = [vec!["/a".into()], vec!["/b".into(), "/a".into()]][random.below(2) as usize].clone();
        repository.save_session(&session).unwrap();
    }
    for _ in 0..12 {
        let count =
            |random: &mut Random, limit| if random.below(2) == 0 { 0 } else { random.below(limit) as u32 };
        let policy = Policy {
            last: count(&mut random, 5),
            hourly: count(&mut random, 8),
            daily: count(&mut random, 8),
            weekly: count(&mut random, 6),
            monthly: count(&mut random, 12),
            yearly: count(&mut random, 4),
            within: (random.below(2) == 0).then(|| Duration::from_secs(3600 * random.below(24 * 90))),
        };
        if policy.is_empty() {
            continue;
        }
        let mut arguments: Vec<String> = vec!["forget".into(), "--dry-run".into(), "--json".into()];
        let counts = [
            ("last", policy.last),
            ("hourly", policy.hourly),
            ("daily", policy.daily),
            ("weekly", policy.weekly),
            ("monthly", policy.monthly),
            ("yearly", policy.yearly),
        ];
        for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
            arguments.push(format!("--keep-{name}={count}"));
        }
        if let Some(within) = policy.within.filter(|within| !within.is_zero()) {
            arguments.push(format!("--keep-within={}h", within.as_secs() / 3600));
        }
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = restic.ok(&words);
        let json = output.lines().find(|line| line.starts_with('[')).unwrap_or_else(|| panic!("{output}"));
        let theirs: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
        let ids = |list: &serde_json::Value| {
            let list = list.as_array().cloned().unwrap_or_default();
            let mut ids: Vec<String> = list.iter().map(|one| one["id"].as_str().unwrap().into()).collect();
            ids.sort_unstable();
            ids
        };
        let mut theirs: Vec<_> =
            theirs.iter().map(|group| (ids(&group["keep"]), ids(&group["remove"]))).collect();
        theirs.sort_unstable();
        // Later versions of restic keep the oldest of a group too while a rule is not used up.
        let options = ForgetOptions { policy, ..ForgetOptions::default() };
        let groups = plan_forget(&repository, &options, &NoWatch).unwrap();
        let sorted = |ids: Vec<String>| {
            let mut ids = ids;
            ids.sort_unstable();
            ids
        };
        let mut ours: Vec<_> = groups
            .iter()
            .map(|group| {
                let keep = group.keep.iter().map(|kept| kept.session.id.to_string()).collect();
                let forget = group.forget.iter().map(|session| session.id.to_string()).collect();
                (sorted(keep), sorted(forget))
            })
            .collect();
        let with_oldest = |(keep, forget): &(Vec<String>, Vec<String>)| {
            let oldest = groups.iter().flat_map(|group| group.forget.last()).map(|last| last.id.to_string());
            let oldest: Vec<String> = oldest.filter(|id| forget.contains(id)).collect();
            let keep = sorted(keep.iter().chain(&oldest).cloned().collect());
            (keep, forget.iter().filter(|id| !oldest.contains(id)).cloned().collect())
        };
        ours.sort_unstable();
        let mut more: Vec<_> = ours.iter().map(with_oldest).collect();
        more.sort_unstable();
        assert!(ours == theirs || more == theirs, "{arguments:?}: {ours:?} {theirs:?}");
    }
}
