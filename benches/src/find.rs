//! Finding a file in sessions that restic wrote: the catalog against `restic find`.
//!
//! A tree of small files, changed a little between sessions, backed up by restic. The catalog is loaded from that very
//! repository: what loading takes is printed too, for restic has no such step. restic is a process that derives a key and
//! reads the index each time, with a cache of trees and index on the disk that was used before; the catalog is asked in a
//! process that has it open, as the daemon has. Both answer how many entries they found, and the two must agree.

use crate::{report, tree};
use anyhow::{Context, anyhow, ensure};
use journal::{OsDisk, Timestamp};
use secrecy::SecretString;
use snapshot::catalog::{Catalog, Entity, Filter, PAGE_MAX, Pattern, Query, SessionId, SessionInfo};
use snapshot::listing;
use snapshot::repository::{Id, Repository};
use snapshot::store::DirectoryStore;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

const FILES: u32 = 20_000;
const FILES_OF_DIRECTORY: u32 = 100;
const SESSIONS: u32 = 10;
/// Files changed between sessions.
const CHANGED: u32 = 100;

struct Restic<'r> {
    repository: &'r Path,
    password: &'r Path,
    cache: &'r Path,
}

impl Restic<'_> {
    fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new("restic");
        command.arg("-q").arg("-r").arg(self.repository).arg("--password-file").arg(self.password);
        let output =
            command.arg("--cache-dir").arg(self.cache).args(arguments).output().context("run restic")?;
        ensure!(output.status.success(), "restic {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }
}

fn file(number: u32) -> String {
    format!("d{:04}/report-{number:06}.txt", number / FILES_OF_DIRECTORY)
}

/// Makes the sessions.
fn store(restic: &Restic<'_>, source: &Path) -> anyhow::Result<()> {
    for number in 0..FILES {
        let path = source.join(file(number));
        if number.is_multiple_of(FILES_OF_DIRECTORY) {
            std::fs::create_dir_all(path.parent().context("a directory")?)?;
        }
        std::fs::write(path, number.to_string())?;
    }
    restic.run(&["init"])?;
    let from = source.to_str().context("a path of text")?;
    for session in 0..SESSIONS {
        for change in 0..CHANGED {
            let number = (session * 7919 + change * 199) % FILES;
            std::fs::write(source.join(file(number)), format!("{session} {number}"))?;
        }
        restic.run(&["backup", from])?;
    }
    Ok(())
}

/// Loads all sessions, the oldest first, each as what differs from the one before.
fn load(catalog: &Catalog, repository: &Repository) -> anyhow::Result<u64> {
    let mut sessions = Vec::new();
    for id in repository.list_sessions()? {
        sessions.push((repository.load_session(&id)?, id));
    }
    sessions.sort_by_key(|(record, _)| record.time);
    let (mut before, mut entries) = (None::<(Id, listing::Top)>, 0);
    for (number, (record, id)) in sessions.iter().enumerate() {
        let top = listing::top(repository, record)?;
        let info = SessionInfo {
            id: SessionId(id.0),
            repository: "bench".to_owned(),
            entity: Entity {
                scenario: String::new(),
                master: record.hostname.clone(),
                name: "bench".to_owned(),
                root: top.root.clone(),
            },
            taken: Timestamp(number as i64),
            lsn: None,
        };
        let loaded = match &before {
            Some((id, old)) => {
                let old = (SessionId(id.0), old);
                listing::load_changes(catalog, repository, old, &top, &info, &mut |_| true)?
            }
            None => listing::load_whole(catalog, repository, &top, &info, &mut |_| true)?,
        };
        entries += loaded.entries;
        before = Some((*id, top));
    }
    Ok(entries)
}

/// How many entries of sessions the catalog finds.
fn ask(catalog: &Catalog, glob: &str) -> anyhow::Result<u64> {
    let pattern = Pattern::Glob(glob.to_owned());
    let mut query = Query { pattern, filter: Filter::default(), limit: PAGE_MAX, after: None };
    let mut found = 0;
    loop {
        let page = catalog.query(&query)?;
        found += page.rows.iter().map(|row| u64::from(row.sessions)).sum::<u64>();
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(found),
        }
    }
}

/// How many restic finds.
fn find(restic: &Restic<'_>, glob: &str) -> anyhow::Result<u64> {
    let output = restic.run(&["find", glob])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter(|line| line.starts_with('/')).count() as u64)
}

/// Runs it.
///
/// # Errors
/// If anything fails, or the two do not agree.
pub fn run() -> anyhow::Result<()> {
    let scratch = tree::scratch()?;
    let place = |name: &str| scratch.path().join(name);
    let (repository, password, cache, source) =
        (place("repository"), place("password"), place("cache"), place("source"));
    std::fs::write(&password, "bench\n")?;
    let restic = Restic { repository: &repository, password: &password, cache: &cache };
    store(&restic, &source)?;
    let opened = DirectoryStore::open(&repository)?;
    let opened = Repository::open(Arc::new(opened), &SecretString::from("bench".to_owned()))?;
    let catalog = Catalog::open(Arc::new(OsDisk), &place("catalog"))?;
    let start = Instant::now();
    let entries = load(&catalog, &opened)?;
    println!("  {SESSIONS} sessions of {FILES} files, {CHANGED} changed between two");
    report::line(
        &format!("load from the repository, {entries} entries looked at"),
        &[start.elapsed().as_secs_f64()],
    );
    for (what, glob) in [
        ("one file", "*report-012345.txt"),
        ("a thousand files", "*report-0010*"),
        ("nothing", "*nobody-has-this*"),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..report::ROUNDS {
            let start = Instant::now();
            let found = ask(&catalog, glob)?;
            ours.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let expected = find(&restic, glob)?;
            theirs.push(start.elapsed().as_secs_f64());
            if found != expected {
                return Err(anyhow!("{glob}: the catalog has {found}, restic {expected}"));
            }
        }
        report::line(&format!("{what}: catalog"), &ours);
        report::line(&format!("{what}: restic find"), &theirs);
        report::ratio(
            &format!("{what}: times as fast"),
            report::median(&theirs) / report::median(&ours),
            "none",
        );
    }
    Ok(())
}
