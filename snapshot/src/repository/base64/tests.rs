//! Base64 against known vectors; what is refused.

use super::*;

#[test]
fn vectors() {
    let cases: [(&[u8], &str); 7] = [
        (b"", ""),
        (b"f", "Zg=="),
        (b"fo", "Zm8="),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg=="),
        (b"fooba", "Zm9vYmE="),
        (&[0xfb, 0xff, 0xfe], "+//+"),
    ];
    for (bytes, text) in cases {
        assert_eq!(encoded(bytes), text);
        assert_eq!(decode(text).unwrap().as_slice(), bytes);
    }
    for bad in ["Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm9ü"] {
        assert!(decode(bad).is_none(), "{bad}");
    }
}
