//! A repository that moves from S3 to Azure by copying its objects: is it the same repository there?
//!
//! It is made by a session over S3. Its objects are copied through the stores, one by one; then the bucket is gone. What
//! lies in Azure is opened, checked with all of its data read, listed, restored by the daemon and without one, and read by
//! restic.

use bytes::Bytes;
use snapshot::store::{BlobStore, Environment, RemoteStore, StoreOptions};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tests::azurite::{Azure, CONTAINER};
use tests::compare::assert_same;
use tests::daemon::{World, programs, run};
use tests::restic::Restic;
use tests::rng::Rng;
use tests::s3::{BUCKET, ObjectStore};

/// No object of such a repository is larger.
const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Copies every object; how many they were.
fn copy(from: &dyn BlobStore, to: &dyn BlobStore) -> usize {
    let mut names = Vec::new();
    from.list("", &mut |entry| {
        names.push((entry.name, entry.size));
        true
    })
    .unwrap();
    for (name, size) in &names {
        let bytes: Bytes = from.get(name, OBJECT_BYTES_MAX).unwrap();
        assert_eq!(bytes.len() as u64, *size, "{name}");
        to.put(name, bytes).unwrap();
    }
    names.len()
}

fn move_objects(s3: &ObjectStore, azure: &Azure) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = |url: &str, variables: Vec<(String, String)>| {
        let with = Environment::from_pairs(variables);
        RemoteStore::open(&url.parse().unwrap(), &StoreOptions::default(), &with, runtime.handle()).unwrap()
    };
    let from = open(&format!("s3://{BUCKET}/some/prefix"), s3.environment());
    // The authority is one of the test's own, and this process was not told of it when it started.
    let mut variables = azure.environment();
    variables.push(("AZURE_ALLOW_INVALID_CERTIFICATES".to_owned(), "true".to_owned()));
    let to = open(&format!("az://{CONTAINER}/other"), variables);
    let copied = copy(&from, &to);
    assert!(copied > 5, "{copied}");
    let mut there = 0;
    to.list("", &mut |_| {
        there += 1;
        true
    })
    .unwrap();
    assert_eq!(there, copied);
}

fn fill(world: &World) {
    let mut rng = Rng::new(11);
    for number in 0..200_u64 {
        let directory = world.master().join(format!("d{}", number % 17));
        fs::create_dir_all(&directory).unwrap();
        let length = if number % 50 == 0 { 3_000_000 } else { rng.below(20_000) };
        let bytes: Vec<u8> =
            (0..length.div_ceil(8)).flat_map(|_| rng.below(u64::MAX).to_le_bytes()).collect();
        fs::write(directory.join(format!("file-{number}")), bytes).unwrap();
    }
}

/// A daemon that knows these variables, and the file with the password of all repositories.
fn world(variables: Vec<(String, String)>) -> (World, PathBuf) {
    let mut world = World::idle();
    world.wrapper.push("env".to_owned());
    world.wrapper.extend(variables.into_iter().map(|(name, value)| format!("{name}={value}")));
    let password = world.path("password");
    fs::write(&password, "correct horse\n").unwrap();
    (world, password)
}

#[test]
fn a_repository_moves_from_s3_to_azure() {
    let Some(s3) = ObjectStore::start() else { return };
    let Some(azure) = Azure::start() else { return };
    let (mut before, password) = world(s3.environment());
    fill(&before);
    before.start();
    before.protect();
    let url = format!("s3://{BUCKET}/some/prefix");
    before.ok(&format!("repository add there {url} --password-file {}", password.display()));
    before.flush();
    let report = before.ok("backup docs --to there");
    let session = report["sessions"][0]["id"].as_str().unwrap().to_owned();
    before.stop();
    move_objects(&s3, &azure);
    drop(s3);

    // Another daemon, which has never seen the bucket.
    let (mut after, password) = world(azure.environment());
    after.start();
    let (url, master) = (format!("az://{CONTAINER}/other"), before.master());
    let password_file = format!("--password-file {}", password.display());
    // A container that is missing is not an empty place in one that is there.
    let missing =
        after.refused(&format!("repository add gone az://elsewhere/p {password_file}"), 4, "RW1127");
    assert!(missing.stdout.contains("ContainerNotFound"), "{missing:?}");
    after.ok(&format!("repository add moved {url} {password_file}"));
    let checked = after.ok("repository check moved --read-data");
    assert_eq!(checked["state"], "done", "{checked}");
    assert_eq!(after.ok("repository stats moved")["sessions"], 1);
    after.ok("catalog rebuild");
    let shown = after.ok(&format!("session show {session}"));
    assert_eq!(shown["repository"], "moved", "{shown}");
    let into = after.path("restored");
    let inside = into.join(master.strip_prefix("/").unwrap());
    after.ok(&format!("restore session {session} --onto {} --verify", into.display()));
    assert_same(&master, &inside, "restored by the daemon");
    fs::remove_dir_all(&into).unwrap();

    let mut rescue = Command::new(programs().join("restorectl"));
    rescue.args(["--json", "rescue", &url, &session, "--onto"]).arg(&into);
    rescue.arg("--password-file").arg(&password).envs(azure.environment());
    let ran = run(rescue, Duration::from_secs(120));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_same(&master, &inside, "restored without a daemon");
    fs::remove_dir_all(&into).unwrap();

    let restic = Restic::new(format!("azure:{CONTAINER}:/other"), &password).with(azure.proxied());
    let authority = azure.authority();
    let authority = authority.to_str().unwrap();
    if restic.run(&["check", "--read-data", "--cacert", authority]).is_some() {
        let target = into.to_str().unwrap();
        restic.run(&["restore", &session, "--target", target, "--cacert", authority]).unwrap();
        assert_same(&master, &inside, "restored by restic");
    }
}
