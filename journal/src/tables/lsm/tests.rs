//! Tables of a program that knew fewer spaces open, with what they hold.

use super::*;

#[test]
fn a_space_that_is_new_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let (key, value) = (b"key".to_vec(), b"value".to_vec());
    {
        let database = Database::builder(directory.path()).worker_threads(1).open().unwrap();
        for space in Space::ALL.into_iter().filter(|space| *space != Space::PointBlocks) {
            let keyspace = database.keyspace(space.name(), Memtables::options).unwrap();
            keyspace.insert(key.clone(), space.name()).unwrap();
        }
        database.persist(PersistMode::SyncAll).unwrap();
    }
    for round in 0..2 {
        let tables = LsmTables::open(directory.path()).unwrap();
        for space in Space::ALL {
            let expected = match space {
                Space::PointBlocks if round == 0 => None,
                Space::PointBlocks => Some(value.clone()),
                other => Some(other.name().as_bytes().to_vec()),
            };
            assert_eq!(tables.get(space, &key).unwrap(), expected, "{} in round {round}", space.name());
        }
        tables.commit(vec![(Space::PointBlocks, key.clone(), Some(value.clone()))]).unwrap();
        tables.persist().unwrap();
    }
}
