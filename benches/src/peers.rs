//! Backup and restore against restic and borg, on the same tree, in turn, with the files in the page cache for all:
//! what a program is about to read was read once more right before its time begins. Without that the state differed: a
//! kernel that reclaims what is cold (DAMON) takes the replica's files before those that a peer read a minute ago.
//!
//! A first backup into an empty repository; a backup after a hundred changed files; a restore of the newest into an empty
//! directory, `sync -f` included. Ours is timed as a person would time it: `restorectl`, from its start to its end, and for
//! the second backup the `flush` before it too. restic and borg run with their defaults, encrypted, each with a cache of
//! its own.
//!
//! What the size of a tree costs is asked of two trees of which one is ten copies of the other, side by side: a hundred
//! files are changed in one copy, then as many all over the ten. Over ten copies they lie in half as many directories
//! again, all of whose trees are written anew, as are those above them, whoever keeps trees; so it is the first that tells
//! what the rest of the tree costs.
//!
//! Nothing is deleted until the end (about 5 GB a round): ext4 gives no inode again that was deleted in the last minutes,
//! and who makes files after a mass deletion pays for its search for others, whoever that is.
//!
//! Beside the times: bytes stored, peak memory (the daemon's as long as the backup runs, with all it holds for other
//! things), and processor seconds, the daemon's from the change to the session; and in which stages its threads were. And
//! what no restore can be faster than here ([`crate::floor`]), in turn with the restores.

use crate::daemon::{Daemon, spent};
use crate::floor::Floor;
use crate::{report, run, tree};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Files changed before a second backup.
const CHANGED: usize = 100;
const PASSWORD: &str = "bench";

/// What a run of a program took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    took: Duration,
    /// Seconds of processor.
    processor: f64,
    /// Most bytes resident.
    memory: u64,
}

/// Processor seconds of the children that this process has waited for.
fn children() -> anyhow::Result<f64> {
    spent("/proc/self/stat", 14)
}

/// Waits for a program, looking at its memory meanwhile.
fn watch(mut child: Child) -> anyhow::Result<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(kilobytes.unwrap_or(0) << 10);
        if let Some(ended) = child.try_wait()? {
            if !ended.success() {
                bail!("a program ended with {ended}");
            }
            return Ok(most);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cost(command: &mut Command) -> anyhow::Result<Cost> {
    let before = children()?;
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let memory = watch(child.with_context(|| format!("run {command:?}"))?)?;
    Ok(Cost { took: began.elapsed(), processor: children()? - before, memory })
}

/// A peer with a repository of its own.
struct Peer {
    name: &'static str,
    place: PathBuf,
}

impl Peer {
    fn new(name: &'static str, at: &Path) -> anyhow::Result<Self> {
        let peer = Peer { name, place: at.to_owned() };
        std::fs::create_dir_all(at)?;
        match name {
            "restic" => run::timed(peer.command().args(["--quiet", "init"]))?,
            _ => run::timed(peer.command().args(["init", "--encryption", "repokey-blake2"]))?,
        };
        Ok(peer)
    }

    fn repository(&self) -> PathBuf {
        self.place.join("repository")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.name);
        let cache = self.place.join("cache");
        command.env("RESTIC_REPOSITORY", self.repository()).env("RESTIC_PASSWORD", PASSWORD);
        command.env("RESTIC_CACHE_DIR", &cache).env("BORG_CACHE_DIR", &cache);
        command.env("BORG_REPO", self.repository()).env("BORG_PASSPHRASE", PASSWORD);
        command.env("BORG_CONFIG_DIR", self.place.join("config"));
        command
    }

    fn backup(&self, tree: &Path, name: &str) -> anyhow::Result<Cost> {
        run::warm(&[tree, &self.place])?;
        match self.name {
            "restic" => cost(self.command().args(["--quiet", "backup"]).arg(tree)),
            _ => cost(self.command().arg("create").arg(format!("::{name}")).arg(tree)),
        }
    }

    /// The newest one, into an empty directory, which is on the disk then.
    fn restore(&self, name: &str, into: &Path) -> anyhow::Result<Cost> {
        std::fs::create_dir_all(into)?;
        run::warm(&[&self.place])?;
        run::sync(into)?;
        let began = Instant::now();
        let mut spent = match self.name {
            "restic" => cost(self.command().args(["--quiet", "restore", "latest", "--target"]).arg(into))?,
            _ => cost(self.command().current_dir(into).arg("extract").arg(format!("::{name}")))?,
        };
        run::sync(into)?;
        spent.took = began.elapsed();
        Ok(spent)
    }
}

