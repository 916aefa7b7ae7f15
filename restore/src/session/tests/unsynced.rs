//! A target that could not be synced: nothing in it gets its name, and the restore does not end well.

use super::world::{World, assert_same, directory, expected, file, look, planned};
use crate::NoMonitor;
use crate::session::execute::write_into;
use crate::session::{Options, SessionRestoreErrorKind};

#[test]
fn what_could_not_be_written_back_gets_no_name_whoever_asks_again() {
    let world = World::new();
    let mut top = directory();
    for name in ["a", "b", "c"] {
        top.put(&format!("d/{name}"), file(name.repeat(20_000).as_bytes()));
    }
    let tree = world.save(&mut top, &mut || 9_000);
    let place = tempfile::tempdir().unwrap();
    let plan = planned(&world.repository, tree, &[], place.path(), Options::default()).unwrap();
    let target = plan.open_target().unwrap().unwrap();
    // Whoever writes back while the restore goes on was told, and nobody will be told again.
    assert!(target.while_syncs_fail(|| target.sync()).is_err());
    let error = write_into(&plan, &target, false, &NoMonitor).unwrap_err();
    assert_eq!(error.kind(), SessionRestoreErrorKind::Io, "{error:?}");
    let found = look(place.path());
    assert!(["/d/a", "/d/b", "/d/c"].iter().all(|path| !found.contains_key(path.as_bytes())), "{found:?}");
    // Opened anew it is written anew.
    drop(target);
    let again = planned(&world.repository, tree, &[], place.path(), Options::default()).unwrap();
    let target = again.open_target().unwrap().unwrap();
    write_into(&again, &target, true, &NoMonitor).unwrap();
    assert_same(&look(place.path()), &expected(&top));
}
