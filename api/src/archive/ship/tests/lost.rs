//! What a store loses, hides or gets from somebody else: copied again, or said, and nothing is removed for it.

use super::*;

fn code(error: &EngineError) -> &'static str {
    error.code().id
}

/// One that was given up stands between its manifest and its tidying while the next one goes on.
#[test]
fn an_old_writer_removes_nothing() {
    let world = World::new("tidy");
    world.append(1);
    let mut old = world.shipper().unwrap();
    world.look(&mut old, None).unwrap();
    world.append(2);
    world.look(&mut old, None).unwrap();
    old.untidy = true;
    let mut new = world.shipper().unwrap();
    for lsn in 3..=5 {
        world.append(lsn);
        world.look(&mut new, None).unwrap();
    }
    let before = world.objects("");
    assert_eq!(code(&old.tidy().unwrap_err()), codes::ARCHIVE_FORKED.id);
    assert_eq!(world.objects(""), before);
    assert_eq!(world.whole().upto.lsn, 5);
}

/// Told to end, it writes no manifest and removes nothing.
#[test]
fn an_end_is_heard() {
    let world = World::new("stop");
    world.append(1);
    let mut shipper = world.shipper().unwrap();
    let redo = || Some(Arc::clone(world.set.log(Stream::Redo)));
    for answers in 0..4 {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= answers;
        shipper.look(&redo, None, &stop).unwrap();
        // Before the piece, and before the manifest.
        assert_eq!(world.objects("/manifest/").len(), usize::from(answers > 1), "{answers}");
    }
    world.whole();
}

/// An expiry rule, rm, another disk mounted there: what the journal has is copied anew, without a gap.
#[test]
fn what_vanished_is_copied_again() {
    let world = World::new("vanish");
    world.append(1);
    let mut shipper = world.shipper().unwrap();
    world.look(&mut shipper, Some(0)).unwrap();
    world.append(2);
    world.look(&mut shipper, Some(0)).unwrap();
    for name in world.objects("") {
        world.store.delete(&name).unwrap();
    }
    world.append(3);
    let shipped = world.look(&mut shipper, Some(0)).unwrap();
    assert!(shipped.lost > 0 && !shipped.gap, "{shipped:?}");
    let manifest = world.whole();
    assert!(manifest.covering(0, 3).is_ok(), "{manifest:?}");
    assert!(manifest.generation > 2, "none is written twice: {manifest:?}");
    assert_eq!(world.look(&mut shipper, Some(0)).unwrap(), Shipped::default());
}

/// One piece vanished: found when the archive is opened and once a day.
#[test]
fn a_piece_that_vanished_is_found() {
    for journal_has_it in [true, false] {
        let world = World::new(&format!("piece-{journal_has_it}"));
        let mut shipper = world.shipper().unwrap();
        for lsn in 1..=3 {
            world.append(lsn);
            world.look(&mut shipper, Some(0)).unwrap();
            world.seal();
        }
        world.append(4);
        world.look(&mut shipper, Some(0)).unwrap();
        let second = |name: &&String| name.contains("/redo/0000000002-");
        let gone: Vec<String> = world.objects("/redo/").iter().filter(second).cloned().collect();
        assert!(!gone.is_empty());
        for name in &gone {
            world.store.delete(name).unwrap();
        }
        if !journal_has_it {
            world.set.log(Stream::Redo).drop_before(3).unwrap();
        }
        assert_eq!(world.look(&mut shipper, Some(0)).unwrap().lost, 0, "it looks once a day");
        shipper.audited = None;
        let shipped = world.look(&mut shipper, Some(0)).unwrap();
        assert_eq!(shipped.lost, gone.len() as u64, "{shipped:?}");
        let manifest = world.whole();
        assert_eq!(manifest.covering(0, 4).is_ok(), journal_has_it, "{manifest:?}");
        assert_eq!(shipper.gaps(), u64::from(!journal_has_it));
        assert_eq!(world.look(&mut world.shipper().unwrap(), Some(0)).unwrap(), Shipped::default());
    }
}

/// Archiving was switched on while the first backup ran, behind a sealing.
#[test]
fn the_first_session_may_come_later() {
    for journal_has_it in [true, false] {
        let world = World::new(&format!("front-{journal_has_it}"));
        for lsn in 1..=3 {
            world.append(lsn);
            world.seal();
        }
        world.append(4);
        let mut shipper = world.shipper().unwrap();
        world.look(&mut shipper, None).unwrap();
        assert!(world.whole().covering(1, 4).is_err());
        if !journal_has_it {
            world.set.log(Stream::Redo).drop_before(3).unwrap();
        }
        world.append(5);
        // The backup of LSN 1 ends now.
        let shipped = world.look(&mut shipper, Some(1)).unwrap();
        assert_eq!(shipped.gap, !journal_has_it, "{shipped:?}");
        assert_eq!(world.whole().covering(1, 5).is_ok(), journal_has_it);
        assert_eq!(shipper.gaps(), u64::from(!journal_has_it));
        assert!(!world.look(&mut shipper, Some(1)).unwrap().gap, "said once");
    }
}

