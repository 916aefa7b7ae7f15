//! Looking after repositories as a person does: what is forgotten goes, what is kept stays, whatever happens meanwhile;
//! damage is found and named; locks are respected.

use serde_json::Value;
use snapshot::repository::lock::{self, LockRecord};
use snapshot::repository::{LockOptions, ObjectKind, Purpose, Repository, Timestamp};
use snapshot::store::DirectoryStore;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tests::compare::assert_same;
use tests::daemon::{World, seed, size};
use tests::restic::Restic;
use tests::rng::Rng;

/// A world with a tree, replicating, and a repository called `offsite`.
struct Ground {
    world: World,
    repository: PathBuf,
    password: PathBuf,
    rng: Rng,
}

impl Ground {
    fn new(seed: u64) -> Ground {
        let world = World::new();
        std::fs::create_dir(world.master().join("d")).unwrap();
        let (repository, password) = (world.path("repository"), world.path("password"));
        std::fs::write(&password, "correct horse\n").unwrap();
        tests::repository::make(&repository, &password);
        let mut ground = Ground { world, repository, password, rng: Rng::new(seed) };
        (0..20).for_each(|_| ground.edit());
        ground.world.protect();
        let line = ground.add_line("offsite", &ground.repository);
        ground.world.ok(&line);
        ground
    }

    fn add_line(&self, name: &str, repository: &Path) -> String {
        format!(
            "repository add {name} file://{} --password-file {}",
            repository.display(),
            self.password.display()
        )
    }

    /// Writes, appends or removes a file of a few.
    fn edit(&mut self) {
        let name = format!("d/{:02}", self.rng.below(30));
        let path = self.world.master().join(name);
        let length = self.rng.below(200_000) as usize;
        let bytes: Vec<u8> = std::iter::repeat_with(|| self.rng.below(256) as u8).take(length).collect();
        match self.rng.below(5) {
            0 => drop(std::fs::remove_file(path)),
            1 if path.exists() => {
                let mut all = std::fs::read(&path).unwrap();
                all.extend_from_slice(&bytes[..length.min(1000)]);
                std::fs::write(path, all).unwrap();
            }
            _ => std::fs::write(path, bytes).unwrap(),
        }
    }

    /// A copy of the master, and the session that has to be equal to it.
    fn backup(&self, name: &str) -> (String, PathBuf) {
        self.world.flush();
        let copy = self.world.path(name);
        let status = Command::new("cp").arg("-a").arg(self.world.master()).arg(&copy).status().unwrap();
        assert!(status.success());
        let report = self.world.ok("backup docs --to offsite");
        (report["sessions"][0]["id"].as_str().unwrap().to_owned(), copy)
    }

    /// Runs restic on the repository. `None` where there is no restic.
    fn restic(&self, arguments: &[&str]) -> Option<String> {
        Restic::new(&self.repository, &self.password).run(arguments)
    }

    /// restic finds no fault, and restores of each session what it has to hold.
    fn restic_agrees(&self, sessions: &BTreeMap<String, PathBuf>) {
        if self.restic(&["check", "--read-data"]).is_none() {
            return;
        }
        for (id, copy) in sessions {
            let into = self.world.path(&format!("restic-{}", &id[..8]));
            self.restic(&["restore", id, "--target", into.to_str().unwrap()]);
            assert_same(copy, &into.join(self.world.master().strip_prefix("/").unwrap()), id);
            std::fs::remove_dir_all(into).unwrap();
        }
    }

