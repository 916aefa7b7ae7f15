//! The catalog as a person asks it: does it say what a walk over the trees would say, also when it was lost, damaged, or
//! cut off while it was filled; is what it lacks served and named; is what others wrote found?

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::daemon::{World, seed, size};
use tests::restic::Restic;
use tests::rng::Rng;

/// A path and what a walk found there: kind and bytes.
type Walk = BTreeMap<String, (&'static str, u64)>;

/// A world that replicates, and a repository called `offsite`.
struct Ground {
    world: World,
    repository: PathBuf,
    password: PathBuf,
}

impl Ground {
    fn new(fill: impl FnOnce(&Path)) -> Ground {
        let world = World::new();
        fill(&world.master());
        world.protect();
        let (repository, password) = (world.path("repository"), world.path("password"));
        std::fs::write(&password, "correct horse\n").unwrap();
        tests::repository::make(&repository, &password);
        let ground = Ground { world, repository, password };
        ground.world.ok(&ground.add("offsite", &ground.repository));
        ground
    }

    fn add(&self, name: &str, repository: &Path) -> String {
        let (repository, password) = (repository.display(), self.password.display());
        format!("repository add {name} file://{repository} --password-file {password}")
    }

    /// A backup after a flush: the id of its session.
    fn backup(&self) -> String {
        self.world.flush();
        let report = self.world.ok("backup docs --to offsite");
        report["sessions"][0]["id"].as_str().unwrap().to_owned()
    }

    /// What a query finds, and whether all of it was catalogued.
    fn query(&self, words: &str) -> (Vec<Value>, bool) {
        let ran = self.world.ctl(&format!("catalog query {words}"));
        let found = if ran.exit == 4 && ran.code() == "RW1091" { Vec::new() } else { ran.objects() };
        assert!(ran.exit == 0 || ran.code() == "RW1091", "{ran:?}\n{}", self.world.log_end());
        (found, !ran.stderr.contains("not catalogued"))
    }

    fn paths(&self, words: &str) -> Vec<String> {
        self.query(words).0.iter().map(path_of).collect()
    }

    /// Waits until everything is catalogued.
    fn catalogued(&self) {
        let until = Instant::now() + Duration::from_secs(120);
        while !self.query("* --limit 1").1 {
            assert!(Instant::now() < until, "the catalog is not filled\n{}", self.world.log_end());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn without_projections(&mut self) {
        self.world.stop();
        std::fs::remove_dir_all(self.world.path("data/projections")).unwrap();
        self.world.start();
    }

    fn restic(&self, repository: &Path, arguments: &[&str]) -> Option<String> {
        Restic::new(repository, &self.password).run(arguments)
    }
}

fn path_of(found: &Value) -> String {
    found["path"].as_str().unwrap().to_owned()
}

/// Everything below a directory, and itself.
fn walk(directory: &Path) -> Walk {
    let mut found = Walk::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let kind = if meta.is_dir() {
            ("directory", 0)
        } else if meta.is_symlink() {
            ("symlink", 0)
        } else {
            ("file", meta.len())
        };
        found.insert(path.to_str().unwrap().to_owned(), kind);
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

const WORDS: [&str; 6] = ["report", "Budget", "plan", "notes", "x", "old plan"];
const ENDINGS: [&str; 4] = [".txt", ".docx", "", ".tar.gz"];

fn name(rng: &mut Rng) -> String {
    let (word, ending) = (rng.pick(&WORDS).unwrap(), rng.pick(&ENDINGS).unwrap());
    format!("{word}-{}{ending}", rng.below(4))
}

/// Changes a few things.
fn change(master: &Path, rng: &mut Rng) {
    for _ in 0..12 {
        let all: Vec<PathBuf> = walk(master).into_keys().map(PathBuf::from).collect();
        let directories: Vec<PathBuf> = all.iter().filter(|path| path.is_dir()).cloned().collect();
        let into = rng.pick(&directories).unwrap().join(name(rng));
        let some = rng.pick(&all).unwrap().clone();
        // What cannot be done is not done: a name that is taken, a directory into itself.
        match rng.below(8) {
            0 => drop(std::fs::create_dir(&into)),
            1 if some != master => drop(std::fs::rename(&some, &into)),
            2 if some != master && some.is_dir() => drop(std::fs::remove_dir_all(&some)),
            3 if some.is_file() => drop(std::fs::remove_file(&some)),
            4 => drop(std::os::unix::fs::symlink("elsewhere", &into)),
            _ if !into.exists() || into.is_file() => {
                let bytes = rng.below(5000) as usize;
                drop(std::fs::write(&into, rng.bytes(bytes)));
            }
            _ => {}
        }
    }
}

/// Held against every path, as a person would.
struct Question {
    words: &'static str,
    matches: fn(root: &str, path: &str) -> bool,
}

const QUESTIONS: [Question; 7] = [
    Question { words: "*", matches: |_, _| true },
    Question { words: "*.txt", matches: |root, path| path.starts_with(root) && path.ends_with(".txt") },
    Question { words: "plan", matches: |_, path| path.contains("plan") },
    Question {
        words: "report-?.docx",
        matches: |root, path| {
            path.strip_prefix(&format!("{root}/report-"))
                .is_some_and(|rest| rest.len() == 6 && rest.ends_with(".docx"))
        },
    },
    Question { words: "/*/Budget-*", matches: |_, path| path.contains("/Budget-") },
    Question {
        words: "--regex notes-[01]$",
        matches: |_, path| path.ends_with("notes-0") || path.ends_with("notes-1"),
    },
    Question { words: "nothing-has-this", matches: |_, _| false },
];

/// All questions, answered by the catalog and from what was walked.
fn compare(ground: &Ground, sessions: &[(String, Walk)], what: &str) {
    let root = ground.world.master().to_str().unwrap().to_owned();
    for question in &QUESTIONS {
        let mut expected: BTreeMap<&str, (Vec<usize>, (&str, u64))> = BTreeMap::new();
        for (number, (_, walk)) in sessions.iter().enumerate() {
            for (path, found) in walk.iter().filter(|(path, _)| (question.matches)(&root, path)) {
                let entry = expected.entry(path).or_insert((Vec::new(), *found));
                entry.0.push(number);
                entry.1 = *found;
            }
        }
        let (found, complete) = ground.query(question.words);
        assert!(complete, "{what}: {}", question.words);
        let mut seen = BTreeSet::new();
        for one in &found {
            let path = path_of(one);
            // What passed by between two sessions.
            if one["source"] == "journal" {
                let in_sessions = expected.contains_key(path.as_str());
                assert!(!in_sessions && one["sessions"] == 0, "{what}: {}: {one}", question.words);
                continue;
            }
            let (numbers, (kind, bytes)) =
                expected.get(path.as_str()).unwrap_or_else(|| panic!("{what}: {}: {one}", question.words));
            let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
            let wanted = (numbers.len() as u64, sessions[first].0.as_str(), sessions[last].0.as_str());
            let told = (
                one["sessions"].as_u64().unwrap(),
                one["first_session"].as_str().unwrap(),
                one["last_session"].as_str().unwrap(),
            );
            assert_eq!(
                (told, &one["kind"], &one["bytes"]),
                (wanted, &Value::from(*kind), &Value::from(*bytes)),
                "{what}: {one}"
            );
            assert_eq!((&one["scenario"], &one["source"]), (&"docs".into(), &"catalog".into()), "{one}");
            assert!(seen.insert(path), "{what}: {}: twice: {one}", question.words);
        }
        assert_eq!(seen.len(), expected.len(), "{what}: {}: {expected:?}", question.words);
    }
}

/// Random sessions; every question is answered as a walk would, also after all projections were deleted, while they come
/// back and when they are.
#[test]
fn queries_agree_with_a_walk() {
    let mut rng = Rng::new(seed("queries_agree_with_a_walk"));
    let mut ground = Ground::new(|master| change(master, &mut Rng::new(1)));
    let mut sessions = Vec::new();
    for _ in 0..size(5, 25) {
        change(&ground.world.master(), &mut rng);
        let id = ground.backup();
        sessions.push((id, walk(&ground.world.master())));
    }
    compare(&ground, &sessions, "fed while they were made");
    for (id, walk) in &sessions {
        let listed: Walk = ground
            .query(&format!("* --session {id}"))
            .0
            .iter()
            .map(|one| (path_of(one), (kind_of(one), one["bytes"].as_u64().unwrap())))
            .collect();
        assert_eq!(listed, *walk, "session {id}");
        let Some(ls) = ground.restic(&ground.repository, &["ls", "--json", id]) else { continue };
        let told = ls.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let told: BTreeSet<String> = told.map(|node| path_of(&node)).collect();
        let ours: BTreeSet<String> = walk.keys().cloned().collect();
        assert!(ours.is_subset(&told), "what restic lists");
    }
    ground.without_projections();
    // At once: from repositories, or from the catalog as far as it has come back; nothing is missing, nothing twice.
    let (found, _) = ground.query("*");
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let held = found.iter().filter(|one| one["source"] != "journal");
    held.for_each(|one| *counts.entry(path_of(one)).or_default() += one["sessions"].as_u64().unwrap());
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    sessions.iter().flat_map(|(_, walk)| walk.keys()).for_each(|path| {
        *expected.entry(path.clone()).or_default() += 1;
    });
    assert_eq!(counts, expected);
    ground.catalogued();
    compare(&ground, &sessions, "after the projections were deleted");
    ground.world.ok("catalog rebuild");
    compare(&ground, &sessions, "after a rebuild");
}

fn kind_of(found: &Value) -> &'static str {
    ["file", "directory", "symlink"].into_iter().find(|kind| found["kind"] == **kind).unwrap()
}

/// What lies in the window and in no session is found, wherever it went; what went is deleted, whatever a session says.
#[test]
fn the_window_is_searched_too() {
    let ground = Ground::new(|master| {
        std::fs::create_dir(master.join("d")).unwrap();
        std::fs::write(master.join("d/stays"), "1").unwrap();
        std::fs::write(master.join("goes"), "12").unwrap();
    });
    let master = ground.world.master();
    let path = |name: &str| master.join(name).to_str().unwrap().to_owned();
    // Without any session.
    assert_eq!(ground.paths("stays"), [path("d/stays")]);
    ground.backup();
    std::fs::write(master.join("passing"), "123").unwrap();
    ground.world.flush();
    std::fs::remove_file(master.join("passing")).unwrap();
    std::fs::remove_file(master.join("goes")).unwrap();
    std::fs::write(master.join("new"), "1234").unwrap();
    std::fs::rename(master.join("d"), master.join("moved")).unwrap();
    ground.world.flush();
    let (found, _) = ground.query("passing");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["sessions"], &found[0]["source"]), (&0.into(), &"journal".into()));
    assert_eq!((&found[0]["bytes"], &found[0]["first_session"]), (&3.into(), &Value::Null));
    assert!(found[0]["last_lsn"].is_string(), "{found:?}");
    assert_eq!(ground.paths("new"), [path("new")]);
    assert_eq!(ground.paths("stays"), [path("d/stays"), path("moved/stays")]);
    let mut deleted = ground.paths("* --deleted");
    deleted.sort();
    assert_eq!(deleted, [path("d"), path("d/stays"), path("goes"), path("passing")]);
    // The next session holds what is there, and the window still what is not.
    ground.backup();
    let (found, _) = ground.query("new");
    assert_eq!((&found[0]["sessions"], &found[0]["source"]), (&1.into(), &"catalog".into()));
    assert_eq!(ground.paths("passing"), [path("passing")]);
    // A directory that moved and went, with all above the file gone with it: both places are told.
    std::fs::create_dir_all(master.join("first/deep")).unwrap();
    std::fs::write(master.join("first/deep/file-of-two"), "12345").unwrap();
    ground.world.flush();
    std::fs::rename(master.join("first"), master.join("then")).unwrap();
    ground.world.flush();
    // The file first: where it was is known only from where its directories stood.
    std::fs::remove_file(master.join("then/deep/file-of-two")).unwrap();
    ground.world.flush();
    std::fs::remove_dir_all(master.join("then")).unwrap();
    ground.world.flush();
    assert_eq!(ground.paths("file-of-two"), [path("first/deep/file-of-two"), path("then/deep/file-of-two")]);
    assert_eq!(ground.paths("file-of-two --deleted").len(), 2);
}

/// Sizes, times, limits and pages.
#[test]
fn filters_and_limits() {
    let ground = Ground::new(|master| {
        for bytes in [10, 1000, 100_000] {
            std::fs::write(master.join(format!("f{bytes}")), vec![7; bytes]).unwrap();
        }
    });
    ground.backup();
    let path = |name: &str| ground.world.master().join(name).to_str().unwrap().to_owned();
    assert_eq!(ground.paths("f1* --size +1000"), [path("f1000"), path("f100000")]);
    assert_eq!(ground.paths("f1* --size -1000"), [path("f10"), path("f1000")]);
    assert_eq!(ground.paths("f1* --size 1000"), [path("f1000")]);
    assert_eq!(ground.paths("f1* --since -1h").len(), 3);
    assert_eq!(ground.paths("f1* --until -1h").len(), 0);
    assert_eq!(ground.paths("f1* --limit 2"), [path("f10"), path("f1000")]);
    assert_eq!(ground.paths("f1* --scenario docs").len(), 3);
    assert_eq!(ground.paths("f1* --master nobody").len(), 0);
}

#[test]
fn versions_of_a_path() {
    let mut ground = Ground::new(|master| std::fs::write(master.join("file"), "1").unwrap());
    let file = ground.world.master().join("file");
    let versions = |ground: &Ground| ground.world.list(&format!("catalog versions {}", file.display()));
    let told = |list: &[Value]| -> Vec<(String, u64)> {
        let one = |one: &Value| (one["change"].as_str().unwrap().to_owned(), one["bytes"].as_u64().unwrap());
        list.iter().map(one).collect()
    };
    let expect = |pairs: &[(&str, u64)]| -> Vec<(String, u64)> {
        pairs.iter().map(|(change, bytes)| ((*change).to_owned(), *bytes)).collect()
    };
    let first = ground.backup();
    // One call each: a file that is first cut off would have a version more, if somebody looked at that moment.
    for _ in 0..2 {
        let open = std::fs::File::options().append(true).open(&file).unwrap();
        std::io::Write::write_all(&mut &open, b"x").unwrap();
        drop(open);
        ground.world.flush();
    }
    let second = ground.backup();
    let list = versions(&ground);
    assert_eq!(told(&list), expect(&[("modified", 3), ("modified", 2), ("existing", 1)]), "{list:?}");
    assert_eq!((&list[0]["session"], &list[1]["session"]), (&Value::from(second), &Value::Null));
    assert_eq!(list[2]["session"], first.as_str(), "{list:?}");
    assert!(list[0]["provenance"].is_string() && list[0]["lsn"].is_string(), "{list:?}");
    // Away, back as another file, under a directory that was another one.
    std::fs::remove_file(&file).unwrap();
    ground.world.flush();
    let aside = ground.world.path("aside");
    std::fs::write(&aside, "1234").unwrap();
    std::fs::rename(&aside, &file).unwrap();
    ground.world.flush();
    let list = versions(&ground);
    let changes = [("created", 4), ("removed", 0), ("modified", 3), ("modified", 2), ("existing", 1)];
    assert_eq!(told(&list), expect(&changes), "{list:?}");
    let moved = ground.world.master().join("moved");
    std::fs::rename(&file, &moved).unwrap();
    ground.world.flush();
    let list = versions(&ground);
    assert_eq!(list[0]["change"], "removed", "{list:?}");
    let list = ground.world.list(&format!("catalog versions {}", moved.display()));
    assert_eq!(told(&list), expect(&[("renamed", 4)]), "{list:?}");
    // Without projections the window is rebuilt from the journal, and sessions are found in the repository.
    ground.without_projections();
    ground.world.wait_replicating();
    let list = versions(&ground);
    assert_eq!(list.len(), 6, "{list:?}");
    assert_eq!(list[5]["session"], first.as_str(), "{list:?}");
    // A scenario that is gone leaves what its sessions hold.
    ground.world.ok("scenario stop docs");
    ground.world.ok("scenario delete docs --yes");
    ground.catalogued();
    let list = versions(&ground);
    assert_eq!(told(&list), expect(&[("stored", 3), ("stored", 1)]), "{list:?}");
}

#[test]
fn trees_are_listed() {
    let ground = Ground::new(|master| {
        std::fs::create_dir_all(master.join("d/empty")).unwrap();
        std::fs::write(master.join("d/a"), "1").unwrap();
    });
    let master = ground.world.master();
    let path = |name: &str| master.join(name).to_str().unwrap().to_owned();
    let tree = |words: &str| -> Vec<String> {
        ground.world.list(&format!("catalog tree {words}")).iter().map(path_of).collect()
    };
    let first = ground.backup();
    std::fs::write(master.join("d/b"), "2").unwrap();
    ground.backup();
    std::fs::write(master.join("d/c"), "3").unwrap();
    ground.world.flush();
    assert_eq!(tree(""), [master.to_str().unwrap()]);
    assert_eq!(tree(&path("d")), [path("d/a"), path("d/b"), path("d/empty")]);
    assert_eq!(tree(&format!("{} --session {}", path("d"), &first[..10])), [path("d/a"), path("d/empty")]);
    assert_eq!(
        tree(&format!("{} --at now", path("d"))),
        [path("d/a"), path("d/b"), path("d/c"), path("d/empty")]
    );
    assert_eq!(tree(&path("d/empty")), Vec::<String>::new());
    assert_eq!(tree(&format!("{} --limit 1", path("d"))), [path("d/a")]);
    for words in ["", "--at now", "--session"] {
        let session = if words == "--session" { first.as_str() } else { "" };
        let line = format!("catalog tree {} {words} {session}", path("nowhere"));
        ground.world.refused(&line, 4, "RW1032");
    }
}

/// Killed at random while it is filled: a session is there or not, and in the end all are.
#[test]
fn a_kill_while_it_is_filled() {
    let mut rng = Rng::new(seed("a_kill_while_it_is_filled"));
    let mut ground = Ground::new(|master| {
        for number in 0..3000_u32 {
            let directory = master.join(format!("d{}", number / 100));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("plan-{number}.txt")), number.to_string()).unwrap();
        }
    });
    let mut sessions = Vec::new();
    for _ in 0..3 {
        change(&ground.world.master(), &mut rng);
        let id = ground.backup();
        sessions.push((id, walk(&ground.world.master())));
    }
    for _ in 0..size(4, 20) {
        ground.world.stop();
        std::fs::remove_dir_all(ground.world.path("data/projections/catalog")).unwrap();
        ground.world.start();
        std::thread::sleep(Duration::from_millis(rng.below(150)));
        ground.world.kill();
        ground.world.start();
        std::thread::sleep(Duration::from_millis(rng.below(30)));
        ground.world.kill();
        ground.world.start();
        ground.catalogued();
        compare(&ground, &sessions, "after a kill");
    }
    // While a backup feeds it.
    std::fs::write(ground.world.master().join("last"), "plan").unwrap();
    ground.world.wait_replicating();
    ground.world.flush();
    ground.world.ok("backup docs --to offsite --detach");
    std::thread::sleep(Duration::from_millis(rng.below(60)));
    ground.world.kill();
    ground.world.start();
    ground.world.wait_replicating();
    let jobs = ground.world.list("job list");
    ground.world.ok(&format!("job wait {}", jobs[0]["id"].as_str().unwrap()));
    ground.catalogued();
    let found = ground.query("last").0;
    assert!(found.iter().any(|one| one["source"] == "catalog"), "{found:?}");
}