/// Bytes of all files below a directory.
fn bytes(directory: &Path) -> anyhow::Result<u64> {
    let files = tree::files(directory)?;
    files.iter().map(|file| Ok(std::fs::metadata(directory.join(file))?.len())).sum()
}

/// A tree that a daemon protects.
struct Place {
    at: PathBuf,
    daemon: Daemon,
    master: PathBuf,
    files: Vec<PathBuf>,
    password: PathBuf,
}

impl Place {
    fn make(at: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let master = at.join("master");
        std::fs::create_dir_all(&master)?;
        fill(&master)?;
        let files = tree::files(&master)?;
        let password = at.join("password");
        std::fs::write(&password, PASSWORD)?;
        let daemon = Daemon::start(&at.join("data"))?;
        daemon.protect(&master)?;
        run::sync(at)?;
        Ok(Place { at: at.to_owned(), daemon, master, files, password })
    }

    fn repository(&self, round: usize) -> PathBuf {
        self.at.join(format!("round-{round}/ours"))
    }

    /// A new repository.
    fn add(&self, round: usize) -> anyhow::Result<()> {
        let url = format!("file://{}", self.repository(round).display());
        let password = self.password.display().to_string();
        let name = format!("r{round}");
        self.daemon.run(&["repository", "add", &name, &url, "--password-file", &password])?;
        Ok(())
    }

    /// Has everything in memory that a backup reads.
    fn warm(&self, round: usize) -> anyhow::Result<()> {
        run::warm(&[&self.master, &self.daemon.replica(), &self.at.join("data"), &self.repository(round)])
    }

    /// A backup: how long `restorectl` took, with a flush before it if wanted, and what the daemon spent since `since`.
    fn backup(&self, round: usize, flush: bool, since: f64) -> anyhow::Result<Cost> {
        self.daemon.forget_memory()?;
        let began = Instant::now();
        if flush {
            self.daemon.run(&["flush", "bench"])?;
        }
        self.daemon.run(&["--quiet", "backup", "bench", "--to", &format!("r{round}")])?;
        let took = began.elapsed();
        Ok(Cost { took, processor: self.daemon.processor()? - since, memory: self.daemon.memory().resident })
    }

    /// Where the time of the last backup went, as the log tells it.
    fn stages(&self) -> anyhow::Result<String> {
        let (log, _) = run::timed(&mut self.daemon.client(&["log"])?)?;
        let line = log.lines().rev().find(|line| line.contains("seconds of threads"));
        Ok(line
            .and_then(|line| line.split_once("threads: "))
            .context("find the stages in the log")?
            .1
            .to_owned())
    }

    fn restore(&self, round: usize, into: &Path) -> anyhow::Result<Cost> {
        std::fs::create_dir_all(into)?;
        run::warm(&[&self.repository(round)])?;
        run::sync(into)?;
        let url = format!("file://{}", self.repository(round).display());
        let (password, into_text) = (self.password.display().to_string(), into.display().to_string());
        let arguments = ["rescue", &url, "latest", "--onto", &into_text, "--password-file", &password];
        let began = Instant::now();
        let mut spent = cost(&mut self.daemon.client(&arguments)?)?;
        run::sync(into)?;
        spent.took = began.elapsed();
        Ok(spent)
    }

    fn change(&self, round: usize) -> anyhow::Result<()> {
        self.change_of(&self.files, round)
    }

    fn change_of(&self, files: &[PathBuf], round: usize) -> anyhow::Result<()> {
        for file in tree::pick(files, CHANGED, round) {
            tree::change(&self.master.join(file), round)?;
        }
        Ok(())
    }

