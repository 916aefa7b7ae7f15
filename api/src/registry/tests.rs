//! Scenarios survive a restart; names and directories stay apart.

use super::*;
use crate::definition::Root;
use crate::testing::MemoryServerJournal;

fn open(journal: &Arc<MemoryServerJournal>) -> Registry {
    let journal: Arc<dyn ServerJournal> = Arc::<MemoryServerJournal>::clone(journal);
    Registry::open(journal, "/replica".into(), Placement::Together).unwrap()
}

fn definition(name: &str, roots: &[&str]) -> Definition {
    Definition::new(name, roots.iter().map(|root| Root { master: root.into(), replica: None }).collect())
}

#[test]
fn survives_a_restart() {
    let journal = Arc::new(MemoryServerJournal::default());
    let registry = open(&journal);
    registry.create(definition("one", &["/a"])).unwrap();
    registry.create(definition("two", &["/b"])).unwrap();
    registry.create(definition("three", &["/c"])).unwrap();
    registry.delete("three").unwrap();
    registry.want("one", Wanted::Running).unwrap();
    let mut changed = registry.get("two").unwrap().definition;
    changed.rewind = false;
    registry.update(changed).unwrap();

    let again = open(&journal);
    assert_eq!(again.list(), registry.list());
    let one = again.get("one").unwrap();
    assert_eq!((one.id, one.wanted), (1, Wanted::Running));
    assert!(!again.get("two").unwrap().definition.rewind);
    assert_eq!(again.get("three").unwrap_err().code().id, "RW1002");
    // The id of a deleted scenario stays taken.
    assert_eq!(again.create(definition("four", &["/d"])).unwrap().id, 4);
}

#[test]
fn replica_directories_differ() {
    let journal = Arc::new(MemoryServerJournal::default());
    let registry = open(&journal);
    let entry = registry.create(definition("docs", &["/a/data", "/b/data", "/c/other"])).unwrap();
    let replicas: Vec<_> = entry.definition.roots.iter().map(|root| root.replica.clone().unwrap()).collect();
    let expected = ["/replica/docs/data", "/replica/docs/data-2", "/replica/docs/other"].map(PathBuf::from);
    assert_eq!(replicas, expected);
}

#[test]
fn refuses() {
    let journal = Arc::new(MemoryServerJournal::default());
    let registry = open(&journal);
    registry.create(definition("docs", &["/a"])).unwrap();
    for (definition, code) in [
        (definition("docs", &["/b"]), "RW1003"),
        (definition("whole", &["/replica"]), "RW1011"),
        (definition("two", &["/x", "/x/y"]), "RW1011"),
    ] {
        assert_eq!(registry.create(definition).unwrap_err().code().id, code);
    }
    assert_eq!(registry.list().len(), 1);
}
