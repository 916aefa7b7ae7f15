//! Addresses parse and print as themselves; what is refused never repeats a secret.

use super::*;

fn parse(typed: &str) -> Result<StoreUrl, UrlError> {
    typed.parse()
}

#[test]
fn every_kind_parses_and_prints_as_itself() {
    for (typed, printed) in [
        ("file:///srv/backup", "file:///srv/backup"),
        ("file:///srv/backup/", "file:///srv/backup"),
        ("file:///", "file:///"),
        ("file:///a%20b/%FF", "file:///a%20b/%FF"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://my.bucket-1/a", "s3://my.bucket-1/a"),
        ("az://container/prefix", "az://container/prefix"),
        ("gs://bucket/prefix", "gs://bucket/prefix"),
        ("memory://", "memory://"),
    ] {
        let url = parse(typed).unwrap();
        assert_eq!(url.to_string(), printed);
        assert_eq!(parse(printed).unwrap(), url);
    }
    assert_eq!(
        parse("s3://bucket/a/b").unwrap(),
        StoreUrl::S3 { bucket: "bucket".into(), prefix: "a/b".into() }
    );
    assert_eq!(parse("file:///srv/x").unwrap(), StoreUrl::Directory("/srv/x".into()));
}

#[test]
fn what_is_refused() {
    for typed in ["", "/srv/backup", "backup", "s3:", "http://host/x", "sftp://host/x"] {
        let refused = parse(typed).unwrap_err();
        assert!(
            matches!(
                refused,
                UrlError::Malformed { .. } | UrlError::UnknownScheme { .. } | UrlError::NoBucket { .. }
            ),
            "{typed}: {refused:?}"
        );
    }
    for typed in ["s3://", "s3:///prefix", "s3:bucket", "s3://bucket:80/x", "gs://", "az:///"] {
        assert!(matches!(parse(typed), Err(UrlError::NoBucket { .. })), "{typed}");
    }
    for typed in ["s3://bucket/a//b", "s3://bucket/.a", "s3://bucket/a%20b", "s3://bucket/a*b"] {
        assert!(matches!(parse(typed), Err(UrlError::BadPrefix { .. })), "{typed}");
    }
    for typed in ["file:srv", "file:/srv", "file://srv/x", "file://", "memory://x"] {
        assert!(matches!(parse(typed), Err(UrlError::NotAPath { .. })), "{typed}");
    }
    assert_eq!(parse("tape:///dev/nst0").unwrap(), StoreUrl::Tape("/dev/nst0".into()));
    assert_eq!(parse("tape:///srv/tapes/").unwrap().to_string(), "tape:///srv/tapes");
    for bad in ["tape://", "tape:///", "tape://host/x", "tape:///a/../b"] {
        assert!(matches!(parse(bad), Err(UrlError::NotADrive(_))), "{bad}");
    }
}

#[test]
fn secrets_in_an_address_are_refused_and_not_repeated() {
    for typed in [
        "s3://key:hunter2@bucket/x",
        "s3://key:hunter2@/x",
        "s3://bucket/x?secret=hunter2",
        "s3://bucket/x#hunter2",
        "az://c?sig=hunter2",
        "https://key:hunter2@[bad/x",
    ] {
        let refused = parse(typed).unwrap_err();
        assert!(matches!(refused, UrlError::NotPlain), "{refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}
