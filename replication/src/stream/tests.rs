//! Streams over loopback through a proxy that cuts and stalls, and within one process.

mod line;
mod net;
mod security;
mod support;

use super::*;
use crate::ingest::tests::JOURNAL;
use crate::spool::tests::{Random, seed};
use crate::spool::{Draft, SpoolReader};
use journal::{Lsn, Timestamp};
use local::{LocalOptions, LocalStream};
use net::{Proxy, Setup};
use std::time::Instant;
use support::{Agent, Emitted, Link, SOON, draft, spool_in};
use wire::stream::{FromReplica, Reason};

#[test]
fn captures_arrive_once_and_in_order_over_a_line_that_is_cut_at_random() {
    let first = seed(0x5742_0001);
    for round in 0..3 {
        let mut random = Random(first + round * 104_729);
        let setup = Setup::new();
        setup.link.ingest.with(|memory| memory.commit_takes = Duration::from_micros(300));
        let proxy = Proxy::before(setup.address());
        let stream = setup.connect(&proxy.uri());
        let emitted = Emitted::in_background(&setup.spool, random.below(u64::MAX), 1500);
        let give_up = Instant::now() + Duration::from_secs(60);
        let mut cuts = 0;
        while !emitted.is_finished() || setup.link.ingest.with(|memory| memory.journaled()) < emitted.last() {
            assert!(
                Instant::now() < give_up,
                "stuck at {}",
                setup.link.ingest.with(|memory| memory.journaled())
            );
            std::thread::sleep(Duration::from_millis(2 + random.below(60)));
            if cuts < 25 {
                cuts += 1;
                match random.below(4) {
                    0 => proxy.stall(),
                    1 => proxy.cut_after(random.below(20_000)),
                    _ => proxy.cut(),
                }
            } else {
                proxy.go();
            }
        }
        proxy.go();
        assert!(setup.spool.wait_empty(SOON));
        emitted.check(&setup.link.ingest);
        assert!(setup.link.connections() > 5, "{} connections", setup.link.connections());
        assert_eq!(setup.agent.resent_acknowledged(), 0);
        stream.stop().unwrap();
    }
}