    /// A session after changes to some of these files, once more: of a repository that has sessions.
    fn backup_after(&self, files: &[PathBuf], round: usize) -> anyhow::Result<Cost> {
        self.warm(0)?;
        self.change_of(files, round)?;
        run::sync(&self.at)?;
        self.backup(0, true, self.daemon.processor()?)
    }
}

/// What is measured of each of the three in each round.
#[derive(Default)]
struct Figures {
    first: Vec<Cost>,
    second: Vec<Cost>,
    restore: Vec<Cost>,
    stored: Vec<f64>,
    /// Seconds of threads in each stage, of the first backup and of the second of each round.
    stages: Vec<String>,
}

impl Figures {
    fn print(&self, name: &str) {
        for (what, costs) in
            [("first backup", &self.first), ("after 100 changes", &self.second), ("restore", &self.restore)]
        {
            report::line(&format!("{name}: {what}"), &seconds(costs));
            let processor = report::median(&processor(costs));
            let memory =
                report::median(&costs.iter().map(|cost| cost.memory as f64 / 1e6).collect::<Vec<_>>());
            println!("      processor {processor:.2} s, memory {memory:.0} MB");
        }
        for (stages, what) in self.stages.iter().zip(["first backup", "after 100 changes"].iter().cycle()) {
            println!("      {what}, seconds of threads: {stages}");
        }
        println!("      stored after the first backup {:.1} MB", report::median(&self.stored) / 1e6);
    }
}

fn seconds(costs: &[Cost]) -> Vec<f64> {
    costs.iter().map(|cost| cost.took.as_secs_f64()).collect()
}

fn processor(costs: &[Cost]) -> Vec<f64> {
    costs.iter().map(|cost| cost.processor).collect()
}

fn took(costs: &[Cost]) -> f64 {
    report::median(&seconds(costs))
}

/// One round on the large tree, for all three in turn.
fn round(place: &Place, number: usize, figures: &mut [Figures; 3]) -> anyhow::Result<()> {
    let at = place.at.join(format!("round-{number}"));
    let peers = [Peer::new("restic", &at.join("restic"))?, Peer::new("borg", &at.join("borg"))?];
    place.add(number)?;
    place.warm(number)?;
    run::sync(&at)?;
    let [ours, theirs @ ..] = figures;
    ours.first.push(place.backup(number, false, place.daemon.processor()?)?);
    ours.stages.push(place.stages()?);
    ours.stored.push(bytes(&place.repository(number))? as f64);
    for (peer, figures) in peers.iter().zip(theirs.iter_mut()) {
        figures.first.push(peer.backup(&place.master, "first")?);
        figures.stored.push(bytes(&peer.repository())? as f64);
    }
    place.warm(number)?;
    let before = place.daemon.processor()?;
    place.change(number)?;
    // What others wrote before would be written by whoever syncs first.
    run::sync(&at)?;
    ours.second.push(place.backup(number, true, before)?);
    ours.stages.push(place.stages()?);
    for (peer, figures) in peers.iter().zip(theirs.iter_mut()) {
        run::sync(&at)?;
        figures.second.push(peer.backup(&place.master, "second")?);
    }
    let into = at.join("restored");
    ours.restore.push(place.restore(number, &into)?);
    same(place, &into)?;
    for (peer, figures) in peers.iter().zip(theirs.iter_mut()) {
        let into = at.join(format!("restored-by-{}", peer.name));
        figures.restore.push(peer.restore("second", &into)?);
        same(place, &into)?;
    }
    Ok(())
}

/// A tree, and ten of it side by side.
struct Sizes {
    one: Place,
    ten: Place,
    /// Files of one of the ten, in the order of the files of the one.
    first: Vec<PathBuf>,
}

impl Sizes {
    fn make(scratch: &Path, linux: &Path) -> anyhow::Result<Self> {
        let one = Place::make(&scratch.join("one"), |to| tree::copy_tenth_of_directories(linux, to))?;
        let ten = Place::make(&scratch.join("ten"), |to| {
            (0..10).try_for_each(|copy| tree::copy(&one.master, &to.join(format!("copy-{copy}"))))
        })?;
        for place in [&one, &ten] {
            place.add(0)?;
            place.backup(0, false, 0.0)?;
        }
        let first = one.files.iter().map(|file| Path::new("copy-0").join(file)).collect();
        Ok(Sizes { one, ten, first })
    }

