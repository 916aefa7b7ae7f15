//! Is every consistent point of a database under writers one that it could have been stopped at?
//!
//! Four processes transfer money in two databases, one with a write-ahead log and one with a rollback journal. The
//! quiesce hook leaves a process behind that holds the write lock of both and says how much they hold; the thaw hook
//! lets it go. Every point is read into a directory of its own and opened there: the database has to find itself whole,
//! the money has to be all there, the books of every writer have to agree with its transfers, and there have to be as
//! many as when it was held, not one less or more.

use super::{Scripts, end};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::daemon::{World, run, seed, size};
use tests::pair::until;

const SETUP: &str = r#"
import sqlite3, sys
for name, mode in (("wal.db", "WAL"), ("rollback.db", "DELETE")):
    c = sqlite3.connect(sys.argv[1] + "/" + name)
    assert c.execute("PRAGMA journal_mode=" + mode).fetchone()[0].upper() == mode
    c.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
    c.execute("CREATE TABLE writer (id INTEGER PRIMARY KEY, done INTEGER NOT NULL)")
    c.execute("CREATE TABLE transfer (writer INTEGER, number INTEGER, a INTEGER, b INTEGER, amount INTEGER, filler TEXT, PRIMARY KEY (writer, number))")
    c.executemany("INSERT INTO account VALUES (?, 1000)", [(i,) for i in range(100)])
    c.executemany("INSERT INTO writer VALUES (?, 0)", [(i,) for i in range(4)])
    c.commit()
"#;

const WRITER: &str = r#"
import os, random, sqlite3, sys, time
place, writer, stop, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
rng = random.Random(seed * 10 + writer)
books = [sqlite3.connect(place + "/" + name, timeout=120, isolation_level=None) for name in ("wal.db", "rollback.db")]
for c in books:
    c.execute("PRAGMA synchronous=NORMAL")
while not os.path.exists(stop):
    c = rng.choice(books)
    a, b = rng.sample(range(100), 2)
    amount = rng.randrange(1, 50)
    c.execute("BEGIN IMMEDIATE")
    number = c.execute("SELECT done FROM writer WHERE id = ?", (writer,)).fetchone()[0] + 1
    c.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, a))
    c.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, b))
    c.execute("INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?)", (writer, number, a, b, amount, "x" * rng.randrange(300)))
    c.execute("UPDATE writer SET done = ? WHERE id = ?", (number, writer))
    c.execute("COMMIT")
    time.sleep(0.003 * rng.random())
"#;

const HOLDER: &str = r#"
import os, sqlite3, sys, time
place, hooks = sys.argv[1], sys.argv[2]
books = [sqlite3.connect(place + "/" + name, timeout=50, isolation_level=None) for name in ("wal.db", "rollback.db")]
for c in books:
    c.execute("BEGIN IMMEDIATE")
began = time.monotonic()
with open(hooks + "/ready.new", "w") as log:
    for name, c in zip(("wal.db", "rollback.db"), books):
        log.write("%s %d\n" % (name, c.execute("SELECT sum(done) FROM writer").fetchone()[0]))
os.rename(hooks + "/ready.new", hooks + "/ready")
while not os.path.exists(hooks + "/go") and time.monotonic() < began + 60:
    time.sleep(0.002)
for c in books:
    c.execute("ROLLBACK")
with open(hooks + "/held", "a") as log:
    log.write("%.6f\n" % (time.monotonic() - began))
open(hooks + "/released", "w").close()
"#;

const CHECK: &str = r#"
import sqlite3, sys
for name in ("wal.db", "rollback.db"):
    c = sqlite3.connect(sys.argv[1] + "/" + name)
    found = [row[0] for row in c.execute("PRAGMA integrity_check")]
    assert found == ["ok"], (name, found)
    balance = dict(c.execute("SELECT id, balance FROM account"))
    assert len(balance) == 100 and sum(balance.values()) == 100000, (name, sum(balance.values()))
    expected = {i: 1000 for i in range(100)}
    count = {i: 0 for i in range(4)}
    last = {i: 0 for i in range(4)}
    for writer, number, a, b, amount in c.execute("SELECT writer, number, a, b, amount FROM transfer"):
        expected[a] -= amount
        expected[b] += amount
        count[writer] += 1
        last[writer] = max(last[writer], number)
    assert balance == expected, name
    done = dict(c.execute("SELECT id, done FROM writer"))
    assert done == count == last, (name, done, count, last)
    print(name, sum(count.values()))
"#;

