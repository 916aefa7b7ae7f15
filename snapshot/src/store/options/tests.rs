//! Options as they are typed, and what is refused.

use super::*;

#[test]
fn options_as_typed() {
    let options = StoreOptions::from_pairs([
        ("endpoint", "http://127.0.0.1:9000/"),
        ("region", "eu-1"),
        ("allow_http", "true"),
        ("bandwidth", "20M"),
        ("connections", "4"),
        ("retry", "5"),
    ])
    .unwrap();
    assert_eq!(
        options,
        StoreOptions {
            endpoint: Some("http://127.0.0.1:9000".into()),
            region: Some("eu-1".into()),
            allow_http: Some(true),
            bandwidth: Some(20 << 20),
            connections: 4,
            retry: Duration::from_secs(5),
        }
    );
    assert_eq!(StoreOptions::from_pairs([]).unwrap(), StoreOptions::default());
}

#[test]
fn options_refused() {
    for (name, value) in [
        ("endpoint", "host:9000"),
        ("endpoint", "ftp://host"),
        ("endpoint", "http://user:secret@host"),
        ("region", ""),
        ("allow_http", "yes"),
        ("bandwidth", "0"),
        ("bandwidth", "1K"),
        ("bandwidth", "fast"),
        ("bandwidth", "20T"),
        ("bandwidth", "99999999999999G"),
        ("connections", "0"),
        ("connections", "1025"),
        ("retry", "-1"),
        ("retry", "601"),
    ] {
        let refused = StoreOptions::from_pairs([(name, value)]);
        assert!(matches!(refused, Err(OptionError::BadValue { .. })), "{name}={value}: {refused:?}");
    }
    assert!(matches!(StoreOptions::from_pairs([("bandwith", "1M")]), Err(OptionError::Unknown { .. })));
}

#[test]
fn bytes_with_units() {
    for (typed, expected) in [
        ("1048576", Some(1 << 20)),
        ("500K", Some(500 << 10)),
        ("1MiB", Some(1 << 20)),
        ("1MB", Some(1 << 20)),
        ("2G", Some(2 << 30)),
        ("16384B", Some(16384)),
        ("", None),
        ("M", None),
        ("1.5M", None),
        ("1i", None),
    ] {
        assert_eq!(bytes(typed), expected, "{typed:?}");
    }
}

#[test]
fn an_environment_prints_no_value() {
    let environment = Environment::from_pairs([("AWS_SECRET_ACCESS_KEY", "hunter2"), ("EMPTY", "")]);
    assert!(!format!("{environment:?}").contains("hunter2"));
    assert_eq!(environment.get("AWS_SECRET_ACCESS_KEY"), Some("hunter2"));
    assert_eq!(environment.get("EMPTY"), None);
    assert_eq!(environment.with_prefix("AWS_").count(), 1);
}