/// Whatever is damaged, the answer is right, and the catalog comes back.
#[test]
fn damage_is_mended() {
    let mut rng = Rng::new(seed("damage_is_mended"));
    let mut ground = Ground::new(|master| change(master, &mut Rng::new(2)));
    let mut sessions = Vec::new();
    for _ in 0..3 {
        change(&ground.world.master(), &mut rng);
        let id = ground.backup();
        sessions.push((id, walk(&ground.world.master())));
    }
    for round in 0..size(6, 30) {
        ground.world.stop();
        let files = std::fs::read_dir(ground.world.path("data/projections/catalog")).unwrap();
        let files: Vec<PathBuf> =
            files.map(|file| file.unwrap().path()).filter(|path| is_long(path)).collect();
        let file = rng.pick(&files).unwrap();
        let mut bytes = std::fs::read(file).unwrap();
        match round % 3 {
            0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
            1 => bytes.clear(),
            _ => {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        std::fs::write(file, bytes).unwrap();
        ground.world.start();
        let found = ground.query("*").0;
        let held = found.iter().filter(|one| one["source"] != "journal");
        let paths: BTreeSet<String> = held.map(path_of).collect();
        let expected: BTreeSet<String> = sessions.iter().flat_map(|(_, walk)| walk.keys().cloned()).collect();
        assert_eq!(paths, expected, "round {round}: {}", file.display());
        ground.catalogued();
        compare(&ground, &sessions, "after damage");
    }
}

fn is_long(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}

/// A repository that restic wrote: everything in it is found, and what restic forgets is forgotten.
#[test]
fn what_restic_wrote_is_found() {
    let mut ground = Ground::new(|_| {});
    let theirs = ground.world.path("theirs");
    let source = ground.world.path("source");
    std::fs::create_dir_all(source.join("a/b")).unwrap();
    std::fs::write(source.join("a/b/one.txt"), "1").unwrap();
    if ground.restic(&theirs, &["init"]).is_none() {
        return;
    }
    let from = source.to_str().unwrap();
    ground.restic(&theirs, &["backup", from]);
    std::fs::write(source.join("a/two.txt"), "22").unwrap();
    std::fs::remove_file(source.join("a/b/one.txt")).unwrap();
    ground.restic(&theirs, &["backup", from]);
    ground.restic(&theirs, &["backup", from, ground.password.to_str().unwrap()]);
    ground.world.ok(&ground.add("theirs", &theirs));
    let report = ground.world.ok("catalog rebuild --repository theirs");
    assert_eq!((&report["sessions"], &report["state"]), (&3.into(), &"done".into()), "{report}");
    let (found, complete) = ground.query("*.txt");
    assert!(complete);
    let told: BTreeSet<(String, u64)> =
        found.iter().map(|one| (path_of(one), one["sessions"].as_u64().unwrap())).collect();
    // The third has other paths: it is another entity, with a row of its own.
    let path = |name: &str| format!("{from}/{name}");
    assert_eq!(told, BTreeSet::from([(path("a/b/one.txt"), 1), (path("a/two.txt"), 1)]), "{found:?}");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|one| one["scenario"].is_null() && one["master"].is_string()), "{found:?}");
    let listed = ground.restic(&theirs, &["ls", "--json", "latest"]).unwrap();
    let listed = listed.lines().skip(1).map(|line| path_of(&serde_json::from_str(line).unwrap()));
    let third = ground.query("*password").0;
    let last = third[0]["last_session"].as_str().unwrap();
    let ours: BTreeSet<String> = ground.paths(&format!("* --session {last}")).into_iter().collect();
    assert_eq!(ours, listed.collect(), "what restic lists of the last one");
    let versions = ground.world.list(&format!("catalog versions {}", path("a/b/one.txt")));
    assert_eq!((versions.len(), &versions[0]["change"]), (1, &Value::from("stored")), "{versions:?}");
    ground.restic(&theirs, &["forget", "--keep-last", "1", "--group-by", "host"]);
    // The next start notices by itself, and so does a rebuild of that repository.
    ground.world.stop();
    ground.world.start();
    let until = Instant::now() + Duration::from_secs(60);
    while !ground.paths("one.txt").is_empty() {
        assert!(Instant::now() < until, "what restic forgot is still found\n{}", ground.world.log_end());
        std::thread::sleep(Duration::from_millis(20));
    }
    ground.restic(&theirs, &["backup", from]);
    let report = ground.world.ok("catalog rebuild --repository theirs");
    assert_eq!(report["sessions"], 2, "{report}");
    assert_eq!(ground.query("two.txt").0.len(), 2);
}

