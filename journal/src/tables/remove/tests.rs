//! What is there after a removal, whole or interrupted.

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn nothing_is_left_whatever_was_there() {
    let parent = tempfile::tempdir().unwrap();
    let tables = parent.path().join("docs");
    remove_tables(&tables).unwrap();
    for leftover in [false, true] {
        fs::create_dir_all(tables.join("keyspaces/1")).unwrap();
        fs::write(tables.join("keyspaces/1/rows"), b"rows").unwrap();
        if leftover {
            // As a crash leaves it: the database before this one, in part.
            fs::create_dir_all(aside(&tables).unwrap().join("keyspaces/7")).unwrap();
        }
        remove_tables(&tables).unwrap();
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }
}

#[test]
fn a_database_goes_whole_or_stays() {
    let parent = tempfile::tempdir().unwrap();
    let tables = parent.path().join("docs");
    fs::create_dir_all(tables.join("keyspaces/1")).unwrap();
    // A file where the leftover of a removal is looked for: it cannot be removed as a directory is.
    fs::write(aside(&tables).unwrap(), b"").unwrap();
    assert!(remove_tables(&tables).is_err());
    assert!(tables.join("keyspaces/1").exists());
    assert!(remove_tables(Path::new("/")).is_err());
}