#[test]
fn commands_statuses_and_pages_cross_the_line() {
    let setup = Setup::new();
    let stream = setup.connect(&setup.uri());
    let master = setup.link.master();
    let barrier = master.send(Command::Barrier { cookie: 5, class: journal::Class::Crash }).unwrap();
    let outcome = barrier.wait(SOON).unwrap();
    let class = journal::Class::Fuzzy;
    assert_eq!(outcome, Outcome::Barrier { lsn: Lsn::captured(5), class, time: Timestamp(1) });
    // A command that the agent drops has failed, and says so.
    let failed = master.send(Command::Verify).unwrap().wait(SOON);
    assert!(matches!(failed, Err(LinkError::Failed(failed)) if failed.code == "RW0472"));
    let replica = setup.agent.replica();
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = replica.namespace(after, SOON).unwrap();
        pages.push(page.entries.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
    let refused = replica.namespace(Some(Bytes::from_static(b"bad")), SOON);
    assert!(matches!(refused, Err(LinkError::Failed(_))));
    setup.link.set_applied(Lsn::local(3, 1));
    support::until(|| setup.agent.applied() == Lsn::local(3, 1));
    support::until(|| setup.link.status_seen().is_some_and(|status| status.gaps_open == 42));
    stream.stop().unwrap();
    assert_eq!(master.send(Command::Stop).err(), Some(LinkError::Disconnected));
    assert_eq!(replica.namespace(None, SOON), Err(LinkError::Disconnected));
}

#[test]
fn suspension_keeps_captures_on_the_master_across_connections() {
    let setup = Setup::new();
    let stream = setup.connect(&setup.uri());
    until_begun(&setup);
    setup.link.master().send(Command::Suspend).unwrap().wait(SOON).unwrap();
    setup.link.terms.lock().suspended = true;
    setup.spool.emit(draft(0, 10)).unwrap();
    stream.stop().unwrap();
    let stream = setup.connect(&setup.uri());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(setup.link.ingest.with(|memory| memory.journaled()), Lsn::ZERO);
    setup.link.terms.lock().suspended = false;
    setup.link.master().send(Command::Resume).unwrap().wait(SOON).unwrap();
    setup.link.ingest.wait_for(Lsn::captured(1), SOON);
    stream.stop().unwrap();
}

#[test]
fn a_capture_far_larger_than_the_window_passes() {
    for hides_parts in [false, true] {
        let setup = Setup::new();
        setup.link.ingest.with(|memory| memory.hides_parts = hides_parts);
        let stream = setup.connect(&setup.uri());
        until_begun(&setup);
        for part in 0..40 {
            setup.spool.emit(Draft { part, last: part == 39, ..draft(1, 1 << 20) }).unwrap();
        }
        setup.link.ingest.wait_for(Lsn::captured(1), Duration::from_secs(30));
        assert!(setup.spool.wait_empty(SOON));
        stream.stop().unwrap();
    }
}

fn until_begun(setup: &Setup) {
    support::until(|| setup.spool.status().captured.is_some());
}

#[test]
fn a_replica_that_lost_acknowledged_data_is_refused_for_good() {
    let setup = Setup::new();
    let stream = setup.connect(&setup.uri());
    until_begun(&setup);
    for _ in 0..3 {
        setup.spool.emit(draft(0, 10)).unwrap();
    }
    assert!(setup.spool.wait_empty(SOON));
    stream.stop().unwrap();
    setup.link.ingest.with(|memory| memory.captures.truncate(1));
    let error = setup.connect(&setup.uri()).wait_end().unwrap_err();
    assert!(
        matches!(&error, StreamError::Refused(refused) if refused.reason == Reason::LostAcknowledged),
        "{error}"
    );
    assert!(setup.link.refusals().contains(&Reason::LostAcknowledged));
    // The master finds it out by itself too.
    let welcome = super::steps::welcome(setup.link.terms.lock().clone(), &setup.link.ingest.state());
    let error = meet(&setup.spool, &welcome).err().unwrap();
    assert!(matches!(error, StreamError::LostAcknowledged { .. }), "{error}");
    assert!(!error.is_retryable());
}

#[test]
fn another_journal_or_history_is_refused_for_good() {
    let setup = Setup::new();
    let mut state = setup.link.ingest.state();
    let terms = setup.link.terms.lock().clone();
    state.journaled = Lsn::captured(9);
    assert!(meet(&setup.spool, &super::steps::welcome(terms.clone(), &state)).is_ok());
    state.journaled = Lsn::captured(10);
    let other = meet(&setup.spool, &super::steps::welcome(terms.clone(), &state)).err().unwrap();
    assert!(matches!(other, StreamError::OtherHistory { .. }), "{other}");
    state.journaled = Lsn::captured(9);
    state.journal = wire::stream::JournalId([1; 16]);
    let other = meet(&setup.spool, &super::steps::welcome(terms, &state)).err().unwrap();
    assert!(matches!(other, StreamError::OtherHistory { .. }), "{other}");
    assert_eq!(setup.spool.journal(), Some(JOURNAL));
}

/// Captures, delivers, and ends the connection.
fn deliver(setup: &Setup, spool: &Arc<Spool>, captures: u64) {
    let stream = setup.connect_spool(&setup.uri(), spool);
    support::until(|| spool.status().captured.is_some());
    for mark in 0..captures {
        spool.emit(draft(mark, 10)).unwrap();
    }
    assert!(spool.wait_empty(SOON));
    stream.stop().unwrap();
}

#[test]
fn of_two_masters_with_one_state_only_the_first_goes_on() {
    let setup = Setup::new();
    deliver(&setup, &setup.spool, 3);
    setup.spool.close().unwrap();
    // The machine is cloned. The copy captures more than the other, so that its next LSN would fit.
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (setup.directory().join("spool"), copy.path().join("spool"));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("state"), to.join("state")).unwrap();
    let (first, second) = (support::spool_in(setup.directory()), support::spool_in(copy.path()));
    assert_eq!(second.status().captured, Some(Lsn::captured(3)));
    for mark in 100..105 {
        second.emit(draft(mark, 10)).unwrap();
    }
    let history = second.history();
    deliver(&setup, &first, 2);
    let before = setup.link.ingest.with(|memory| memory.captures.clone());
    assert_eq!(before.len(), 5);

    let stream = setup.connect_spool(&setup.uri(), &second);
    support::until(|| setup.link.refusals().contains(&Reason::Diverged));
    // Then it begins where the journal stands, and what it had spooled is gone.
    support::until(|| second.status().captured == Some(Lsn::captured(5)));
    assert!(second.wait_empty(SOON));
    assert!(matches!(second.emit_in(history, draft(9, 10)), Err(crate::spool::SinkError::NotBegun)));
    assert_eq!(second.emit(draft(200, 10)).unwrap(), Lsn::captured(6));
    setup.link.ingest.wait_for(Lsn::captured(6), SOON);
    stream.stop().unwrap();
    let after = setup.link.ingest.with(|memory| memory.captures.clone());
    assert!(after.starts_with(&before) && after.len() == 6);
}