/// A new daemon finds in a repository what the old one made, whose DIR is gone.
#[test]
fn a_daemon_that_lost_everything() {
    let old = Ground::new(|master| std::fs::write(master.join("kept.txt"), "123").unwrap());
    let id = old.backup();
    let new = Ground::new(|_| {});
    new.world.ok(&new.add("rescued", &old.repository));
    new.world.ok("catalog rebuild");
    let (found, complete) = new.query("kept.txt");
    assert!(complete && found.len() == 1, "{found:?}");
    assert_eq!((&found[0]["scenario"], &found[0]["last_session"]), (&"docs".into(), &id.as_str().into()));
    assert_eq!(found[0]["path"], old.world.master().join("kept.txt").to_str().unwrap());
}

#[test]
fn what_is_refused() {
    let ground = Ground::new(|master| std::fs::write(master.join("a"), "1").unwrap());
    let world = &ground.world;
    world.refused("catalog query nothing-has-this", 4, "RW1091");
    world.refused("catalog query [", 2, "RW1090");
    world.refused("catalog query --regex (", 2, "RW1090");
    world.refused(&format!("catalog query {}", "*".repeat(5000)), 2, "RW1090");
    world.refused("catalog query a --size ten", 2, "RW0468");
    world.refused("catalog query a --since yesterday", 2, "RW1007");
    world.refused("catalog query a --scenario nothing", 4, "RW1002");
    world.refused("catalog query a --session 0123", 4, "RW1070");
    world.refused("catalog query a --session nohex", 4, "RW1070");
    world.refused("catalog versions a", 2, "RW0468");
    world.refused("catalog versions /a/../b", 2, "RW0468");
    world.refused("catalog versions /not/protected", 4, "RW1032");
    world.refused("catalog versions /a --scenario nothing", 4, "RW1002");
    world.refused("catalog tree /not/protected", 4, "RW1032");
    let line = format!("catalog tree {} --at bookmark:none", world.master().display());
    world.refused(&line, 4, "RW1004");
    world.refused("catalog rebuild --repository nowhere", 4, "RW1050");
}

