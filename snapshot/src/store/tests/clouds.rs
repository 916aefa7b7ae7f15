//! Azure and Google: where credentials come from, and what is told when they, the container or the server are missing.
//!
//! What concerns Azure runs against Azurite where that is installed; Google is a fake ([`super::google`]).

use super::super::*;
use super::azurite::{self, ACCOUNT, Azurite, CONTAINER, KEY, SAS};
use super::contract::{bytes_of, names_in};
use super::google::{self, BUCKET, Fake, TOKEN};
use super::network::{causes, failures};
use super::scripted::{Request, Scripted, answer};
use super::servers::runtime;
use parking_lot::Mutex;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

fn open(url: &str, options: &[(&str, &str)], with: &[(&str, &str)]) -> Result<RemoteStore, StoreError> {
    let options = StoreOptions::from_pairs(options.iter().copied()).unwrap();
    let with = Environment::from_pairs(with.iter().copied());
    // Nothing is asked of the network, so the runtime may go.
    RemoteStore::open(&url.parse().unwrap(), &options, &with, runtime().handle())
}

#[test]
fn nobody_there_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let runtime = runtime();
    let (az, gs) = (format!("az://{CONTAINER}/p"), format!("gs://{BUCKET}/p"));
    for (url, options, with) in [
        (az, azurite::options(address, &[("retry", "0")]), azurite::environment(KEY)),
        (gs, google::options(address, &[("retry", "0")]), google::environment(TOKEN)),
    ] {
        let store = RemoteStore::open(&url.parse().unwrap(), &options, &with, runtime.handle()).unwrap();
        assert_eq!(failures(&store), [StoreErrorKind::Unavailable; 6], "{url}");
    }
}

#[test]
fn without_credentials_nothing_is_asked() {
    let (az, gs) = (format!("az://{CONTAINER}/p"), format!("gs://{BUCKET}/p"));
    let there = [("endpoint", "https://127.0.0.1:1")];
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT);
    for (url, options, with, word) in [
        (&az, &there[..], &[][..], "AZURE_STORAGE_ACCOUNT_NAME"),
        (&az, &[], &[("AZURE_STORAGE_ACCOUNT_KEY", KEY)], "AZURE_STORAGE_ACCOUNT_NAME"),
        (&az, &there, &[account], "AZURE_STORAGE_SAS_TOKEN"),
        (&gs, &there, &[], "GOOGLE_APPLICATION_CREDENTIALS"),
        (&gs, &there, &[("HOME", "/nowhere")], "GOOGLE_APPLICATION_CREDENTIALS"),
    ] {
        let refused = open(url, options, with).unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::NotPermitted, "{}", causes(&refused));
        let cause = refused.source.downcast_ref::<cause::Cause>().unwrap();
        assert!(matches!(cause, cause::Cause::NoCredentials { .. }), "{cause:?}");
        assert!(causes(&refused).contains(word), "{}", causes(&refused));
    }
    // The identity of the instance, asked for by name.
    assert!(open(&az, &there, &[account, ("AZURE_CREDENTIAL_TYPE", "managed_identity")]).is_ok());
    assert!(open(&az, &there, &[account, ("AZURE_MSI_ENDPOINT", "http://127.0.0.1:1")]).is_ok());
    assert!(open(&gs, &there, &[("GCE_METADATA_HOST", "127.0.0.1:1")]).is_ok());
}

#[test]
fn credentials_that_cannot_be_used_are_told_before_anything_is_asked() {
    let (az, gs) = (format!("az://{CONTAINER}/p"), format!("gs://{BUCKET}/p"));
    let home = tempfile::tempdir().unwrap();
    let broken = home.path().join("broken.json");
    std::fs::write(&broken, "{\"client_email\": 1}").unwrap();
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT);
    for (url, with) in [
        (&az, &[account, ("AZURE_STORAGE_ACCOUNT_KEY", "not base64!")][..]),
        (&az, &[account, ("AZURE_CREDENTIAL_TYPE", "client_secret")]),
        (&gs, &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")]),
        (&gs, &[("GOOGLE_SERVICE_ACCOUNT", "/nowhere/key.json")]),
        (&gs, &[("GOOGLE_APPLICATION_CREDENTIALS", broken.to_str().unwrap())]),
        (&gs, &[("GOOGLE_SERVICE_ACCOUNT_KEY", "{}")]),
    ] {
        let refused = open(url, &[], with).unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::NotPermitted, "{}", causes(&refused));
        assert!(!causes(&refused).contains(KEY), "{}", causes(&refused));
    }
}

