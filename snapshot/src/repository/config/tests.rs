//! Polynomials and versions of configs.

use super::*;
use crate::repository::error::RepositoryErrorKind;

/// Polynomials that restic made, and what they become when a bit is changed.
#[test]
fn polynomials() {
    for good in [0x0025_b468_838d_cb75, 0x0027_2620_d840_e523, 0x003d_a335_8b4d_c173] {
        assert!(is_irreducible(good), "{good:x}");
        assert!(!is_irreducible(good ^ 1));
        assert!(!is_irreducible(good << 1));
        assert!(!is_irreducible(good >> 1));
    }
    // (x^26 + x + 1)(x^27 + x^2 + x + 1), which has no roots... but divisors.
    let (a, b) = ((1u64 << 26) | 3, (1u64 << 27) | 6 | 1);
    let product = (0..27).filter(|i| a >> i & 1 == 1).fold(0, |all, i| all ^ b << i);
    assert_eq!(product >> 53, 1);
    assert!(!is_irreducible(product));
    for bad in [0, 1, 2, u64::MAX, 1 << 53] {
        assert!(!is_irreducible(bad));
    }
}

#[test]
fn versions() {
    let config = Config::random().unwrap();
    let json = String::from_utf8(config.to_json().unwrap()).unwrap();
    assert!(json.starts_with(r#"{"version":2,"id":""#), "{json}");
    assert_eq!(Config::from_json(json.as_bytes()).unwrap(), config);
    assert!(Config::from_json(json.replace(":2", ":1").as_bytes()).is_ok());
    for (change, kind) in [
        ((":2", ":3"), RepositoryErrorKind::UnsupportedVersion),
        ((":2", ":0"), RepositoryErrorKind::UnsupportedVersion),
        ((":2", ":-1"), RepositoryErrorKind::Damaged),
        (("polynomial\":\"", "polynomial\":\"1"), RepositoryErrorKind::Damaged),
        (("}", ""), RepositoryErrorKind::Damaged),
    ] {
        let error = Config::from_json(json.replace(change.0, change.1).as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{change:?}");
    }
}
