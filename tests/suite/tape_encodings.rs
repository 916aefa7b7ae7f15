//! Are sessions on tape that are compressed or encrypted sessions like others: backed up over several volumes, listed, restored,
//! verified, known again from the volumes alone, rescued; does nothing stand on an encrypted volume that should not; do
//! `tar`, `age` and `zstd` alone restore them; and is a password that is missing or wrong said?

use crate::backups::{Ground, noise};
use crate::restores::landed;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::compare::{Options, assert_same, compare};
use tests::daemon::World;

const WITHIN: Duration = Duration::from_secs(60);
/// Stands in a file, and its beginning in the name of one.
const SECRET: &[u8] = b"payroll-of-nobody: do not let this be read";

struct Tape {
    ground: Ground,
    place: PathBuf,
    /// What is added to `repository add`.
    how: String,
}

/// A fresh key in a file, by the program itself.
fn key_file(world: &World, name: &str) -> PathBuf {
    let path = world.path(name);
    let made = Command::new("age-keygen").arg("-o").arg(&path).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with('#'), "a comment comes first");
    path
}

impl Tape {
    fn new(how: impl FnOnce(&World) -> String) -> Tape {
        let ground = Ground::new();
        let master = ground.world.master();
        std::fs::write(master.join("noise"), noise(3_000_000, 7)).unwrap();
        std::fs::write(master.join("payroll-of-nobody"), SECRET.repeat(5)).unwrap();
        let how = how(&ground.world);
        let tape = Tape { place: ground.world.path("tapes"), ground, how };
        for media in ["one", "two", "three", "four"] {
            tape.label(media, "1500KiB");
        }
        tape.world().ok(&format!("tape eject {}", tape.url()));
        tape
    }

    fn world(&self) -> &World {
        &self.ground.world
    }

    fn url(&self) -> String {
        format!("tape://{}", self.place.display())
    }

    fn add(&self) -> String {
        format!("repository add tape {} {}", self.url(), self.how)
    }

    fn label(&self, media: &str, capacity: &str) {
        let url = self.url();
        self.world().ok(&format!("tape label {url} --media {media} --capacity {capacity} --block 16KiB"));
    }

    fn backup(&self) -> Value {
        self.world().flush();
        let report = self.world().ok("backup docs --to tape");
        assert_eq!(report["state"], "done", "{report}");
        report["sessions"][0].clone()
    }

    /// What is known of the first tape file of the first volume that has one.
    fn first_file(&self) -> Value {
        let volumes = self.world().list(&format!("tape inventory {}", self.url()));
        volumes[0]["files"][0].clone()
    }

    fn rescue(&self, words: &str, name: &str) -> tests::daemon::Ran {
        let onto = self.world().path("rescued").join(name);
        std::fs::create_dir_all(onto.parent().unwrap()).unwrap();
        let line =
            format!("--endpoint unix:/nowhere rescue {} {words} --onto {}", self.url(), onto.display());
        self.world().ctl(&line)
    }

    fn rescued(&self, words: &str, name: &str) -> PathBuf {
        let ran = self.rescue(words, name);
        assert_eq!(ran.exit, 0, "{ran:?}");
        landed(&self.world().path("rescued").join(name), &self.world().master())
    }
}

fn restored(world: &World, master: &Path, words: &str, name: &str) -> PathBuf {
    let onto = world.path("onto").join(name);
    let report = world.ok(&format!("restore {words} --onto {} --verify", onto.display()));
    assert_eq!((&report["state"], &report["verified"]), (&"done".into(), &true.into()), "{report}");
    landed(&onto, master)
}

