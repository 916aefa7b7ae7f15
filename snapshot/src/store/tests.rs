//! The contract suite, run against every store, and what is particular to stores in the network.

mod azurite;
mod clouds;
mod contract;
mod google;
mod network;
mod scripted;
mod servers;

use super::*;
use contract::{check_all, check_many, check_small, names_in};

#[test]
fn memory_keeps_the_contract() {
    let store = MemoryStore::new();
    check_all(&store);
    check_many(&store, 2500);
}

#[test]
fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(&directory.path().join("made/anew")).unwrap();
    check_all(&store);
    check_many(&store, 1200);
}

#[test]
fn a_store_behind_an_instrument_keeps_the_contract() {
    let store = faulty::FaultyStore::new(std::sync::Arc::new(MemoryStore::new()));
    check_small(&store);
}

#[test]
fn s3_in_the_process_keeps_the_contract() {
    let server = servers::InProcess::start();
    let store = server.store("prefix/deep", &[]);
    check_all(&store);
    check_many(&store, 1200);
}

#[test]
fn s3_in_the_process_keeps_the_contract_without_a_prefix_and_with_limits() {
    let server = servers::InProcess::start();
    check_small(&server.store("", &[("connections", "1"), ("bandwidth", "1G")]));
    // As a bucket with object lock wants it; in parts, for a limit makes them small.
    let keys = [("AWS_ACCESS_KEY_ID", servers::KEY), ("AWS_SECRET_ACCESS_KEY", servers::SECRET)];
    let checksum = [("AWS_CHECKSUM_ALGORITHM", "SHA256")];
    let with = Environment::from_pairs(keys.into_iter().chain(checksum));
    let store = server.store_in("sums", &[("bandwidth", "1G")], &with);
    store.put("data/a", contract::bytes_of(11 << 20, 1)).unwrap();
    assert_eq!(store.get("data/a", 11 << 20).unwrap(), contract::bytes_of(11 << 20, 1));
}

#[test]
fn s3_as_a_process_keeps_the_contract() {
    let Some(server) = servers::Moto::start() else { return };
    let store = server.store("prefix", &[]);
    check_all(&store);
    check_many(&store, 1200);
    assert_eq!(store.probe_conditional_put().unwrap(), ConditionalPut::Honoured);
    assert!(names_in(&store, "").iter().all(|name| !name.contains("probe")), "the probe cleans up");
}

#[test]
fn azure_as_a_process_keeps_the_contract() {
    let Some(server) = azurite::Azurite::start() else { return };
    let store = server.store("prefix/deep", &[]);
    check_all(&store);
    check_many(&store, 1200);
    check_small(&server.store("", &[("connections", "1"), ("bandwidth", "1G")]));
    assert_eq!(store.probe_conditional_put().unwrap(), ConditionalPut::Honoured);
    assert!(names_in(&store, "").iter().all(|name| !name.contains("probe")), "the probe cleans up");
}

#[test]
fn a_fake_of_google_keeps_the_contract() {
    let server = google::Fake::start();
    let store = server.store("prefix/deep", &[]);
    check_all(&store);
    check_many(&store, 2500);
    check_small(&server.store("", &[("connections", "1"), ("bandwidth", "1G")]));
    assert_eq!(server.unfinished(), 0, "uploads in parts are completed");
    assert_eq!(store.probe_conditional_put().unwrap(), ConditionalPut::Honoured);
    assert!(names_in(&store, "").iter().all(|name| !name.contains("probe")), "the probe cleans up");
}