#[test]
fn a_master_that_came_back_older_begins_anew() {
    let setup = Setup::new();
    deliver(&setup, &setup.spool, 3);
    setup.spool.close().unwrap();
    let (place, saved) = (setup.directory().join("spool/state"), setup.directory().join("saved"));
    std::fs::copy(&place, &saved).unwrap();
    let spool = support::spool_in(setup.directory());
    deliver(&setup, &spool, 4);
    spool.close().unwrap();
    std::fs::copy(&saved, &place).unwrap();
    let spool = support::spool_in(setup.directory());
    assert_eq!(spool.status().captured, Some(Lsn::captured(3)));
    let stream = setup.connect_spool(&setup.uri(), &spool);
    support::until(|| spool.status().captured == Some(Lsn::captured(7)));
    assert!(setup.link.refusals().contains(&Reason::Diverged));
    stream.stop().unwrap();
}

#[test]
fn another_host_is_refused_and_a_newer_connection_of_the_same_takes_over() {
    let setup = Setup::new();
    let proxy = Proxy::before(setup.address());
    let stream = setup.connect(&proxy.uri());
    support::until(|| setup.link.connections() == 1);
    let other = setup.clone_as("other-host");
    let refused = other.connect(&setup.uri());
    support::until(|| other.agent.last_error().is_some_and(|text| text.contains("attached to host")));
    assert_eq!(setup.link.connections(), 1);
    refused.stop().unwrap();
    // The line is dead and nobody has noticed; the master comes back by another way.
    proxy.stall();
    let second = setup.connect(&setup.uri());
    support::until(|| setup.link.connections() == 2);
    until_begun(&setup);
    setup.spool.emit(draft(0, 10)).unwrap();
    setup.link.ingest.wait_for(Lsn::captured(1), SOON);
    second.stop().unwrap();
    stream.stop().unwrap();
}

#[test]
fn a_connection_given_up_that_comes_late_costs_no_history() {
    let setup = Setup::new();
    deliver(&setup, &setup.spool, 3);
    // Both were begun with what was known then; they come in the other order.
    let hello = || super::hello(&setup.spool, &*setup.agent, 1, "docs", "here");
    let (given_up, newer) = (hello(), hello());
    assert!(given_up.meeting.is_some() && given_up.dial.is_older_than(&newer.dial));

    let (answer, stands) = setup.greet(newer);
    let FromReplica::Welcome(welcome) = answer else { panic!("{answer:?}") };
    meet(&setup.spool, &welcome).unwrap();
    let (answer, _) = setup.greet(given_up);
    assert!(matches!(&answer, FromReplica::Refused(why) if why.reason == Reason::Superseded), "{answer:?}");
    drop(stands);
    // The master comes again, with the meeting it knows of, and goes on.
    setup.spool.emit(draft(5, 10)).unwrap();
    let stream = setup.connect(&setup.uri());
    setup.link.ingest.wait_for(Lsn::captured(4), SOON);
    stream.stop().unwrap();
    assert!(setup.link.refusals().is_empty(), "{:?}", setup.link.refusals());
}

#[test]
fn a_silent_line_is_noticed_on_both_sides() {
    let setup = Setup::new();
    let proxy = Proxy::before(setup.address());
    let stream = setup.connect(&proxy.uri());
    support::until(|| setup.link.connections() == 1);
    proxy.stall();
    support::until(|| setup.agent.last_error().is_some());
    support::until(|| setup.link.detachments() >= 1);
    proxy.go();
    support::until(|| setup.link.connections() >= 2);
    stream.stop().unwrap();
}

#[test]
fn a_journal_that_refuses_for_a_while_is_waited_for() {
    let setup = Setup::new();
    setup.link.ingest.with(|memory| memory.failures = 3);
    let stream = setup.connect(&setup.uri());
    let emitted = Emitted::in_background(&setup.spool, 77, 50);
    emitted.join();
    setup.link.ingest.wait_for(emitted.last(), SOON);
    assert!(setup.spool.wait_empty(SOON));
    emitted.check(&setup.link.ingest);
    stream.stop().unwrap();
}