fn wait_listed(world: &World, id: &str) -> Vec<Value> {
    let until = Instant::now() + WITHIN;
    loop {
        let ran = world.ctl(&format!("session files {id}"));
        if ran.exit == 0 {
            return ran.objects();
        }
        assert!(Instant::now() < until, "{ran:?}\n{}", world.log_end());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All files below the volumes of a drive.
fn files_below(place: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// How often words stand in clear on the volumes.
fn in_clear(place: &Path, words: &[u8]) -> usize {
    let hits = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(words.len()).filter(|window| *window == words).count()
    };
    files_below(place).iter().map(hits).sum()
}

/// The whole life of a session in one encoding.
fn lives(tape: &mut Tape, compression: &str, encryption: &str) -> Value {
    let added = tape.world().ok(&tape.add());
    assert_eq!((&added["compression"], &added["encryption"]), (&compression.into(), &encryption.into()));
    assert_eq!(tape.world().list("repository list").last().unwrap()["encryption"], encryption);
    let session = tape.backup();
    let id = session["id"].as_str().unwrap().to_owned();
    let (world, master) = (tape.world(), tape.world().master());
    assert_eq!(session["media"], serde_json::json!(["one", "two", "three"]), "{session}");
    let file = tape.first_file();
    assert_eq!((&file["session"], &file["compression"]), (&session["id"], &compression.into()), "{file}");
    assert_eq!(file["encryption"], encryption, "{file}");
    let files = world.list(&format!("session files {id}"));
    assert_eq!(world.list("catalog query payroll*")[0]["last_session"], session["id"]);
    assert_same(&master, &restored(world, &master, &format!("session {id}"), "session"), "the session");
    assert_eq!(world.ok(&format!("session verify {id}"))["state"], "done");
    assert_eq!(world.ok("repository check tape --read-data")["state"], "done");
    for secret in [b"payroll-of-nobody".as_slice(), b"file-03", SECRET, master.as_os_str().as_encoded_bytes()]
    {
        if encryption != "none" {
            assert_eq!(in_clear(&tape.place, secret), 0, "{}", secret.escape_ascii());
        }
    }
    tape.ground.world.stop();
    std::fs::remove_dir_all(tape.world().path("data/projections")).unwrap();
    tape.ground.world.start();
    assert_eq!(wait_listed(tape.world(), &id), files);
    let again = restored(tape.world(), &master, &format!("session {id}"), "again");
    assert_same(&master, &again, "without projections");
    session
}

/// Restores with standard programs alone.
fn by_hand(tape: &Tape, session: &Value, through: &str) {
    let world = tape.world();
    let shown = world.ok(&format!("session show {}", session["id"].as_str().unwrap()));
    let parts = shown["tape"]["parts"].as_array().unwrap().iter().map(|part| {
        let name = format!("{:06}.tar", part["file"].as_u64().unwrap());
        format!("-f {}", tape.place.join(part["media"].as_str().unwrap()).join(name).display())
    });
    let parts = parts.collect::<Vec<_>>().join(" ");
    let onto = world.path("by-hand");
    std::fs::create_dir(&onto).unwrap();
    let line = format!(
        "set -o pipefail; tar -xMO -b 32 --wildcards {parts} '.rewind/*/data-*' {through} \
         | tar --numeric-owner --xattrs --xattrs-include='*' -xpf - -C {}",
        onto.display()
    );
    let ran = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert!(ran.status.success(), "{line}: {ran:?}");
    let restored = onto.join(world.master().strip_prefix("/").unwrap());
    let report = compare(&world.master(), &restored, &Options::default()).unwrap();
    assert!(report.is_equal(), "{report}");
}

#[test]
fn compressed_sessions_are_sessions() {
    let mut tape = Tape::new(|_| "--compression zstd".to_owned());
    let session = lives(&mut tape, "zstd", "none");
    by_hand(&tape, &session, "| zstd -dc");
    let id = session["id"].as_str().unwrap();
    assert_same(&tape.world().master(), &tape.rescued("latest", "latest"), "rescued");
    // A damaged piece: what lies in it is named, and nothing is restored.
    let path = tape.place.join("two/000001.tar");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 4;
    std::fs::write(&path, damaged).unwrap();
    let onto = tape.world().path("refused");
    let ran = tape.world().refused(&format!("restore session {id} --onto {}", onto.display()), 8, "RW1129");
    assert!(ran.stdout.contains("noise") && !onto.exists(), "{ran:?}");
    // Elsewhere it is no choice.
    let world = tape.world();
    let file = format!("repository add other file://{} --compression zstd", world.path("other").display());
    let password = world.path("p");
    std::fs::write(&password, "secret\n").unwrap();
    world.refused(&format!("{file} --password-file {}", password.display()), 2, "RW1009");
}

#[test]
fn encrypted_sessions_are_sessions() {
    let mut tape = Tape::new(|world| {
        let key = key_file(world, "key");
        format!("--compression zstd --password-file {}", key.display())
    });
    let session = lives(&mut tape, "zstd", "age");
    let id = session["id"].as_str().unwrap().to_owned();
    let key = tape.world().path("key");
    by_hand(&tape, &session, &format!("| age -d -i {} | zstd -dc", key.display()));
    let master = tape.world().master();
    // With the key a rescue needs nothing else; without, or with another, it says what it wants.
    let other = key_file(tape.world(), "other-key");
    let with = |key: &Path| format!("--password-file {}", key.display());
    assert_same(&master, &tape.rescued(&format!("latest {}", with(&key)), "latest"), "the latest");
    assert_same(&master, &tape.rescued(&format!("{} {}", &id[..10], with(&key)), "by-id"), "by id");
    for words in ["latest", &id] {
        for (with, code, exit) in [(String::new(), "RW1132", 5), (with(&other), "RW1133", 6)] {
            let ran = tape.rescue(&format!("{words} {with}"), "refused");
            assert_eq!((ran.exit, ran.code().as_str()), (exit, code), "{words} {with}: {ran:?}");
            assert!(!tape.world().path("rescued/refused").exists());
        }
    }
    // The settings stay.
    let add = |how: &str| format!("repository add tape {} {how}", tape.url());
    assert_eq!(tape.world().ok(&add(""))["encryption"], "age");
    tape.world().refused(&add("--compression none"), 5, "RW1134");
    tape.world().refused(&add(&with(&other)), 6, "RW1133");
    // A later session is the latest, of the roots that are known from inside alone.
    tape.label("five", "64MiB");
    std::fs::write(master.join("later"), "x").unwrap();
    let second = tape.backup();
    tape.ground.world.stop();
    assert_same(&master, &tape.rescued(&format!("latest {}", with(&key)), "later"), "the later");
    // Another machine, without the password at first, then with a wrong one.
    let machine = World::new();
    machine.ok(&format!("repository add tape {}", tape.url()));
    let ran = machine.ctl("catalog rebuild --repository tape");
    assert!(ran.exit != 0 || !machine.log_end().is_empty(), "{ran:?}");
    assert_eq!(machine.list("session list").len(), 0);
    machine.refused(&format!("repository add tape {} {}", tape.url(), with(&other)), 6, "RW1133");
    machine.ok(&format!("repository add tape {} {}", tape.url(), with(&key)));
    let second = second["id"].as_str().unwrap();
    wait_listed(&machine, second);
    wait_listed(&machine, &id);
    assert_eq!(machine.list("session list").len(), 2);
    let at = restored(&machine, &master, &format!("session {second}"), "machine");
    assert_same(&master, &at, "on another machine");
}

#[test]
fn copies_are_encoded_as_the_repository_has_it_and_volumes_may_hold_both() {
    let tape = Tape::new(|world| {
        let file = world.path("passphrase");
        std::fs::write(&file, "correct horse\n").unwrap();
        format!("--password-file {}", file.display())
    });
    let world = tape.world();
    tape.label("large", "256MiB");
    let added = world.ok(&tape.add());
    assert_eq!((&added["compression"], &added["encryption"]), (&"none".into(), &"age".into()), "{added}");
    let (_, session) = tape.ground.backup();
    let id = session["id"].as_str().unwrap();
    let first = world.ok(&format!("session copy {id} --to tape"));
    assert_eq!((&first["state"], &first["was_there"]), (&"done".into(), &false.into()), "{first}");
    let again = world.ok(&format!("session copy {id} --to tape"));
    assert_eq!(
        (&again["was_there"], &again["tape_session"]),
        (&true.into(), &first["tape_session"]),
        "{again}"
    );
    assert_eq!(in_clear(&tape.place, b"payroll-of-nobody"), 0);
    assert_eq!(in_clear(&tape.place, id.as_bytes()), 0, "the id of the session it is a copy of");
    // To the address alone it goes as it is, behind the other one.
    let plain = world.ok(&format!("session copy {id} --to {}", tape.url()));
    assert_eq!(plain["was_there"], false, "{plain}");
    assert!(in_clear(&tape.place, b"payroll-of-nobody") > 0);
    let volumes = world.list(&format!("tape inventory {}", tape.url()));
    let mut words: Vec<&str> = volumes
        .iter()
        .flat_map(|volume| volume["files"].as_array().unwrap())
        .filter_map(|file| file["encryption"].as_str())
        .collect();
    words.sort_unstable();
    assert_eq!(words, ["age", "none"], "{volumes:#?}");
    world.ok("catalog rebuild --repository tape");
    let sessions = world.list("session list --repository tape");
    assert_eq!(sessions.len(), 2, "{sessions:#?}");
    for (number, copy) in [&first, &plain].into_iter().enumerate() {
        let copy = copy["tape_session"].as_str().unwrap();
        let at = restored(world, &world.master(), &format!("session {copy}"), &format!("copy-{number}"));
        assert_same(&world.master(), &at, "a copy");
    }
    assert_eq!(world.ok("repository check tape --read-data")["state"], "done");
    // Without the password the one that is not encrypted can be had.
    let at = tape.rescued(plain["tape_session"].as_str().unwrap(), "plain");
    assert_same(&world.master(), &at, "the plain one");
    let ran = tape.rescue("latest", "without");
    assert_eq!(ran.exit, 3, "what was passed over is said: {ran:?}");
    let phrase = format!("latest --password-file {}", world.path("passphrase").display());
    assert_same(&world.master(), &tape.rescued(&phrase, "with"), "with the passphrase");
    // A password that was lost here: nothing is written without it, what is plain is read, and it can be given again.
    let secrets = std::fs::read_dir(world.path("data/secrets")).unwrap().map(|entry| entry.unwrap().path());
    let secret =
        secrets.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("tape-"));
    let secret = secret.expect("a password of the tape");
    std::fs::write(&secret, "").unwrap();
    let before = files_below(&tape.place).len();
    let ran = world.ctl("backup docs --to tape");
    assert!(ran.exit != 0, "{ran:?}");
    assert_eq!(files_below(&tape.place).len(), before, "something was written without the password");
    let at = restored(
        world,
        &world.master(),
        &format!("session {}", plain["tape_session"].as_str().unwrap()),
        "lost",
    );
    assert_same(&world.master(), &at, "the plain one without the password");
    world.refused(
        &format!(
            "restore session {} --onto {}",
            first["tape_session"].as_str().unwrap(),
            world.path("no").display()
        ),
        5,
        "RW1132",
    );
    world.ok(&tape.add());
    assert_eq!(std::fs::read(&secret).unwrap(), b"correct horse");
}
