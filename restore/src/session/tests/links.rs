//! Links that the target does not take: what is made instead, and what waits for it.

use super::world::{World, directory, planned};
use crate::session::Options;
use crate::session::batch::Shared;
use crate::session::fill::{FileJob, Place};
use crate::session::finish::{Filled, Finisher, LinkJob};
use crate::session::meta::Meta;
use crate::session::target::{Target, make_dir, stat_at};
use snapshot::repository::NodeKind;
use std::os::fd::AsFd;

#[test]
fn a_directory_waits_for_what_is_made_instead_of_a_link_into_it() {
    let world = World::new();
    let mut top = directory();
    let tree = world.save(&mut top, &mut || 100);
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let plan = planned(&world.repository, tree, &[], here.path(), Options::default()).unwrap();
    let target = Target::open(here.path()).unwrap().unwrap();
    let other = Target::open(elsewhere.path()).unwrap().unwrap();
    std::fs::write(elsewhere.path().join("first"), "first").unwrap();
    make_dir(target.top_fd(), b"d").unwrap();
    let dir = target.made(target.top(), b"d", None);
    let shared = Shared::new(&plan, &target, &crate::NoMonitor);
    let mode = || stat_at(target.top_fd().as_fd(), b"d").unwrap().unwrap().mode;
    std::thread::scope(|scope| {
        let mut finisher = Finisher::start(scope, &shared);
        let meta = Meta { kind: NodeKind::File, mode: 0o644, ..Meta::NONE };
        let at = (dir.clone(), b"second".to_vec());
        let job = FileJob::new(at, b"temporary".to_vec(), (meta, 5, Vec::new()), Place::Free);
        // No link crosses file systems.
        let link = LinkJob { from: (other.top().clone(), b"first".to_vec()), job, other: None };
        let left = finisher.give(Filled { links: vec![link], ..Filled::default() }).unwrap();
        assert_eq!((left.links.len(), left.directories.len()), (0, 0));
        let meta = Meta { mode: 0o750, ..Meta::NONE };
        let directories = vec![(dir.clone(), meta)];
        let left = finisher.give(Filled { directories, ..Filled::default() }).unwrap();
        assert_eq!((left.links.len(), left.directories.len()), (1, 1), "the file is made first");
        finisher.wait().unwrap();
        assert_eq!(mode() & 0o7777, 0o1700, "it is not finished");
        let left = finisher.give(Filled { directories: left.directories, ..Filled::default() }).unwrap();
        assert!(left.links.is_empty());
        finisher.wait().unwrap();
        assert_eq!(mode() & 0o7777, 0o750);
    });
}