#[test]
fn an_endpoint_without_encryption_has_to_be_allowed() {
    let (az, gs) = (format!("az://{CONTAINER}/p"), format!("gs://{BUCKET}/p"));
    let plain = "http://127.0.0.1:1";
    let azure = [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", KEY)];
    let google = [("GOOGLE_BEARER_TOKEN", TOKEN)];
    for (url, keys, endpoint, allow) in [
        (&az, &azure[..], "AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP"),
        (&gs, &google[..], "GOOGLE_BASE_URL", "GOOGLE_ALLOW_HTTP"),
    ] {
        let is_refused = |options: &[(&str, &str)], more: &[(&str, &str)]| {
            let with: Vec<_> = keys.iter().chain(more).copied().collect();
            match open(url, options, &with) {
                Ok(_) => false,
                Err(refused) => {
                    assert_eq!(refused.kind, StoreErrorKind::Unencrypted);
                    let cause = refused.source.downcast_ref();
                    assert!(matches!(cause, Some(cause::Cause::PlainHttp { .. })), "{}", causes(&refused));
                    true
                }
            }
        };
        assert!(is_refused(&[("endpoint", plain)], &[]), "{url}");
        assert!(is_refused(&[], &[(endpoint, plain)]), "{url}");
        assert!(is_refused(&[("allow_http", "false")], &[(endpoint, plain), (allow, "true")]), "{url}");
        assert!(!is_refused(&[], &[(endpoint, plain), (allow, "true")]), "{url}");
        // An option decides before a variable.
        assert!(!is_refused(&[("endpoint", "https://127.0.0.1:1")], &[(endpoint, plain)]), "{url}");
    }
}

#[test]
fn a_variable_alone_does_not_open_the_client_to_unencrypted_requests() {
    // The option says no: not even the client may send what the variable would allow.
    let asked = Arc::new(Mutex::new(0));
    let counted = asked.clone();
    let server = Scripted::start(move |_: &Request| {
        *counted.lock() += 1;
        answer("200 OK", "", b"")
    });
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("key.json");
    let text = format!(
        "{{\"private_key\":\"\",\"private_key_id\":\"\",\"client_email\":\"\",\"disable_oauth\":true,\
          \"gcs_base_url\":\"http://{}\"}}",
        server.address
    );
    std::fs::write(&key, text).unwrap();
    let with = Environment::from_pairs([
        ("GOOGLE_SERVICE_ACCOUNT", key.to_str().unwrap()),
        ("GOOGLE_ALLOW_HTTP", "true"),
    ]);
    let options = StoreOptions::from_pairs([("allow_http", "false"), ("retry", "0")]).unwrap();
    let runtime = runtime();
    let url = format!("gs://{BUCKET}/p").parse().unwrap();
    let store = RemoteStore::open(&url, &options, &with, runtime.handle()).unwrap();
    store.put("data/a", bytes_of(1, 1)).unwrap_err();
    assert_eq!(*asked.lock(), 0);
}

// A signature is not used to remove anything: Azurite answers 500 to batches that are signed so.
#[test]
fn azure_takes_keys_and_signatures_by_all_their_names() {
    let Some(server) = Azurite::start() else { return };
    let endpoint = format!("http://{}/{ACCOUNT}", server.address);
    for (number, with) in [
        [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", KEY)],
        [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_SAS_TOKEN", SAS)],
        // As `az` has them.
        [("AZURE_STORAGE_ACCOUNT", ACCOUNT), ("AZURE_STORAGE_KEY", KEY)],
        // As restic has them.
        [("AZURE_ACCOUNT_NAME", ACCOUNT), ("AZURE_ACCOUNT_KEY", KEY)],
        [("AZURE_ACCOUNT_NAME", ACCOUNT), ("AZURE_ACCOUNT_SAS", SAS)],
    ]
    .into_iter()
    .enumerate()
    {
        let more = [("AZURE_STORAGE_ENDPOINT", endpoint.as_str()), ("AZURE_ALLOW_HTTP", "true")];
        let with = Environment::from_pairs(with.into_iter().chain(more));
        let url = format!("az://{CONTAINER}/names").parse().unwrap();
        let store =
            RemoteStore::open(&url, &StoreOptions::default(), &with, server.runtime.handle()).unwrap();
        let name = format!("data/{number}");
        store.put(&name, bytes_of(10, 1)).unwrap();
        assert_eq!(store.get(&name, 10).unwrap(), bytes_of(10, 1));
        assert_eq!(names_in(&store, "data").len(), number + 1);
    }
}

#[test]
fn azure_refuses_a_wrong_key_and_knows_a_missing_container() {
    let Some(server) = Azurite::start() else { return };
    let wrong = azurite::environment("d3Jvbmc=");
    let store = server.store_in(CONTAINER, "p", &[("retry", "60")], &wrong).unwrap();
    assert_eq!(failures(&store), [StoreErrorKind::NotPermitted; 6]);
    let store = server.store_in("elsewhere", "p", &[], &azurite::environment(KEY)).unwrap();
    // A question for a size is answered without a body, but Azure has the code in a header.
    assert_eq!(failures(&store), [StoreErrorKind::NoBucket; 6]);
    assert!(causes(&store.get("data/a", 1).unwrap_err()).contains("ContainerNotFound"));
}

#[test]
fn google_takes_keys_of_service_accounts() {
    let server = Fake::start();
    let home = tempfile::tempdir().unwrap();
    let Some(key) = service_account(home.path()) else { return };
    let beside = home.path().join(".config/gcloud/application_default_credentials.json");
    std::fs::create_dir_all(beside.parent().unwrap()).unwrap();
    let text = std::fs::read_to_string(&key).unwrap();
    for (name, value) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", key.as_str()),
        ("GOOGLE_SERVICE_ACCOUNT", &key),
        ("SERVICE_ACCOUNT", &key),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", &text),
        ("GOOGLE_ACCESS_TOKEN", TOKEN),
        // No variable says it: where `gcloud` writes it.
        ("HOME", home.path().to_str().unwrap()),
    ] {
        if name == "HOME" {
            let with = Environment::from_pairs([(name, value)]);
            assert!(server.store_in(BUCKET, "names", &[], &with).is_err(), "there is no such file yet");
            std::fs::copy(&key, &beside).unwrap();
        }
        let with = Environment::from_pairs([(name, value)]);
        let store = server.store_in(BUCKET, "names", &[], &with).unwrap();
        store.put("data/a", bytes_of(10, 1)).unwrap();
        assert_eq!(store.get("data/a", 10).unwrap(), bytes_of(10, 1));
    }
    let bearers = server.bearers();
    assert!(bearers.iter().any(|bearer| bearer == TOKEN), "{bearers:?}");
    assert!(bearers.iter().any(|bearer| bearer.split('.').count() == 3), "{bearers:?}");
}

/// A file with the key of an account, made for this test.
fn service_account(directory: &std::path::Path) -> Option<String> {
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "RSA"]).output();
    let Ok(made) = made else {
        println!("left out: the program openssl is not installed");
        return None;
    };
    assert!(made.status.success(), "{made:?}");
    let text = serde_json::json!({
        "type": "service_account",
        "private_key": String::from_utf8(made.stdout).unwrap(),
        "private_key_id": "1",
        "client_email": "backup@example.iam.gserviceaccount.com",
        "client_id": "1",
    });
    let file = directory.join("key.json");
    std::fs::write(&file, text.to_string()).unwrap();
    Some(file.to_str().unwrap().to_owned())
}

#[test]
fn google_refuses_a_wrong_token_at_once_and_knows_a_missing_bucket() {
    let server = Fake::start();
    let store = server.store_in(BUCKET, "p", &[("retry", "60")], &google::environment("wrong")).unwrap();
    assert_eq!(failures(&store), [StoreErrorKind::NotPermitted; 6]);
    assert_eq!(server.requests(), 6, "none is tried again");
    let store = server.store_in("elsewhere", "p", &[], &google::environment(TOKEN)).unwrap();
    let none = StoreErrorKind::NoBucket;
    // The answer to a question for a size has no body, so it cannot say which of the two is missing.
    assert_eq!(failures(&store), [none, none, none, StoreErrorKind::NotFound, none, none]);
    // Nothing is left behind by an upload that is refused.
    assert!(store.put("data/large", bytes_of(40 << 20, 1)).is_err());
    assert_eq!(server.unfinished(), 0);
}
