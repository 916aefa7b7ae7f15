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
fn a_refusal_within_a_batch_is_found() {
    let batch = |part: &str| {
        let head = "--batchresponse_1\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\n";
        refused_part(format!("{head}{part}\r\n--batchresponse_1--").as_bytes())
    };
    assert!(batch("HTTP/1.1 202 Accepted\r\nx-ms-request-id: 1\r\n\r\n").is_none());
    let text =
        "HTTP/1.1 404 The specified container does not exist.\r\nx-ms-error-code: ContainerNotFound\r\n\r\n";
    assert_eq!(batch(text).unwrap().kind(), StoreErrorKind::NoBucket);
    let text = "HTTP/1.1 404 The specified blob does not exist.\r\nX-Ms-Error-Code: BlobNotFound\r\n\r\n";
    let missing = batch(text).unwrap();
    assert_eq!((missing.status, missing.code.as_str()), (404, "BlobNotFound"));
    let text =
        "HTTP/1.1 409 No\r\nContent-Length: 99\r\n\r\n<Error><Code>BlobImmutableDueToPolicy</Code></Error>";
    assert_eq!(batch(text).unwrap().kind(), StoreErrorKind::NotPermitted);
    assert_eq!(batch("HTTP/1.1 403 No\r\n\r\n").unwrap().kind(), StoreErrorKind::NotPermitted);
    assert_eq!(batch("HTTP/1.1 503 No\r\n\r\n").unwrap().kind(), StoreErrorKind::Unavailable);
    for none in ["", "HTTP/1.1 ", "HTTP/1.1 4", "HTTP/1.1 x03 No", "HTTP/2 403"] {
        assert!(batch(none).is_none(), "{none:?}");
    }
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
