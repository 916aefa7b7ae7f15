//! Does docs/ransomware.md tell the truth? Its commands are run as they stand, only `/srv/docs` is put elsewhere. And
//! an attack of another style among people at work: per file the last good version, nothing else changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::compare::assert_same;
use tests::daemon::{Ran, World, programs, run, seed};
use tests::rng::Rng;

const WITHIN: Duration = Duration::from_secs(300);

/// The commands of the document, block by block.
fn blocks() -> Vec<String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(project.join("docs/ransomware.md")).unwrap();
    text.split("```sh\n").skip(1).map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

fn shell(world: &World, block: &str) -> Ran {
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg("-euc").arg(block.replace("/srv/docs", world.master().to_str().unwrap()));
    command.env("PATH", format!("{}:{path}", programs().display())).env("REWIND_ENDPOINT", world.endpoint());
    let ran = run(command, WITHIN);
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran
}

/// Regular files by path.
fn files(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut rest) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rest.push(path);
            } else {
                found.insert(path.strip_prefix(top).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_guide_works() {
    let world = World::new();
    world.protect();
    let blocks = blocks();
    let [before, night, look, plan, replica, master, one] = blocks.as_slice() else {
        panic!("the document has {} blocks", blocks.len())
    };
    shell(&world, before);
    let mut expected = files(&world.master());
    shell(&world, night);
    let list = PathBuf::from("list.txt");
    expected.insert(list, b"milk\nbread\n".to_vec());
    let there = files(&world.master());
    assert!(there.keys().filter(|path| path.extension().is_some_and(|e| e == "locked")).count() == 112);
    let found = shell(&world, look).stdout;
    assert!(
        found.contains("mass-rewrite, mass-rename, entropy-jump (confidence high), 112 files"),
        "{found}"
    );
    let planned = shell(&world, plan).stdout;
    let letter = world.master().join("letters/letter-7.txt");
    let note = world.master().join("letters/READ-ME.txt");
    for line in [letter.display().to_string(), format!("- {}", note.display())] {
        assert!(planned.contains(&line), "{line} is not in {planned}");
    }
    assert!(!planned.contains("list.txt"), "{planned}");
    assert!(files(&world.replica()) == there, "a dry run changed something");
    shell(&world, replica);
    assert!(files(&world.replica()) == expected);
    assert!(files(&world.master()) == there, "the master was touched");
    shell(&world, master);
    assert!(files(&world.master()) == expected);
    assert_same(&world.master(), &world.replica(), "after the rewind of the master");
    // Our own work is known as such, and `last-good` means the attack as before: there is nothing left to do.
    let bursts = world.list("points docs --burst");
    let attack = bursts.iter().find(|burst| burst["confidence"] == "high").expect("the attack");
    assert!(attack["after"].is_null(), "{attack}");
    assert!(bursts.iter().filter(|burst| *burst != attack).all(|b| b["after"].is_string()), "{bursts:?}");
    let again = shell(&world, one).stdout;
    assert!(again.contains("0 created, 0 modified, 0 renamed, 0 removed"), "{again}");
}

#[test]
fn each_file_gets_its_own_last_good_version() {
    let mut rng = Rng::new(seed("each_file_gets_its_own_last_good_version"));
    let world = World::new();
    let top = world.master();
    let text = |n: u64, version: u64| {
        format!("report {n}, version {version}: all is well\n").repeat(60 + n as usize)
    };
    let path = |n: u64| top.join(format!("d{}/report-{n}.txt", n % 4));
    for n in 0..4 {
        fs::create_dir(top.join(format!("d{n}"))).unwrap();
    }
    for n in 0..120 {
        fs::write(path(n), text(n, 1)).unwrap();
    }
    world.protect();
    assert_eq!(world.list("points docs --burst").len(), 0);
    world.refused("rewind docs --to last-good --yes", 4, "RW1120");
    let mut should = files(&top);
    let at_first = should.clone();
    for n in 0..120 {
        if n == 60 {
            // Shortly before their turn comes; these versions are the good ones.
            for (name, bytes) in [70, 90, 110]
                .map(|n| (path(n), text(n, 2)))
                .into_iter()
                .chain([(top.join("d1/new.txt"), "mine".into())])
            {
                fs::write(&name, &bytes).unwrap();
                should.insert(name.strip_prefix(&top).unwrap().to_owned(), bytes.into_bytes());
            }
            world.flush();
        }
        let noise = rng.bytes(4000);
        fs::write(path(n), noise).unwrap();
        fs::rename(path(n), path(n).with_extension("txt.crypt")).unwrap();
    }
    world.flush();
    let burst = world.list("points docs --burst").remove(0);
    assert_eq!(burst["confidence"], "high", "{burst}");
    let plan = shell(&world, "restorectl rewind docs --to last-good --dry-run").stdout;
    let (bad, good) = (path(5).with_extension("txt.crypt"), path(5));
    assert!(plan.contains(&format!("~ {} -> {}", bad.display(), good.display())), "{plan}");
    // Where a point is one moment of the whole tree, it is the one before the burst.
    world.ok("bookmark set docs before-it --at last-good");
    assert!(files(&world.read_at(burst["point"].as_str().unwrap(), "aside")) == at_first);
    world.refused("rewind docs --to last-good:1-2 --yes", 4, "RW1008");
    world.ok(&format!("rewind docs --to last-good --path {} --yes", top.join("d1").display()));
    let is = files(&world.replica());
    for (path, bytes) in &should {
        let good = path.starts_with("d1");
        assert_eq!(is.get(path) == Some(bytes), good, "{}", path.display());
    }
    let done = world.ok("rewind docs --to last-good --yes");
    assert!(files(&world.replica()) == should);
    // And back to the damage.
    world.ok(&format!("rewind docs --to {} --yes", done["before"].as_str().unwrap()));
    assert!(files(&world.replica()) == is);
    world.ok("scenario resume docs");
    world.flush();
    assert_same(&top, &world.replica(), "after the resume");
}