    fn listed(&self) -> Vec<String> {
        let list = self.world.list("session list --repository offsite");
        list.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    fn open(&self) -> Arc<Repository> {
        let store = Arc::new(DirectoryStore::open(&self.repository).unwrap());
        Arc::new(Repository::open(store, &"correct horse".to_owned().into()).unwrap())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn forget_and_prune() {
    let mut ground = Ground::new(seed("forget_and_prune"));
    let mut sessions = BTreeMap::new();
    let mut order = Vec::new();
    for number in 0..4 {
        let (id, copy) = ground.backup(&format!("copy-{number}"));
        order.push(id.clone());
        sessions.insert(id, copy);
        (0..8).for_each(|_| ground.edit());
    }
    let world = &ground.world;
    world.refused("repository forget offsite --yes", 2, "RW1081");
    world.refused("repository forget nowhere --keep-last 1 --yes", 4, "RW1050");
    let plan = world.ok("repository forget offsite --keep-last 2 --dry-run");
    assert_eq!((&plan["keep"], &plan["forget"]), (&2.into(), &2.into()), "{plan}");
    assert_eq!(plan["sessions"][0]["reasons"][0], "last", "{plan}");
    world.refused("repository forget offsite --keep-last 2", 2, "RW1026");
    world.refused("repository prune offsite", 2, "RW1026");
    assert_eq!(ground.listed().len(), 4, "nothing was agreed to");
    // Others' sessions are nobody's business.
    let report = world.ok("repository forget offsite --keep-last 1 --scenario other --yes");
    assert_eq!(report["forgotten"], Value::Array(vec![]), "{report}");
    let report = world.ok("repository forget offsite --keep-last 2 --yes");
    assert_eq!(report["state"], "done", "{report}");
    let forgotten: Vec<&str> =
        report["forgotten"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    assert_eq!(forgotten.len(), 2);
    for id in &order[..2] {
        assert!(forgotten.contains(&id.as_str()));
        sessions.remove(id);
    }
    assert_eq!(ground.listed(), [order[3].clone(), order[2].clone()]);
    let stats = world.ok("repository stats offsite");
    assert_eq!(stats["sessions"], 2, "{stats}");
    assert!(stats["bytes_unused"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!((&stats["last_check"], &stats["locks"]), (&Value::Null, &Value::Array(vec![])), "{stats}");
    let plan = world.ok("repository prune offsite --dry-run");
    assert_eq!(plan["dry_run"], true);
    assert!(
        plan["mark"]["packs"].as_u64().unwrap() + plan["repack"]["packs"].as_u64().unwrap() > 0,
        "{plan}"
    );
    // Marked, and nothing gone.
    let packs = files(&ground.repository.join("data"));
    let report = world.ok("repository prune offsite --yes --max-unused 0%");
    assert_eq!(report["removed"]["packs"], 0, "{report}");
    let later = files(&ground.repository.join("data"));
    assert!(packs.iter().all(|pack| later.contains(pack)));
    ground.restic_agrees(&sessions);
    let report = world.ok("repository prune offsite --yes --grace 0s");
    assert!(report["removed"]["packs"].as_u64().unwrap() > 0, "{report}");
    let stats = world.ok("repository stats offsite");
    assert_eq!((&stats["bytes_unused"], &stats["packs_waiting"]), (&0.into(), &0.into()), "{stats}");
    let report = world.ok("repository check offsite --read-data");
    assert_eq!((&report["damage_count"], &report["packs_read"]), (&0.into(), &report["packs"]), "{report}");
    let stats = world.ok("repository stats offsite");
    assert_eq!(stats["packs_verified"], stats["packs"], "{stats}");
    assert!(stats["last_check"].is_string() && stats["oldest_verification"].is_string(), "{stats}");
    ground.restic_agrees(&sessions);
    // All that is remembered after a restart too, and the next backup goes on from what is kept.
    ground.world.stop();
    ground.world.start();
    ground.world.wait_replicating();
    assert_eq!(ground.listed(), [order[3].clone(), order[2].clone()]);
    let (id, copy) = ground.backup("copy-last");
    sessions.insert(id, copy);
    let sessions_now = ground.world.list("session list");
    assert_eq!(sessions_now[0]["incremental"], true);
    ground.restic_agrees(&sessions);
}

/// What another program forgot is forgotten here too, once somebody looks.
#[test]
fn forgotten_by_others() {
    let ground = Ground::new(seed("forgotten_by_others"));
    let (first, _) = ground.backup("one");
    let (second, _) = ground.backup("two");
    if ground.restic(&["forget", &first]).is_none() {
        return;
    }
    ground.world.ok("repository check offsite");
    assert_eq!(ground.listed(), [second]);
}

/// Backups, forgets and prunes at the same time: what is kept can be restored, by another program.
#[test]
fn all_at_once() {
    let mut ground = Ground::new(seed("all_at_once"));
    let mut sessions: BTreeMap<String, PathBuf> = BTreeMap::new();
    for step in 0..size(6, 40) {
        let edits = 1 + ground.rng.below(10);
        (0..edits).for_each(|_| ground.edit());
        let forgets = ground.rng.below(3) == 0;
        let (grace, keep) = (["0s", "1h"][ground.rng.below(2) as usize], 2 + ground.rng.below(2));
        let made = std::thread::scope(|scope| {
            let world = &ground.world;
            let other = scope.spawn(move || {
                if forgets {
                    let line = format!("repository forget offsite --keep-last {keep} --yes");
                    let ran = world.ctl(&line);
                    assert!(ran.exit == 0 || ran.code() == "RW1057", "{ran:?}");
                }
                // A forget of ours may be in its way for a moment.
                let ran =
                    world.ctl(&format!("-q repository prune offsite --yes --max-unused 0% --grace {grace}"));
                assert!(ran.exit == 0 || ran.code() == "RW1057", "{ran:?}");
            });
            let made = ground.backup(&format!("copy-{step}"));
            other.join().unwrap();
            made
        });
        sessions.insert(made.0, made.1);
        let listed = ground.listed();
        sessions.retain(|id, _| listed.contains(id));
        assert_eq!(sessions.len(), listed.len());
        assert!(sessions.len() >= 2 || step == 0);
    }
    ground.restic_agrees(&sessions);
    assert_eq!(ground.world.ok("repository check offsite --read-data=100%")["damage_count"], 0);
}

/// The daemon dies in the middle of prunes: the job goes on after the restart, and nothing is lost.
#[test]
fn killed_in_the_middle() {
    let mut ground = Ground::new(seed("killed_in_the_middle"));
    let mut sessions: BTreeMap<String, PathBuf> = BTreeMap::new();
    for step in 0..size(5, 30) {
        (0..12).for_each(|_| ground.edit());
        let (id, copy) = ground.backup(&format!("copy-{step}"));
        sessions.insert(id, copy);
        ground.world.ok("repository forget offsite --keep-last 2 --yes");
        let listed = ground.listed();
        sessions.retain(|id, _| listed.contains(id));
        let line = "-q repository prune offsite --yes --max-unused 0% --grace 0s --detach";
        let job = ground.world.ok(line)["job"].as_str().unwrap().to_owned();
        std::thread::sleep(Duration::from_millis(ground.rng.below(120)));
        ground.world.kill();
        ground.world.start();
        ground.world.wait_replicating();
        // Its own lock of the life before is stale, since that process is gone.
        let report = ground.world.ok(&format!("job wait {job}"));
        assert_eq!(report["state"], "done", "{report}");
        assert_eq!(ground.world.ok("repository check offsite --read-data")["damage_count"], 0);
    }
    ground.restic_agrees(&sessions);
}

/// Damage of every kind is found, named, and ends with status 8.
#[test]
fn damage_is_named() {
    let ground = Ground::new(seed("damage_is_named"));
    ground.backup("copy");
    for directory in ["data", "index", "snapshots"] {
        let path = files(&ground.repository.join(directory)).remove(0);
        let whole = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(&ground.repository).unwrap().to_str().unwrap().to_owned();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        let mut damages = vec![flipped, whole[..whole.len() - 1].to_vec(), Vec::new()];
        for bytes in damages.drain(..) {
            std::fs::write(&path, &bytes).unwrap();
            let ran = ground.world.ctl("repository check offsite --read-data");
            assert_eq!(ran.exit, 8, "{name}: {ran:?}");
            let report = &ran.objects()[0];
            let damage = report["damage"].as_array().unwrap();
            assert!(damage.iter().any(|one| one["object"] == name.as_str()), "{name}: {report}");
        }
        std::fs::write(&path, &whole).unwrap();
        if directory == "data" {
            std::fs::remove_file(&path).unwrap();
            let ran = ground.world.ctl("repository check offsite");
            assert_eq!(ran.exit, 8, "{ran:?}");
            assert!(ran.stdout.contains(&name), "{ran:?}");
            // A prune of what is damaged removes nothing.
            ground.world.refused("-q repository prune offsite --yes --grace 0s", 8, "RW1058");
            std::fs::write(&path, &whole).unwrap();
        }
    }
    assert_eq!(ground.world.ok("repository check offsite --read-data")["damage_count"], 0);
    let part = ground.world.ok("repository check offsite --read-data=1%");
    assert!(part["packs_read"].as_u64().unwrap() >= 1, "{part}");
    ground.world.refused("repository check offsite --read-data=101%", 2, "RW1028");
    ground.world.refused("repository check nowhere", 4, "RW1050");
}

/// Who works alone keeps us out; what nobody holds any more is taken away.
#[test]
fn locks() {
    let ground = Ground::new(seed("locks"));
    let (_, _) = ground.backup("copy");
    let repository = ground.open();
    let now = Timestamp::now();
    let foreign = |exclusive, time, hostname: &str| LockRecord {
        time,
        exclusive,
        hostname: hostname.into(),
        username: "somebody".into(),
        pid: 1,
        uid: 5,
        gid: 5,
        purpose: None,
        word: None,
        since: None,
    };
    let put = |record: &LockRecord| {
        repository.save_unpacked(ObjectKind::Lock, &serde_json::to_vec(record).unwrap()).unwrap()
    };
    let world = &ground.world;
    let alone = put(&foreign(true, now, "elsewhere"));
    for line in [
        "repository forget offsite --keep-last 1 --yes",
        "repository prune offsite --yes",
        "repository check offsite",
        "backup docs --to offsite",
        "repository stats offsite",
    ] {
        let ran = world.ctl(line);
        assert_eq!((ran.exit, ran.code().as_str()), (5, "RW1057"), "{ran:?}");
    }
    let report = world.ok("repository unlock offsite");
    assert_eq!(report["removed"], 0, "{report}");
    assert!(report["left"][0].as_str().unwrap().contains("elsewhere"), "{report}");
    repository.store().delete(&ObjectKind::Lock.name(&alone)).unwrap();
    // A foreign reader keeps out who removes, and nobody else.
    let reader = put(&foreign(false, now, "elsewhere"));
    world.ok("repository check offsite");
    world.ok("backup docs --to offsite");
    world.refused("-q repository prune offsite --yes", 5, "RW1057");
    world.refused("-q repository forget offsite --keep-last 1 --yes", 5, "RW1057");
    let locks = world.ok("repository stats offsite")["locks"].clone();
    assert_eq!(locks.as_array().unwrap().len(), 1, "{locks}");
    repository.store().delete(&ObjectKind::Lock.name(&reader)).unwrap();
    // Too old.
    put(&foreign(true, Timestamp { seconds: now.seconds - 3600, ..now }, "elsewhere"));
    assert_eq!(world.ok("repository unlock offsite")["removed"], 1);
    // Ours: a backup elsewhere does not keep a prune out.
    let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
    let held = lock::acquire(&repository, Purpose::Backup, options).unwrap();
    world.ok("-q repository prune offsite --yes");
    world.ok("-q repository forget offsite --keep-last 1 --yes");
    world.refused("-q repository prune nowhere --yes", 4, "RW1050");
    drop(held);
    put(&foreign(true, now, "elsewhere"));
    assert_eq!(world.ok("repository unlock offsite --all")["removed"], 1);
    world.ok("-q repository prune offsite --yes");
}

/// A version that nobody knows yet, and a directory that is not a place of its own.
#[test]
fn places_and_versions() {
    let ground = Ground::new(seed("places_and_versions"));
    let world = &ground.world;
    for path in [
        world.master(),
        world.master().join("d/repository"),
        world.replica().join("repository"),
        world.path(""),
        world.path("data/repository"),
    ] {
        let line = ground.add_line("inside", &path);
        world.refused(&line, 5, "RW1080");
    }
    std::os::unix::fs::symlink(world.master(), world.path("link")).unwrap();
    let line = ground.add_line("inside", &world.path("link/repository"));
    world.refused(&line, 5, "RW1080");
    assert!(!world.master().join("repository").exists());
    std::fs::create_dir(world.path("other")).unwrap();
    let into = ground.repository.join("replica");
    let line = format!("scenario create over --root {}={}", world.path("other").display(), into.display());
    world.refused(&line, 5, "RW1080");
    let line = format!(
        "scenario create over --root {}={}",
        ground.repository.display(),
        world.path("r/o").display()
    );
    world.refused(&line, 5, "RW1080");
    assert_eq!(world.list("scenario list").len(), 1);
    let repository = ground.open();
    let config =
        format!(r#"{{"version":3,"id":"{}","chunker_polynomial":"3da3358b4dc173"}}"#, "ab".repeat(32));
    let sealed = repository.seal_key().seal(config.as_bytes()).unwrap();
    std::fs::write(ground.repository.join("config"), sealed).unwrap();
    let line = ground.add_line("offsite", &ground.repository);
    world.refused(&line, 1, "RW1059");
}