/// Why the test cannot be made here, if it cannot.
fn missing() -> Option<&'static str> {
    let python = Command::new("python3").args(["-c", "import sqlite3"]).stderr(Stdio::null()).status();
    match python {
        Ok(status) if status.success() => None,
        _ => Some("there is no python3 with sqlite3 (Debian: python3)"),
    }
}

fn python(script: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).args(words);
    command
}

/// Runs one of the scripts to its end; what it printed.
fn python_ok(script: &Path, words: &[&str]) -> String {
    let ran = run(python(script, words), Duration::from_secs(120));
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran.stdout
}

/// The writers; they end when they are dropped.
struct Writers(Vec<Child>);

impl Drop for Writers {
    fn drop(&mut self) {
        self.0.drain(..).for_each(end);
    }
}

fn median_and_max(mut seconds: Vec<f64>) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    (seconds[seconds.len() / 2], seconds[seconds.len() - 1])
}

/// What all scripts are called, and what they are told.
fn write_scripts(scripts: &Scripts, master: &Path) -> String {
    for (name, text) in
        [("setup.py", SETUP), ("writer.py", WRITER), ("holder.py", HOLDER), ("check.py", CHECK)]
    {
        fs::write(scripts.path(name), text).unwrap();
    }
    let (m, hooks) = (master.display(), scripts.path("").display().to_string());
    let quiesce = format!(
        "rm -f ready go released\npython3 holder.py {m} {hooks} &\nholder=$!\n\
         while [ ! -e ready ]; do kill -0 $holder || exit 1; sleep 0.005; done"
    );
    // A hold that was lost on the way is an error, not a point.
    let thaw =
        "[ -e ready ]\n[ ! -e released ] || exit 1\ntouch go\nwhile [ ! -e released ]; do sleep 0.005; done";
    scripts.options(&quiesce, thaw, "60s")
}

#[test]
fn every_point_of_a_database_under_writers_is_whole() {
    if let Some(reason) = missing() {
        println!("sqlite: not run: {reason}");
        return;
    }
    let (points, seed) = (size(20, 200), seed("sqlite"));
    let world = World::new();
    let scripts = Scripts::new(&world.path(""));
    let master = world.master().display().to_string();
    let hooks = write_scripts(&scripts, &world.master());
    python_ok(&scripts.path("setup.py"), &[&master]);
    world.ok(&(world.create_line("docs") + &hooks));
    world.ok("scenario run docs");

    let stop = scripts.path("stop").display().to_string();
    let begin = |number: u64| {
        let words = [&*master, &number.to_string(), &stop, &seed.to_string()];
        python(&scripts.path("writer.py"), &words).spawn().unwrap()
    };
    let mut writers = Writers((0..4).map(begin).collect());
    let mut reported = Vec::new();
    let (mut transfers, mut first) = (String::new(), String::new());
    let transfers_at = |name: &str| {
        // A point that was set is journaled; it can be read once apply is there.
        world.ok("flush docs");
        let read = world.read_at(name, &format!("read-{name}"));
        let found = python_ok(&scripts.path("check.py"), &[&read.display().to_string()]);
        fs::remove_dir_all(read).unwrap();
        found
    };
    for number in 0..points {
        let set = world.ok(&format!("bookmark set docs point-{number} --consistent"));
        assert_eq!(set["class"], "application", "{set}");
        reported.push(set["held_seconds"].as_f64().unwrap());
        let held = scripts.read("ready");
        assert_ne!(held, transfers, "nobody wrote between two points");
        assert_eq!(transfers_at(&format!("point-{number}")), held, "point {number}");
        transfers = held;
        if number == 0 {
            first.clone_from(&transfers);
        }
    }
    assert_eq!(transfers_at("point-0"), first, "the first point has changed");
    for writer in &mut writers.0 {
        assert!(writer.try_wait().unwrap().is_none(), "a writer has died");
    }
    fs::write(&stop, "").unwrap();
    until("the writers end", || writers.0.iter_mut().all(|writer| writer.try_wait().unwrap().is_some()));
    assert_eq!(scripts.take().len(), 2 * points);

    let held = fs::read_to_string(scripts.path("held")).unwrap();
    let held: Vec<f64> = held.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(held.len(), points);
    let ((median, max), (reported, reported_max)) = (median_and_max(held), median_and_max(reported));
    println!(
        "sqlite: {points} points whole, {} transfers; writers held: median {median:.3} s, most {max:.3} s; from the \
         beginning of quiesce to the end of thaw: median {reported:.3} s, most {reported_max:.3} s",
        transfers.replace('\n', " ").trim()
    );
}
