//! Names that every store can hold, and no others.

use super::*;

#[test]
fn names_that_every_store_holds() {
    for good in ["config", "data/1f/1f00", "a-b_c.d", &vec!["a"; NAME_PARTS_MAX].join("/"), &"x".repeat(200)]
    {
        assert!(is_name(good), "{good:?}");
    }
    let long = vec!["a".repeat(100); 6].join("/");
    for bad in [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/./b",
        ".hidden",
        "a/.b",
        "a b",
        "ä",
        "a\0b",
        "a\\b",
        "a%2fb",
        "a?b",
        &vec!["a"; NAME_PARTS_MAX + 1].join("/"),
        &"x".repeat(201),
        &long,
    ] {
        assert!(!is_name(bad), "{bad:?}");
    }
}

#[test]
fn the_empty_name_is_a_directory_only() {
    assert!(check_directory("list", "").is_ok());
    let refused = check_name("get", "").unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Other);
    assert!(refused.source.downcast_ref::<Cause>().is_some());
    assert!(check_directory("list", "data/").is_err());
}

#[test]
fn a_name_is_split_at_its_last_slash() {
    assert_eq!(split("config"), ("", "config"));
    assert_eq!(split("data/1f/1f00"), ("data/1f", "1f00"));
}
