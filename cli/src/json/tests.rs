//! The keys of the contract, and names that are not UTF-8.

use super::*;

fn keys(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn base64_of_every_length() {
    for (bytes, text) in [
        (&b""[..], ""),
        (b"f", "Zg=="),
        (b"fo", "Zm8="),
        (b"foo", "Zm9v"),
        (b"foobar", "Zm9vYmFy"),
        (b"\xff\xfe\xfb", "//77"),
    ] {
        assert_eq!(base64(bytes), text);
    }
}

#[test]
fn paths() {
    let mut map = Map::new();
    put_path(&mut map, "path", b"/a/\xff");
    put_path(&mut map, "from", b"");
    assert_eq!(
        Value::from(map).to_string(),
        "{\"path\":\"/a/\u{fffd}\",\"path_base64\":\"L2Ev/w==\",\"from\":null}"
    );
}

#[test]
fn contract() {
    let has = |value: Value, wanted: &[&str]| {
        let keys = keys(&value);
        for key in wanted {
            assert!(keys.iter().any(|known| known == key), "{key} is missing in {keys:?}");
        }
    };
    has(
        status(&v1::Status::default()),
        &[
            "name",
            "id",
            "state",
            "cause",
            "captured_lsn",
            "journaled_lsn",
            "applied_lsn",
            "lag_seconds",
            "spool_bytes",
            "gaps_open",
            "last_proof",
        ],
    );
    has(flushed(&v1::FlushResponse::default()), &["lsn", "time", "class"]);
    let held = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
    let consistent = flushed(&v1::FlushResponse { held, ..v1::FlushResponse::default() });
    assert_eq!(consistent["held_seconds"], 1.5);
    let set = bookmark(&v1::Bookmark { held, ..v1::Bookmark::default() });
    assert_eq!(set["held_seconds"], 1.5);
    has(bookmark(&v1::Bookmark::default()), &["name", "lsn", "time", "class", "automatic"]);
    has(point(&v1::Point::default()), &["lsn", "time", "kind", "path", "from", "bytes", "provenance"]);
    let report = v1::result::Report::Rewind(v1::RewindReport::default());
    let job = v1::Job { result: Some(v1::Result { report: Some(report) }), ..v1::Job::default() };
    has(finished_job(&job), &["to_lsn", "before", "files_changed", "bytes_written", "elapsed_seconds"]);
}
