//! First synchronization of 80,000 files against `rsync -a` and `sync -f` of the same tree.

use crate::daemon::Daemon;
use crate::{report, run, tree};

/// Runs it.
///
/// # Errors
/// If a program fails, or the replica is not equal.
pub fn run() -> anyhow::Result<()> {
    let master = tree::linux()?;
    let scratch = tree::scratch()?;
    let (copy, data) = (scratch.path().join("copy"), scratch.path().join("data"));
    // Once unmeasured: both read the source from the cache.
    tree::copy(&master, &copy)?;
    let (mut reference, mut product) = (Vec::new(), Vec::new());
    for round in 0..report::ROUNDS {
        run::clear(&copy)?;
        let (_, copied) = run::rsync(&["-a"], &master, &copy)?;
        let took = copied + run::sync(&copy)?;
        reference.push(took);

        let daemon = Daemon::start(&data)?;
        let ran = daemon.protect(&master)?;
        let took = ran + run::sync(&daemon.replica())?;
        product.push(took);
        run::must_equal(&master, &daemon.replica(), round == 0)?;
        let replica = daemon.replica();
        daemon.stop()?.print();
        run::clear(&replica)?;
        run::clear(&data)?;
    }
    let (reference, product) = (report::seconds(&reference), report::seconds(&product));
    report::line("rsync -a && sync -f", &reference);
    report::line("scenario run && sync -f", &product);
    report::ratio(
        "time of the product / time of rsync",
        report::median(&product) / report::median(&reference),
        "at most 1.5",
    );
    Ok(())
}
