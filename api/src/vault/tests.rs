//! Who waits for whom, what is refused, and what is remembered.

use super::*;
use crate::testing::MemoryServerJournal;
use secrecy::SecretString;
use std::sync::mpsc;
use std::time::Duration;

fn vault(
    journal: &Arc<MemoryServerJournal>,
    place: &std::path::Path,
    runtime: &tokio::runtime::Runtime,
) -> Vault {
    Vault::open(Arc::clone(journal) as _, place.join("secrets"), runtime.handle().clone()).unwrap()
}

fn add(vault: &Vault, place: &std::path::Path, name: &str) -> EngineResult<Repository> {
    let url = format!("file://{}", place.join(name).display());
    vault.add(&NewRepository {
        name: name.into(),
        url,
        password: SecretString::from("secret"),
        compression: String::new(),
    })
}

/// A repository that is being opened keeps nobody from another.
#[test]
fn a_slow_one_makes_nobody_wait() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryServerJournal::default());
    let vault = vault(&journal, place.path(), &runtime);
    add(&vault, place.path(), "slow").unwrap();
    add(&vault, place.path(), "quick").unwrap();
    let (number, _) = vault.get("slow").unwrap();
    let slot = vault.slot(number);
    let opening = slot.lock();
    let (sender, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        let slow = sender.clone();
        let vault = &vault;
        scope.spawn(move || slow.send(vault.get("slow").map(|_| "slow")).unwrap());
        scope.spawn(move || sender.send(vault.get("quick").map(|_| "quick")).unwrap());
        // Long enough on any machine; whoever waits for the slow one waits for ever here.
        let first = answers.recv_timeout(Duration::from_secs(120)).map(Result::unwrap);
        drop(opening);
        assert_eq!(first, Ok("quick"));
        assert_eq!(answers.recv().unwrap().unwrap(), "slow");
    });
}

/// Sessions that are gone are not listed, after a restart neither; those of other repositories stay.
#[test]
fn what_was_forgotten_is_not_listed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryServerJournal::default());
    let first = vault(&journal, place.path(), &runtime);
    let made = |repository: u64, session: u8| SessionMade {
        time: wall_clock(),
        repository,
        scenario: 1,
        scenario_name: "docs".into(),
        journal: [1; 16],
        session: [session; 32],
        tree: [2; 32],
        entity: b"/srv".to_vec(),
        master: "m".into(),
        lsn_captured: session.into(),
        lsn_local: 0,
        point_time: wall_clock(),
        class: 0,
        files: 0,
        directories: 0,
        bytes: 0,
        bytes_read: 0,
        bytes_stored: 0,
        missed: 0,
        incremental: false,
    };
    for (repository, session) in [(1, 1), (1, 2), (2, 1), (1, 3)] {
        first.made(made(repository, session)).unwrap();
    }
    first.forgotten(1, vec![Id([1; 32]), Id([3; 32]), Id([9; 32])]).unwrap();
    first.forgotten(1, Vec::new()).unwrap();
    for vault in [&first, &vault(&journal, place.path(), &runtime)] {
        assert_eq!(vault.sessions_in(1), [Id([2; 32])]);
        assert_eq!(vault.sessions_in(2), [Id([1; 32])]);
        let lineage = Lineage { repository: 1, journal: [1; 16], entity: b"/srv".to_vec() };
        let newest = vault.before(&lineage, Lsn { captured: 9, local: 0 }).unwrap();
        assert_eq!(newest.session, [2; 32], "a forgotten one is nothing to go on from");
    }
}

/// What lies on volumes that are elsewhere may need a password that was replaced.
#[test]
fn replaced_passwords_of_tapes_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let secret = |text: &str| SecretString::from(text);
    assert!(open::find_tape_secret(place.path(), 1).unwrap().is_none());
    for text in ["first", "second", "third"] {
        if open::find_tape_secret(place.path(), 1).unwrap().is_some() {
            open::keep_tape_secret(place.path(), 1).unwrap();
        }
        open::write_tape_secret(place.path(), 1, &secret(text)).unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!([read("tape-1.1"), read("tape-1.2"), read("tape-1")], ["first", "second", "third"]);
    // Emptied is lost.
    std::fs::write(place.path().join("tape-1"), "").unwrap();
    assert!(open::find_tape_secret(place.path(), 1).unwrap().is_none());
}
