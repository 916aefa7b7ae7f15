//! What is particular to stores in the network: failures, limits, credentials.

use super::super::*;
use super::contract::{bytes_of, names_in};
use super::scripted::{Request, Scripted, answer, refusal};
use super::servers::{BUCKET, InProcess, KEY, SECRET, environment, options, runtime, url};
use parking_lot::Mutex;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

fn store_at(address: SocketAddr, more: &[(&str, &str)]) -> (Runtime, RemoteStore) {
    let runtime = runtime();
    let store = RemoteStore::open(&url("p"), &options(address, more), &environment(SECRET), runtime.handle());
    let store = store.unwrap();
    (runtime, store)
}

/// Every kind of call, and what it failed with.
pub(super) fn failures(store: &dyn BlobStore) -> [StoreErrorKind; 6] {
    [
        store.put("data/a", bytes_of(10, 1)).unwrap_err().kind,
        store.get("data/a", 10).unwrap_err().kind,
        store.get_range("data/a", 0..1).unwrap_err().kind,
        store.size("data/a").unwrap_err().kind,
        store.list("data", &mut |_| true).unwrap_err().kind,
        store.delete("data/a").unwrap_err().kind,
    ]
}

pub(super) fn causes(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[test]
fn nobody_there_is_told_in_time() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_runtime, store) = store_at(address, &[("retry", "1")]);
    let began = Instant::now();
    assert_eq!(failures(&store), [StoreErrorKind::Unavailable; 6]);
    let took = began.elapsed();
    // A second each and one more pause; at least the second: it was tried again.
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(60), "{took:?}");
    let (_runtime, store) = store_at(address, &[("retry", "0")]);
    let began = Instant::now();
    assert_eq!(failures(&store), [StoreErrorKind::Unavailable; 6]);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn connections_that_break_are_told_in_time() {
    let server = Scripted::start(|_| Vec::new());
    let (_runtime, store) = store_at(server.address, &[("retry", "1")]);
    assert_eq!(failures(&store), [StoreErrorKind::Unavailable; 6]);
}

#[test]
fn wrong_credentials_are_not_tried_again() {
    let server = InProcess::start();
    let options = options(server.address, &[("retry", "60")]);
    let open = |secret| {
        RemoteStore::open(&url("p"), &options, &environment(secret), server.runtime.handle()).unwrap()
    };
    let began = Instant::now();
    assert_eq!(failures(&open("wrong")), [StoreErrorKind::NotPermitted; 6]);
    assert!(began.elapsed() < Duration::from_secs(20));
    open(SECRET).put("a", bytes_of(1, 1)).unwrap();
}

#[test]
fn a_missing_bucket_is_not_an_empty_store() {
    let server = InProcess::start();
    let elsewhere: StoreUrl = "s3://elsewhere/p".parse().unwrap();
    let options = options(server.address, &[]);
    let store =
        RemoteStore::open(&elsewhere, &options, &environment(SECRET), server.runtime.handle()).unwrap();
    let refused = store.list("data", &mut |_| true).unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::NoBucket, "{}", causes(&refused));
    // Also by servers that say it with a word, or with nothing but the status.
    let server = Scripted::start(|_| refusal("404 Not Found", "NoSuchBucket"));
    let (_runtime, store) = store_at(server.address, &[]);
    // The answer to a question for a size has no body, so it cannot say which of the two is missing.
    let none = StoreErrorKind::NoBucket;
    assert_eq!(failures(&store), [none, none, none, StoreErrorKind::NotFound, none, none]);
    assert!(causes(&store.get("data/a", 1).unwrap_err()).contains("NoSuchBucket"));
    let server = Scripted::start(|_| answer("404 Not Found", "", b""));
    let (_runtime, store) = store_at(server.address, &[]);
    assert_eq!(store.list("data", &mut |_| true).unwrap_err().kind, StoreErrorKind::NoBucket);
    assert_eq!(store.put("data/a", bytes_of(1, 1)).unwrap_err().kind, StoreErrorKind::NoBucket);
    assert!(store.get("data/a", 1).unwrap_err().is_not_found());
}

#[test]
fn failures_that_pass_are_tried_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Scripted::start(move |_: &Request| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => refusal("503 Service Unavailable", "SlowDown"),
        1 => refusal("429 Too Many Requests", "SlowDown"),
        2 => refusal("500 Internal Server Error", "InternalError"),
        3 => Vec::new(),
        _ => answer("200 OK", "", b""),
    });
    let (_runtime, store) = store_at(server.address, &[("retry", "60")]);
    store.put("data/a", bytes_of(1000, 1)).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 5);
}