/// An answer in pages of one is the answer, through all its stretches, and its tokens are checked.
#[test]
fn pages_go_on_where_the_last_ended() {
    let mut ground = Ground::new(|master| {
        (0..7).for_each(|number| std::fs::write(master.join(format!("f{number}")), "1").unwrap());
    });
    ground.backup();
    std::fs::write(ground.world.master().join("f-window"), "1").unwrap();
    std::fs::write(ground.world.master().join("f-window-too"), "1").unwrap();
    ground.world.flush();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |ground: &Ground, limit: u64, token: bytes::Bytes| {
        let endpoint: wire::Endpoint = ground.world.endpoint().parse().unwrap();
        runtime.block_on(async {
            let mut client = wire::Client::connect(&endpoint, &wire::TlsFiles::default()).await.unwrap();
            let pattern = "f*".to_owned();
            let request =
                wire::v1::CatalogQueryRequest { pattern, limit, page_token: token, ..Default::default() };
            let mut stream = client.catalog.query(request).await?.into_inner();
            let (mut paths, mut next) = (Vec::new(), bytes::Bytes::new());
            while let Some(part) = stream.message().await? {
                match part.part.unwrap() {
                    wire::v1::catalog_part::Part::Entry(entry) => {
                        paths.push((entry.path, entry.sessions, entry.source));
                    }
                    wire::v1::catalog_part::Part::End(end) => next = end.next_page_token,
                    wire::v1::catalog_part::Part::NotCatalogued(_) => {}
                }
            }
            Ok::<_, tonic::Status>((paths, next))
        })
    };
    let pages = |ground: &Ground| {
        let (mut all, mut token) = (Vec::new(), bytes::Bytes::new());
        for _ in 0..100 {
            let (paths, next) = ask(ground, 1, token).unwrap();
            assert!(paths.len() <= 1, "{paths:?}");
            all.extend(paths);
            token = next;
            if token.is_empty() {
                return all;
            }
        }
        panic!("the pages do not end: {all:?}");
    };
    let (whole, next) = ask(&ground, 0, bytes::Bytes::new()).unwrap();
    assert_eq!((whole.len(), next.len()), (9, 0), "{whole:?}");
    assert_eq!(pages(&ground), whole);
    let bad = ask(&ground, 1, bytes::Bytes::from_static(b"\x09what")).unwrap_err();
    assert_eq!(bad.code(), tonic::Code::InvalidArgument);
    // Out of the repository: the catalog's place is taken by a file, so it cannot be opened.
    ground.world.stop();
    let place = ground.world.path("data/projections/catalog");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::write(&place, "in the way").unwrap();
    ground.world.start();
    ground.world.wait_replicating();
    let (whole, next) = ask(&ground, 0, bytes::Bytes::new()).unwrap();
    let from = |source: wire::v1::CatalogSource| whole.iter().filter(|one| one.2 == source as i32).count();
    assert_eq!((from(wire::v1::CatalogSource::Repository), next.len()), (7, 0), "{whole:?}");
    assert_eq!(whole.len(), 9, "what a session holds is not told of the window: {whole:?}");
    assert_eq!(pages(&ground), whole);
    assert!(!ground.query("f*").1, "it is said");
    // Somebody clears the place: it comes back without a restart.
    std::fs::remove_file(&place).unwrap();
    ground.world.ok("catalog rebuild");
    assert!(ground.query("f*").1);
}

