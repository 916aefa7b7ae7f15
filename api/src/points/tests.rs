//! Every form of POINT, and what is none.

use super::*;

fn check(text: &str, expected: PointSpec) {
    let spec = PointSpec::parse(text).unwrap();
    assert_eq!(spec, expected, "{text}");
    assert_eq!(PointSpec::parse(&spec.to_string()).unwrap(), spec, "{text} does not survive printing");
}

#[test]
fn points() {
    check("now", PointSpec::Now);
    check("before-migration", PointSpec::Bookmark("before-migration".into()));
    check("Release 7, final", PointSpec::Bookmark("Release 7, final".into()));
    check("bookmark:now", PointSpec::Bookmark("now".into()));
    check("lsn:17", PointSpec::Lsn(Lsn::captured(17)));
    check("lsn:17.4", PointSpec::Lsn(Lsn::local(17, 4)));
    check("-10m", PointSpec::Ago(Duration::from_secs(600)));
    check("-1d12h", PointSpec::Ago(Duration::from_secs(129_600)));
    check("time:1970-01-01T00:00:01.000000005Z", PointSpec::Time(Timestamp(1_000_000_005)));
    check("time:1970-01-01T01:00:00+01:00", PointSpec::Time(Timestamp(0)));
}

#[test]
fn what_is_none() {
    for text in [
        "",
        "-",
        "-10",
        "-x",
        "lsn:",
        "lsn:x",
        "lsn:1.0",
        "time:",
        "time:yesterday",
        "time:2026-11-21T17:05:00",
        "x:y",
        "bookmark:",
        "bookmark:a:b",
        " x",
        "a/b",
        "a\nb",
    ] {
        let error = PointSpec::parse(text).unwrap_err();
        assert_eq!(error.code().id, "RW1007", "{text:?}");
    }
    assert_eq!(PointSpec::parse("last-good").unwrap(), PointSpec::LastGood(None));
    assert_eq!(PointSpec::parse("last-good:7-12").unwrap(), PointSpec::LastGood(Some((7, 12))));
    assert_eq!(PointSpec::LastGood(Some((7, 12))).to_string(), "last-good:7-12");
    for bad in ["last-good:", "last-good:7", "last-good:12-7", "last-good:7-", "last-good:a-b"] {
        assert_eq!(PointSpec::parse(bad).unwrap_err().code().id, "RW1007", "{bad}");
    }
}

#[test]
fn times() {
    let now = Timestamp(100_000_000_000);
    for (text, nanos) in [
        ("-10s", 90_000_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("time:1970-01-01T00:00:01Z", 1_000_000_000),
    ] {
        assert_eq!(TimeSpec::parse(text).unwrap().resolve(now), Timestamp(nanos), "{text}");
    }
    for text in ["", "10m", "now", "2026-11-21"] {
        assert!(TimeSpec::parse(text).is_err(), "{text}");
    }
}

#[test]
fn names_of_bookmarks() {
    for name in ["a", "2026-11-21_17.05.00", "\u{e4}\u{f6}", "x y"] {
        assert!(check_bookmark_name(name).is_ok(), "{name}");
    }
    for name in ["", "-a", "a:b", "now", "last-good", "a/b", " a", "a\0", &"x".repeat(201)] {
        assert_eq!(check_bookmark_name(name).unwrap_err().code().id, "RW1013", "{name}");
    }
    let name = default_bookmark_name(Timestamp(1_795_241_100_000_000_000));
    assert_eq!(name, "2026-11-21_06.05.00");
    assert!(check_bookmark_name(&name).is_ok());
}