#[test]
fn failures_that_stay_are_told_with_the_words_of_the_server() {
    for (status, code, kind, again) in [
        ("503 Service Unavailable", "SlowDown", StoreErrorKind::Unavailable, true),
        ("507 Insufficient Storage", "XMinioStorageFull", StoreErrorKind::Full, false),
        ("400 Bad Request", "ExpiredToken", StoreErrorKind::NotPermitted, false),
        ("403 Forbidden", "AccessDenied", StoreErrorKind::NotPermitted, false),
        ("400 Bad Request", "InvalidArgument", StoreErrorKind::Other, false),
        ("301 Moved Permanently", "PermanentRedirect", StoreErrorKind::Other, false),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let server = Scripted::start(move |_: &Request| {
            counted.fetch_add(1, Ordering::SeqCst);
            refusal(status, code)
        });
        let (_runtime, store) = store_at(server.address, &[("retry", "1")]);
        let refused = store.put("data/a", bytes_of(10, 1)).unwrap_err();
        assert_eq!(refused.kind, kind, "{}", causes(&refused));
        assert!(causes(&refused).contains(code), "{}", causes(&refused));
        assert_eq!(calls.load(Ordering::SeqCst) > 1, again, "{code}");
    }
}

#[test]
fn a_body_that_breaks_off_goes_on_where_it_broke() {
    let bytes = bytes_of(100_000, 1);
    let (served, calls) = (bytes.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let server = Scripted::start(move |request: &Request| {
        counted.fetch_add(1, Ordering::SeqCst);
        let start: usize = match request.range.strip_prefix("bytes=") {
            Some(range) => range.split('-').next().unwrap().parse().unwrap(),
            None => 0,
        };
        let rest = &served[start..];
        let (status, headers) = if request.range.is_empty() {
            ("200 OK", String::new())
        } else {
            ("206 Partial Content", format!("Content-Range: bytes {start}-99999/100000\r\n"))
        };
        let mut whole = answer(status, &headers, rest);
        // Thirty thousand bytes of the body at a time, then the connection closes.
        whole.truncate(whole.len() - rest.len() + rest.len().min(30_000));
        whole
    });
    let (_runtime, store) = store_at(server.address, &[("retry", "60")]);
    assert_eq!(store.get("data/a", 100_000).unwrap(), bytes);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[test]
fn a_body_that_always_breaks_off_is_never_taken_as_whole() {
    let server = Scripted::start(|_| {
        let mut whole = answer("200 OK", "", &[7; 1000]);
        whole.pop();
        whole
    });
    let (_runtime, store) = store_at(server.address, &[("retry", "1")]);
    let refused = store.get("data/a", 1000).unwrap_err();
    assert!(
        matches!(refused.kind, StoreErrorKind::Unavailable | StoreErrorKind::Other),
        "{}",
        causes(&refused)
    );
}

#[test]
fn endless_answers_are_cut_off() {
    let huge = vec![b'x'; 20 << 20];
    let (page, refused) = (answer("200 OK", "", &huge), answer("400 Bad Request", "", &huge));
    let server =
        Scripted::start(
            move |request: &Request| {
                if request.target.contains("list-type=2") { page.clone() } else { refused.clone() }
            },
        );
    let (_runtime, store) = store_at(server.address, &[("retry", "0")]);
    assert!(store.list("data", &mut |_| true).is_err());
    assert!(store.put("data/a", bytes_of(1, 1)).is_err());
    // What is larger than the caller allows is refused by its announced size.
    let server = Scripted::start(|_| answer("200 OK", "", &[7; 1000]));
    let (_runtime, store) = store_at(server.address, &[("retry", "0")]);
    let refused = store.get("data/a", 999).unwrap_err();
    assert!(matches!(refused.source.downcast_ref(), Some(cause::Cause::TooLarge { size: 1000, limit: 999 })));
}

#[test]
fn a_part_that_fails_gives_the_upload_up() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let logged = log.clone();
    let server = Scripted::start(move |request: &Request| {
        logged.lock().push(format!("{} {}", request.method, request.target));
        match (request.method.as_str(), request.target.contains("partNumber=2")) {
            ("POST", _) => {
                let body = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>U1</UploadId>\
                            </InitiateMultipartUploadResult>";
                answer("200 OK", "", body.as_bytes())
            }
            ("PUT", true) => refusal("403 Forbidden", "AccessDenied"),
            _ => answer("200 OK", "", b""),
        }
    });
    let (_runtime, store) = store_at(server.address, &[]);
    let refused = store.put("data/a", bytes_of(40 << 20, 1)).unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::NotPermitted, "{}", causes(&refused));
    let log = log.lock();
    let of = |method: &str| log.iter().filter(|line| line.starts_with(method)).count();
    assert_eq!((of("POST"), of("DELETE")), (1, 1), "{log:?}");
    assert!(log.iter().all(|line| line.contains("upload")), "{log:?}");
}