    /// The one; the ten after changes of the same files; the ten after changes all over.
    fn round(&self, number: usize, costs: &mut [Vec<Cost>; 3]) -> anyhow::Result<()> {
        let [one, same, over] = costs;
        one.push(self.one.backup_after(&self.one.files, number)?);
        same.push(self.ten.backup_after(&self.first, number)?);
        over.push(self.ten.backup_after(&self.ten.files, number)?);
        Ok(())
    }

    fn print([one, same, over]: &[Vec<Cost>; 3]) {
        report::line("rewind: after 100 changes, 8,000 files", &seconds(one));
        report::line("rewind: after the same changes, ten times the tree", &seconds(same));
        report::line("rewind: after 100 changes all over ten times the tree", &seconds(over));
        report::ratio("after 100 changes, ten times the tree", took(same) / took(one), "at most 1.2");
        report::ratio("the same all over it, in more directories", took(over) / took(one), "told, no bound");
    }
}

/// What came back is the tree.
fn same(place: &Place, into: &Path) -> anyhow::Result<()> {
    let restored = into.join(place.master.strip_prefix("/")?);
    run::must_equal(&place.master, &restored, false)?;
    Ok(())
}

/// As many as of every benchmark, or `$REWIND_BENCH_ROUNDS` for a first look.
fn rounds() -> usize {
    let asked = std::env::var("REWIND_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(report::ROUNDS).max(1)
}

/// Runs it.
///
/// # Errors
/// If a program fails, or what comes back is not what was saved.
pub fn run() -> anyhow::Result<()> {
    let linux = tree::linux()?;
    let scratch = tree::scratch()?;
    let large = Place::make(&scratch.path().join("large"), |to| tree::copy(&linux, to))?;
    let sizes = Sizes::make(scratch.path(), &linux)?;
    let floor = Floor::read(&linux)?;
    let mut floors = Vec::new();
    let mut figures = <[Figures; 3]>::default();
    let mut costs = <[Vec<Cost>; 3]>::default();
    for number in 0..rounds() {
        round(&large, number, &mut figures)?;
        floors.push(floor.make(&large.at.join(format!("round-{number}/floor")))?);
        // They are short, so more of them.
        (0..3).try_for_each(|part| sizes.round(number * 3 + part, &mut costs))?;
        eprintln!("  round {} is over", number + 1);
    }
    large.daemon.stop()?.print();
    let [ours, restic, borg] = &figures;
    for (name, figures) in [("rewind", ours), ("restic", restic), ("borg", borg)] {
        figures.print(name);
    }
    let faster = took(&restic.first).min(took(&borg.first));
    report::ratio("first backup, the faster of them / ours", faster / took(&ours.first), "at least 2");
    report::ratio(
        "after 100 changes, restic / ours",
        took(&restic.second) / took(&ours.second),
        "at least 20",
    );
    Sizes::print(&costs);
    let floors = report::seconds(&floors);
    report::line("the same files from memory, on the disk", &floors);
    report::ratio(
        "restore, restic / the same files from memory",
        took(&restic.restore) / report::median(&floors),
        "of no restore",
    );
    report::ratio("restore, restic / ours", took(&restic.restore) / took(&ours.restore), "at least 2");
    let stored = report::median(&ours.stored) / report::median(&restic.stored);
    report::ratio("bytes stored, ours / restic", stored, "at most 1.03");
    let memory = |costs: &[Cost]| costs.iter().map(|cost| cost.memory).max().unwrap_or(0) as f64;
    report::ratio("memory, daemon / restic", memory(&ours.first) / memory(&restic.first), "at most 1");
    let spent = report::median(&processor(&ours.second)) / report::median(&processor(&restic.second));
    report::ratio("processor from change to session, ours / restic", spent, "at most 1");
    Ok(())
}
