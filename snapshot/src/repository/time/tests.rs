//! Times print and parse as the format has them.

use super::*;

#[test]
fn prints_and_parses() {
    let cases = [
        (0, 0, "1970-01-01T00:00:00Z"),
        (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
        (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
        (1_795_262_661, 123_456_789, "2026-11-21T12:04:21.123456789Z"),
        (FIRST, 0, "0000-01-01T00:00:00Z"),
        (LAST, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
    ];
    for (seconds, nanoseconds, text) in cases {
        let time = Timestamp { seconds, nanoseconds };
        assert_eq!(time.to_string(), text);
        assert_eq!(Timestamp::parse(text), Some(time), "{text}");
    }
    assert_eq!(
        Timestamp::parse("2015-06-27T12:18:51.75+02:00").unwrap().to_string(),
        "2015-06-27T10:18:51.75Z"
    );
    assert_eq!(Timestamp::parse("2015-06-27T12:18:51-01:30").unwrap().to_string(), "2015-06-27T13:48:51Z");
    assert_eq!(Timestamp { seconds: i64::MIN, nanoseconds: 5 }.to_string(), "0000-01-01T00:00:00Z");
    assert_eq!(Timestamp { seconds: i64::MAX, nanoseconds: 5 }.to_string(), "9999-12-31T23:59:59.999999999Z");
}

#[test]
fn refuses_what_is_no_time() {
    for bad in [
        "",
        "2015",
        "2015-02-29T00:00:00Z",
        "2015-13-01T00:00:00Z",
        "2015-00-01T00:00:00Z",
        "2015-01-01T24:00:00Z",
        "2015-01-01T00:60:00Z",
        "2015-01-01 00:00:00Z",
        "2015-01-01T00:00:00",
        "2015-01-01T00:00:00.Z",
        "2015-01-01T00:00:00+1:00",
        "2015-01-01T00:00:00ZZ",
        "2015-01-01T00:00:0éZ",
    ] {
        assert_eq!(Timestamp::parse(bad), None, "{bad}");
    }
}

#[test]
fn all_days_of_the_format() {
    for day in (FIRST / DAY)..=(LAST / DAY) {
        let (year, month, date) = civil(day);
        assert_eq!(days_of(year, month, date), day);
    }
}