/// A completion whose answer was lost is sent again, and the upload is no more: the bucket is there.
#[test]
fn an_upload_that_is_gone_is_no_missing_bucket() {
    let server = Scripted::start(|request: &Request| match request.method.as_str() {
        "POST" if request.target.contains("uploadId") => refusal("404 Not Found", "NoSuchUpload"),
        "POST" => {
            let body = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>U1</UploadId>\
                        </InitiateMultipartUploadResult>";
            answer("200 OK", "", body.as_bytes())
        }
        "DELETE" => refusal("404 Not Found", "NoSuchUpload"),
        _ => answer("200 OK", "", b""),
    });
    let (_runtime, store) = store_at(server.address, &[]);
    let refused = store.put("data/a", bytes_of(40 << 20, 1)).unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Other, "{}", causes(&refused));
    assert!(causes(&refused).contains("NoSuchUpload"), "{}", causes(&refused));
}

#[test]
fn no_more_requests_are_under_way_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, highest) = (now.clone(), most.clone());
    let server = Scripted::start(move |_: &Request| {
        highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        inside.fetch_sub(1, Ordering::SeqCst);
        answer("200 OK", "", b"")
    });
    let (_runtime, store) = store_at(server.address, &[("connections", "3")]);
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let store = &store;
            scope.spawn(move || store.put(&format!("data/{thread}"), bytes_of(10, thread)).unwrap());
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn bandwidth_is_limited_both_ways() {
    let server = InProcess::start();
    let store = server.store("p", &[("bandwidth", "4M")]);
    let began = Instant::now();
    for number in 0..5 {
        store.put(&format!("data/{number}"), bytes_of(1 << 20, number)).unwrap();
    }
    // The fifth is not waited for, the four before it are.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // More than is sent as one part under a limit.
    store.put("data/large", bytes_of(6 << 20, 9)).unwrap();
    let began = Instant::now();
    assert_eq!(store.get("data/large", 6 << 20).unwrap(), bytes_of(6 << 20, 9));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_stopped_service_is_told() {
    let server = InProcess::start();
    let store = server.store("p", &[]);
    store.put("data/a", bytes_of(1, 1)).unwrap();
    let InProcess { runtime, directory, .. } = server;
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(failures(&store), [StoreErrorKind::Unavailable; 6]);
    assert!(directory.path().join(BUCKET).exists());
}

#[test]
fn keys_come_from_the_credentials_file_and_options_decide_first() {
    let server = InProcess::start();
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let text = format!("[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(home.path().join(".aws/credentials"), text).unwrap();
    let home = home.path().to_str().unwrap();
    let open = |pairs: &[(&str, &str)]| {
        let environment = Environment::from_pairs(pairs.iter().copied());
        RemoteStore::open(&url("p"), &options(server.address, &[]), &environment, server.runtime.handle())
    };
    let store =
        open(&[("HOME", home), ("AWS_PROFILE", "work"), ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")]);
    store.unwrap().put("data/a", bytes_of(1, 1)).unwrap();
    for pairs in [&[("HOME", home)][..], &[("HOME", home), ("AWS_PROFILE", "none")], &[]] {
        assert_eq!(open(pairs).unwrap_err().kind, StoreErrorKind::NotPermitted, "{pairs:?}");
    }
}

#[test]
fn an_endpoint_without_encryption_has_to_be_allowed() {
    let runtime = runtime();
    let open = |pairs: &[(&str, &str)], variables: &[(&str, &str)]| {
        let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        let environment = Environment::from_pairs(keys.iter().chain(variables).copied());
        let options = StoreOptions::from_pairs(pairs.iter().copied()).unwrap();
        RemoteStore::open(&url("p"), &options, &environment, runtime.handle())
    };
    let plain = [("endpoint", "http://127.0.0.1:1")];
    let refused = open(&plain, &[]).unwrap_err();
    assert!(matches!(refused.source.downcast_ref(), Some(cause::Cause::PlainHttp { .. })));
    assert!(open(&[], &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]).is_err());
    assert!(open(&plain, &[("AWS_ALLOW_HTTP", "true")]).is_ok());
    assert!(open(&[plain[0], ("allow_http", "false")], &[("AWS_ALLOW_HTTP", "true")]).is_err());
    assert!(open(&[("endpoint", "https://127.0.0.1:1")], &[]).is_ok());
}

#[test]
fn the_probe_tells_and_leaves_nothing() {
    let server = InProcess::start();
    let store = server.store("p", &[]);
    // This server checks before it writes, so several may win: either is told.
    let found = store.probe_conditional_put().unwrap();
    assert!(matches!(found, ConditionalPut::Honoured | ConditionalPut::Ignored), "{found:?}");
    assert!(names_in(&store, "").is_empty());
    let ignoring = Scripted::start(|_| answer("200 OK", "", b""));
    let (_runtime, store) = store_at(ignoring.address, &[]);
    assert_eq!(store.probe_conditional_put().unwrap(), ConditionalPut::Ignored);
    let refusing = Scripted::start(|request: &Request| match request.method.as_str() {
        "PUT" => refusal("501 Not Implemented", "NotImplemented"),
        _ => answer("204 No Content", "", b""),
    });
    let (_runtime, store) = store_at(refusing.address, &[]);
    assert_eq!(store.probe_conditional_put().unwrap(), ConditionalPut::Refused);
}