#[test]
fn assignments_follow_the_registry_across_cuts() {
    let setup = Setup::new();
    let proxy = Proxy::before(setup.address());
    let (lists, stop) = setup.watch_assignments(&proxy.uri());
    support::until(|| lists.borrow().len() == 1);
    setup.assign(2);
    support::until(|| lists.borrow().len() == 2);
    proxy.cut();
    setup.assign(3);
    support::until(|| lists.borrow().len() == 3);
    stop.send(true).unwrap();
}

#[test]
fn one_process_needs_no_wire() {
    let link = Link::new();
    let directory = tempfile::tempdir().unwrap();
    let spool = spool_in(directory.path());
    let agent = Agent::new(&spool);
    let options = LocalOptions {
        status_every: Duration::from_millis(20),
        backoff: (Duration::from_millis(5), Duration::from_millis(20)),
        ..LocalOptions::new(1, "docs".to_owned(), "here".to_owned())
    };
    let start = || {
        let (agent, link) =
            (Arc::clone(&agent) as Arc<dyn MasterCommands>, Arc::clone(&link) as Arc<dyn ReplicaLink>);
        LocalStream::start(options.clone(), Arc::clone(&spool), agent, link).unwrap()
    };
    let stream = start();
    link.ingest.with(|memory| memory.failures = 2);
    let emitted = Emitted::in_background(&spool, seed(99), 500);
    emitted.join();
    link.ingest.wait_for(emitted.last(), SOON);
    assert!(spool.wait_empty(SOON));
    emitted.check(&link.ingest);
    let barrier = link.master().send(Command::Barrier { cookie: 3, class: journal::Class::Fuzzy }).unwrap();
    assert!(matches!(barrier.wait(SOON), Ok(Outcome::Barrier { .. })));
    assert_eq!(agent.replica().namespace(None, SOON).unwrap().entries.len(), 2);
    link.set_applied(Lsn::captured(2));
    support::until(|| agent.applied() == Lsn::captured(2));
    support::until(|| link.status_seen().is_some());
    stream.stop().unwrap();
    assert_eq!(link.attachments(), link.detachments());
    let master = link.master();
    assert_eq!(master.send(Command::Stop).err(), Some(LinkError::Disconnected));

    // Where it stands, the next one goes on; where history is lost, it refuses.
    let stream = start();
    spool.emit(draft(0, 10)).unwrap();
    assert!(spool.wait_empty(SOON));
    stream.stop().unwrap();
    link.ingest.with(|memory| memory.captures.truncate(3));
    let stream = start();
    support::until(|| agent.last_error().is_some_and(|text| text.contains("acknowledged data is lost")));
    assert!(matches!(stream.stop(), Err(StreamError::LostAcknowledged { .. })));
}

#[test]
fn waiting_times_grow_to_a_bound_and_differ() {
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
    let mut backoff = Backoff::new(min, max);
    let waits: Vec<Duration> = (0..12).map(|_| backoff.wait()).collect();
    assert!(waits[0] >= min / 2 && waits[0] <= min && waits.iter().all(|wait| *wait <= max));
    assert!(waits[8..].iter().all(|wait| *wait >= max / 2));
    assert!(waits[8..].windows(2).any(|pair| pair[0] != pair[1]));
    backoff.reset();
    assert!(backoff.wait() <= min);
}

#[test]
fn acknowledgements_of_what_was_not_sent_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool_in(directory.path());
    spool.begin(JOURNAL, Lsn::ZERO, Timestamp(0)).unwrap();
    for _ in 0..2 {
        spool.emit(draft(0, 10)).unwrap();
    }
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    let batch = reader.next_batch(1, Duration::ZERO).unwrap();
    let flow = Flow::new(1 << 20);
    flow.sent(&batch);
    let taken_bytes = batch[0].bytes.len() as u64;
    let good = wire::stream::Progress { journaled: Lsn::captured(1), durable_parts: 1, taken_bytes };
    for bad in [
        wire::stream::Progress { journaled: Lsn::captured(3), ..good },
        wire::stream::Progress { durable_parts: 2, ..good },
        wire::stream::Progress { taken_bytes: taken_bytes + 1, ..good },
    ] {
        assert!(matches!(flow.acknowledge(&spool, bad), Err(StreamError::Protocol { .. })));
    }
    flow.acknowledge(&spool, good).unwrap();
    assert_eq!(spool.status().acknowledged, Lsn::captured(1));
    let back = wire::stream::Progress { taken_bytes: 0, ..good };
    assert!(matches!(flow.acknowledge(&spool, back), Err(StreamError::Protocol { .. })));
}
