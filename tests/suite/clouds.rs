//! A bucket that cannot be used: does the user learn which of the possible reasons it is, and what to do?
//!
//! For S3, Azure and Google alike: there are no credentials, they are wrong, the endpoint is not encrypted, the bucket is
//! missing. What only a server can refuse is asked of a real one where it is installed.

use tests::azurite::{ACCOUNT, Azure, CONTAINER};
use tests::daemon::World;
use tests::s3::ObjectStore;

const WRONG_KEY: &str = "d3Jvbmc=";

/// A daemon with these variables and no others that matter.
fn world(variables: &[(&str, &str)]) -> World {
    let mut world = World::idle();
    world.wrapper.push("env".to_owned());
    world.wrapper.push(format!("HOME={}", world.path("home").display()));
    world.wrapper.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    std::fs::write(world.path("password"), "correct horse\n").unwrap();
    world.start();
    world
}

/// `repository add` fails with this code, a reason and an action; nothing is added. Its message.
fn is_refused(world: &World, url: &str, exit: i32, code: &str) -> String {
    let password = world.path("password");
    let line = format!("repository add far {url} --password-file {}", password.display());
    let ran = world.refused(&line, exit, code);
    let error = &ran.objects()[0]["error"];
    for part in ["message", "reason", "action"] {
        assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "{part} of {ran:?}");
    }
    assert!(error["message"].as_str().unwrap().contains(url), "{ran:?}");
    assert!(!ran.stdout.contains(WRONG_KEY) && !ran.stderr.contains(WRONG_KEY), "a key is shown: {ran:?}");
    assert!(world.list("repository list").is_empty());
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn credentials_that_are_nowhere_and_an_endpoint_that_is_not_encrypted_are_told_before_anything_is_asked() {
    let keys = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", WRONG_KEY),
        ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
        ("AZURE_STORAGE_ACCOUNT_KEY", WRONG_KEY),
        ("GOOGLE_BEARER_TOKEN", WRONG_KEY),
    ];
    // Nobody would answer there: asking would take minutes, not fail with these codes.
    let endpoints = |scheme: &'static str| {
        let there = move |name| (name, format!("{scheme}://127.0.0.1:1"));
        ["AWS_ENDPOINT_URL", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL"].map(there)
    };
    let (plain, encrypted) = (endpoints("http"), endpoints("https"));
    let with = |pairs: &[(&str, &str)], endpoints: &[(&str, String)]| {
        let more = endpoints.iter().map(|(name, value)| (*name, value.as_str()));
        world(&pairs.iter().copied().chain(more).collect::<Vec<_>>())
    };
    let (unencrypted, unknown) = (with(&keys, &plain), with(&[], &encrypted));
    for (url, variable) in [
        ("s3://bucket/p", "AWS_ALLOW_HTTP"),
        ("az://container/p", "AZURE_ALLOW_HTTP"),
        ("gs://bucket/p", "GOOGLE_ALLOW_HTTP"),
    ] {
        is_refused(&unknown, url, 6, "RW1055");
        let message = is_refused(&unencrypted, url, 5, "RW1126");
        assert!(message.contains(variable), "{message}");
    }
}

#[test]
fn a_wrong_key_and_a_missing_container_of_azure_are_told_apart() {
    let Some(azure) = Azure::start() else { return };
    let variables = azure.environment();
    let mut pairs: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    is_refused(&world(&pairs), "az://elsewhere/p", 4, "RW1127");
    pairs.push(("AZURE_STORAGE_ACCOUNT_KEY", WRONG_KEY));
    is_refused(&world(&pairs), &format!("az://{CONTAINER}/p"), 6, "RW1055");
}

#[test]
fn a_missing_bucket_of_s3_is_told() {
    let Some(s3) = ObjectStore::start() else { return };
    let variables = s3.environment();
    let pairs: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    is_refused(&world(&pairs), "s3://elsewhere/p", 4, "RW1127");
}