/// A session that cannot be read is reported and named; the others are found all the same.
#[test]
fn a_session_that_cannot_be_read_is_said() {
    let ground = Ground::new(|master| std::fs::write(master.join("one"), "1").unwrap());
    let first = ground.backup();
    std::fs::write(ground.world.master().join("two"), "2").unwrap();
    let second = ground.backup();
    let record = ground.repository.join("snapshots").join(&first);
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[40] ^= 1;
    std::fs::remove_file(&record).unwrap();
    std::fs::write(&record, bytes).unwrap();
    let ran = ground.world.ctl("catalog rebuild");
    let report = &ran.objects()[0];
    assert_eq!(
        (ran.exit, &report["state"], &report["sessions"]),
        (3, &"incomplete".into(), &1.into()),
        "{ran:?}"
    );
    assert_eq!(report["failed"][0]["path"], first.as_str(), "{ran:?}");
    let ran = ground.world.ctl("catalog query two");
    assert_eq!(ran.objects()[0]["last_session"], second.as_str(), "{ran:?}");
    assert!(ran.stderr.contains(&first[..8]) && ran.stderr.contains("cannot be read"), "{ran:?}");
    let ran = ground.world.ctl(&format!("catalog tree --session {first}"));
    assert_eq!((ran.exit, ran.code().as_str()), (8, "RW1058"), "{ran:?}");
}

#[test]
fn what_is_forgotten_leaves_the_catalog() {
    let ground = Ground::new(|master| std::fs::write(master.join("kept"), "text").unwrap());
    ground.backup();
    std::fs::write(ground.world.master().join("other"), "text").unwrap();
    ground.backup();
    let sessions = || ground.query("kept").0.iter().find_map(|row| row["sessions"].as_u64());
    assert_eq!(sessions(), Some(2));
    ground.world.ok("repository forget offsite --keep-last 1 --yes");
    let until = Instant::now() + Duration::from_secs(60);
    while sessions() != Some(1) {
        assert!(Instant::now() < until, "{:?}\n{}", ground.query("kept"), ground.world.log_end());
        std::thread::sleep(Duration::from_millis(50));
    }
}
