//! Tokens go out and come back; what nobody gave out is refused.

use super::*;

#[test]
fn tokens_come_back_as_they_went() {
    let id = Id([7; 32]);
    let inner = PageToken::from_bytes(b"\x01\x02\0\0\0/a/b").unwrap();
    for token in [
        Token::start(),
        Token::Catalog(Some(inner)),
        Token::Session(None),
        Token::Session(Some((id, 9))),
        Token::Window(None),
        Token::Window(Some(("docs".into(), b"/srv/\xff".to_vec()))),
    ] {
        assert_eq!(Token::from_bytes(&token.to_bytes()).unwrap(), token);
    }
}

#[test]
fn others_are_refused() {
    for bytes in [&b""[..], b"\x00", b"\x04", b"\x01x", b"\x02short", b"\x03no end", b"\x03\xff\0/a"] {
        assert_eq!(Token::from_bytes(bytes).unwrap_err().code(), &codes::BAD_PARAMETERS, "{bytes:?}");
    }
}
