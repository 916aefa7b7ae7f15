//! Answers of servers and what kind of failure they are.

use super::*;

fn answer(status: u16, body: &str) -> Answer {
    Answer::new(status, body.as_bytes())
}

fn with_code(status: u16, code: &str) -> StoreErrorKind {
    answer(status, &format!("<?xml?><Error><Code>{code}</Code></Error>")).kind()
}

#[test]
fn kinds_of_answers() {
    assert_eq!(with_code(503, "SlowDown"), StoreErrorKind::Unavailable);
    assert_eq!(with_code(429, ""), StoreErrorKind::Unavailable);
    assert_eq!(with_code(408, ""), StoreErrorKind::Unavailable);
    assert_eq!(with_code(400, "ExpiredToken"), StoreErrorKind::NotPermitted);
    assert_eq!(with_code(403, "AccessDenied"), StoreErrorKind::NotPermitted);
    assert_eq!(with_code(400, "InvalidArgument"), StoreErrorKind::Other);
    assert_eq!(with_code(416, "InvalidRange"), StoreErrorKind::Other);
    assert_eq!(with_code(507, ""), StoreErrorKind::Full);
    assert_eq!(with_code(503, "XMinioStorageFull"), StoreErrorKind::Full);
    assert_eq!(with_code(404, "NoSuchBucket"), StoreErrorKind::NoBucket);
    assert_eq!(with_code(404, "NoSuchKey"), StoreErrorKind::Other);
    assert_eq!(with_code(409, "BlobImmutableDueToPolicy"), StoreErrorKind::NotPermitted);
    assert_eq!(answer(404, "").or_code(Some(b"ContainerNotFound")).kind(), StoreErrorKind::NoBucket);
    // The body's word is the stronger.
    let both = answer(404, "<Code>BlobNotFound</Code>").or_code(Some(b"ContainerNotFound"));
    assert_eq!(both.code, "BlobNotFound");
    assert_eq!(answer(404, "").or_code(Some(b"a\nb")).code, "a b");
}

#[test]
fn the_words_of_the_server_are_cut_and_cleaned() {
    let long = "x\n".repeat(1000);
    let refused = answer(400, &format!("<Error><Code>A</Code><Message>{long}</Message></Error>"));
    assert_eq!(refused.code, "A");
    assert_eq!(refused.message.chars().count(), MESSAGE_MAX);
    assert!(!refused.message.contains('\n'));
    for body in ["", "<Code>", "</Code><Code>", "not xml", "\u{FFFD}"] {
        assert_eq!(answer(400, body).code, "");
    }
    assert_eq!(Answer::new(400, &[0xff, 0xfe]).message, "");
}

#[test]
fn a_body_is_read_to_its_limit_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = |bytes: Vec<u8>| HttpResponse::new(HttpResponseBody::from(bytes));
        let (again, bytes) = read_body(response(vec![7; 100]), 100).await.unwrap();
        assert_eq!(bytes, vec![7; 100]);
        assert_eq!(again.into_body().bytes().await.unwrap(), bytes);
        let refused = read_body(response(vec![7; 101]), 100).await.unwrap_err();
        assert_eq!(refused.kind(), HttpErrorKind::Decode);
    });
}