/// The store answered with rubbish for a while: nothing begins anew, and nothing is removed.
#[test]
fn manifests_that_cannot_be_read_end_the_work() {
    let world = World::new("both");
    let mut shipper = world.shipper().unwrap();
    for lsn in 1..=2 {
        world.append(lsn);
        world.look(&mut shipper, Some(0)).unwrap();
        world.seal();
    }
    world.set.log(Stream::Redo).drop_before(2).unwrap();
    let manifests = world.objects("/manifest/");
    let good: Vec<Bytes> = manifests.iter().map(|name| world.store.get(name, 1 << 20).unwrap()).collect();
    for name in &manifests {
        world.store.put(name, Bytes::from_static(b"<html>busy</html>")).unwrap();
    }
    assert_eq!(code(&world.shipper().err().unwrap()), codes::ARCHIVE_DAMAGED.id);
    for (name, bytes) in manifests.iter().zip(good) {
        world.store.put(name, bytes).unwrap();
    }
    let mut again = world.shipper().unwrap();
    for lsn in 3..=5 {
        world.append(lsn);
        assert!(!world.look(&mut again, Some(0)).unwrap().gap);
    }
    assert!(world.whole().covering(0, 5).is_ok());
    // Another version, of a program that is newer than this one.
    let newer = Manifest { version: 2, generation: 99, ..world.whole() };
    world.archive().put_manifest(&newer).unwrap();
    assert_eq!(code(&world.shipper().err().unwrap()), codes::REPOSITORY_VERSION.id);
}

/// The newest manifest is damaged and the journal has let go of what only it names: those pieces stay, until no session
/// needs that time any more.
#[test]
fn what_only_a_damaged_manifest_names_stays() {
    let world = World::new("newest");
    let mut shipper = world.shipper().unwrap();
    for lsn in 1..=2 {
        world.append(lsn);
        world.look(&mut shipper, Some(0)).unwrap();
        world.seal();
    }
    let newest = world.objects("/manifest/").pop().unwrap();
    let good = world.store.get(&newest, 1 << 20).unwrap();
    world.store.put(&newest, Bytes::from_static(b"rubbish")).unwrap();
    world.append(3);
    world.set.log(Stream::Redo).drop_before(3).unwrap();
    for round in 0..6 {
        // Also by those that come after it, for whom it is not the newest.
        let mut shipper = world.shipper().unwrap();
        world.look(&mut shipper, Some(0)).unwrap();
        world.append(2 * round + 4);
        world.look(&mut shipper, Some(0)).unwrap();
        world.append(2 * round + 5);
    }
    world.store.put(&newest, good).unwrap();
    let generation = newest.rsplit_once('/').unwrap().1.parse().unwrap();
    let old = world.archive().load_manifest(generation).unwrap();
    assert!(old.covering(0, 2).is_ok());
    for piece in &old.pieces {
        world.archive().load_piece(piece).unwrap();
    }
    world.store.put(&newest, Bytes::from_static(b"rubbish")).unwrap();
    let mut shipper = world.shipper().unwrap();
    for lsn in 16..=18 {
        world.append(lsn);
        world.look(&mut shipper, Some(8)).unwrap();
    }
    assert!(!world.objects("/manifest/").contains(&newest), "no session needs it");
    world.whole();
}

/// Another daemon made a session in the repository, or this one lost its memory of it.
#[test]
fn sessions_of_others_keep_their_redo() {
    let world = World::new("others");
    let journal = hex(&world.set.journal_id());
    let json = format!(
        "{{\"time\":\"1970-01-01T00:00:00Z\",\"tree\":\"{}\",\"paths\":[\"/srv/docs\"],\
         \"tags\":[\"journal:{journal}\",\"lsn:1\"]}}",
        "00".repeat(32)
    );
    let session = world.repository.save_session(&serde_json::from_str(&json).unwrap()).unwrap();
    let mut shipper = world.shipper().unwrap();
    for lsn in 1..=4 {
        world.append(lsn);
        world.look(&mut shipper, Some(lsn.saturating_sub(1))).unwrap();
        world.seal();
    }
    assert!(world.whole().covering(1, 4).is_ok(), "{:?}", world.whole());
    world.repository.remove_session(&session).unwrap();
    // A record that cannot be read may be of the oldest.
    let record = format!("snapshots/{}", Id::of(b"a record"));
    world.store.put(&record, Bytes::from_static(b"a record")).unwrap();
    world.append(5);
    world.look(&mut shipper, Some(3)).unwrap();
    assert!(world.whole().covering(1, 5).is_ok());
    world.store.delete(&record).unwrap();
    world.look(&mut shipper, Some(4)).unwrap();
    assert!(world.whole().covering(1, 5).is_err());
    assert!(world.whole().covering(4, 5).is_ok());
}

#[test]
fn a_backlog_is_one_manifest() {
    let world = World::new("backlog");
    for lsn in 1..=6 {
        world.append(lsn);
        world.seal();
    }
    let mut shipper = world.shipper().unwrap();
    assert_eq!(world.look(&mut shipper, Some(0)).unwrap().pieces, 6);
    assert_eq!(world.objects("/manifest/").len(), 1);
    assert!(world.whole().covering(0, 6).is_ok());
}
