//! First synchronization of 80,000 files against `rsync -a` and `sync -f` of the same tree.
//!
//! Every run writes a tree of its own, and all are removed in the end: a file system goes on freeing blocks for a
//! while after a removal has returned, and that would be counted to whoever runs next. For the same reason the two
//! take turns at being first. It takes ten times the room of the tree.

use crate::daemon::{Daemon, Memory};
use crate::{report, run, tree};
use std::path::Path;
use std::time::Duration;

fn reference(master: &Path, copy: &Path) -> anyhow::Result<Duration> {
    run::sync(master)?;
    let (_, copied) = run::rsync(&["-a"], master, copy)?;
    Ok(copied + run::sync(copy)?)
}

fn product(master: &Path, data: &Path, by_contents: bool) -> anyhow::Result<(Duration, Memory)> {
    run::sync(master)?;
    let daemon = Daemon::start(data)?;
    let ran = daemon.protect(master)?;
    let took = ran + run::sync(&daemon.replica())?;
    run::must_equal(master, &daemon.replica(), by_contents)?;
    Ok((took, daemon.stop()?))
}

/// Runs it.
///
/// # Errors
/// If a program fails, or the replica is not equal.
pub fn run() -> anyhow::Result<()> {
    let master = tree::linux()?;
    let scratch = tree::scratch()?;
    // Once unmeasured: from here on both read the source from the cache.
    tree::copy(&master, &scratch.path().join("unmeasured"))?;
    let (mut references, mut products) = (Vec::new(), Vec::new());
    let mut memory = Memory::default();
    for round in 0..report::ROUNDS {
        let copy = scratch.path().join(format!("copy-{round}"));
        let data = scratch.path().join(format!("data-{round}"));
        for first in [true, false] {
            if (round % 2 == 0) == first {
                references.push(reference(&master, &copy)?);
            } else {
                let (took, its_memory) = product(&master, &data, round == 0)?;
                products.push(took);
                memory = memory.max(its_memory);
            }
        }
    }
    memory.print();
    let (references, products) = (report::seconds(&references), report::seconds(&products));
    report::line("rsync -a && sync -f", &references);
    report::line("scenario run && sync -f", &products);
    report::ratio(
        "time of the product / time of rsync",
        report::median(&products) / report::median(&references),
        "at most 1.5",
    );
    Ok(())
}
