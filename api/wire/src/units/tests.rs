//! Texts and what they mean.

use super::*;

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("123", 123),
        ("123B", 123),
        ("50GiB", 50 << 30),
        ("50G", 50 << 30),
        ("50 GiB", 50 << 30),
        ("512k", 512 << 10),
        ("1.5TiB", 3 << 39),
        ("0.1kB", 100),
        ("2MB", 2_000_000),
        ("8388608TiB", 1 << 63),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in
        ["", "G", "-1", "1.", ".5G", "1e3", "1..2G", "1XiB", "8388609TiB", "1 2", "99999999999999999999"]
    {
        assert_eq!(parse_size(text), Err(UnitError::Size(text.to_owned())), "{text}");
    }
}

#[test]
fn sizes_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_503_238_553, "1.4 GiB"),
        (1_048_575, "1.0 MiB"),
        (100 << 20, "100 MiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(format_size(bytes), text);
    }
}

#[test]
fn durations() {
    for (text, millis) in [
        ("0s", 0),
        ("7d", 604_800_000),
        ("1h30m", 5_400_000),
        ("90s", 90_000),
        ("250ms", 250),
        ("2w", 1_209_600_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "7", "d", "-1d", "7x", "1.5h", "101y", "99999999999999999999d", "18446744073709551615w"]
    {
        assert_eq!(parse_duration(text), Err(UnitError::Duration(text.to_owned())), "{text}");
    }
    for text in ["7d", "1h30m", "1d2h3m4s5ms", "0s"] {
        assert_eq!(format_duration(parse_duration(text).unwrap()), text);
    }
}
