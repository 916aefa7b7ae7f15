//! One changed file among 80,000: how long `flush` takes, as a whole command. The reference is what a person would do
//! without us: `rsync -a` of the tree.

use crate::daemon::Daemon;
use crate::{report, run, tree};
use std::time::Duration;

/// Most seconds, as promised.
const BOUND_SECONDS: f64 = 0.1;

/// Runs it.
///
/// # Errors
/// If a program fails, or the change is not there after the flush.
pub fn run() -> anyhow::Result<()> {
    let scratch = tree::scratch()?;
    let (master, copy) = (scratch.path().join("master"), scratch.path().join("copy"));
    tree::copy(&tree::linux()?, &master)?;
    tree::copy(&master, &copy)?;
    let files = tree::files(&master)?;
    let daemon = Daemon::start(&scratch.path().join("data"))?;
    daemon.protect(&master)?;
    daemon.run(&["flush", "bench"])?;
    let (mut reference, mut product, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for (round, file) in tree::pick(&files, report::ROUNDS, 0).into_iter().enumerate() {
        // A person's edit comes when nothing else does.
        std::thread::sleep(Duration::from_secs(1));
        idle.push(daemon.run(&["flush", "bench"])?);
        std::thread::sleep(Duration::from_secs(1));
        tree::change(&master.join(file), round)?;
        product.push(daemon.run(&["flush", "bench"])?);
        anyhow::ensure!(
            std::fs::read(master.join(file))? == std::fs::read(daemon.replica().join(file))?,
            "{} differs after a flush",
            file.display()
        );
        reference.push(run::rsync(&["-a"], &master, &copy)?.1);
    }
    daemon.stop()?.print();
    let (reference, product) = (report::seconds(&reference), report::seconds(&product));
    report::line("flush with nothing to do", &report::seconds(&idle));
    report::line("flush of one changed file", &product);
    report::line("rsync -a of the same change", &reference);
    let took = report::median(&product);
    report::ratio("time of flush / time of rsync", took / report::median(&reference), "none");
    report::ratio("time of flush / 100 ms", took / BOUND_SECONDS, "below 1");
    Ok(())
}
