//! Which definitions are refused, and with which code.

use super::*;

fn root(master: &str, replica: Option<&str>) -> Root {
    Root { master: master.into(), replica: replica.map(PathBuf::from) }
}

fn check(roots: Vec<Root>, expected: Option<&str>) {
    let definition = Definition::new("docs", roots);
    let code = definition.check(Placement::Together).err().map(|error| error.code().id);
    assert_eq!(code, expected, "{:?}", definition.roots);
}

#[test]
fn roots() {
    check(vec![root("/srv/a", None), root("/srv/ab", None)], None);
    check(vec![root("/srv/a", Some("/r/a")), root("/srv/b", Some("/r/b"))], None);
    check(vec![], Some("RW1014"));
    check(vec![root("relative", None)], Some("RW1014"));
    check(vec![root("/", None)], Some("RW1014"));
    check(vec![root("/srv/../etc", None)], Some("RW1014"));
    check(vec![root("/srv/a", None), root("/srv/a/b", None)], Some("RW1011"));
    check(vec![root("/srv/a", None), root("/srv/a/", None)], Some("RW1011"));
    check(vec![root("/srv/a", Some("/srv/a/replica"))], Some("RW1011"));
    check(vec![root("/srv/a/deep", Some("/srv/a"))], Some("RW1011"));
    check(vec![root("/srv/a", Some("/r")), root("/srv/b", Some("/r/b"))], Some("RW1011"));
    let apart = Definition::new("docs", vec![root("/srv/a", Some("/srv/a"))]);
    assert!(apart.check(Placement::Apart).is_ok());
}

#[test]
fn names() {
    for name in ["docs", "Docs-2", "a.b_c", "0"] {
        assert!(check_name(name, "scenario").is_ok(), "{name}");
    }
    for name in ["", "-a", ".a", "a/b", "a b", "\u{e4}", "server", &"x".repeat(65)] {
        assert_eq!(check_name(name, "scenario").unwrap_err().code().id, "RW1013", "{name}");
    }
}

#[test]
fn beside_others() {
    let one = Definition::new("one", vec![root("/srv/a", Some("/r/a"))]);
    let check = |two: Definition, expected: Option<&str>| {
        let code = two.check_beside([&one], Placement::Together).err().map(|error| error.code().id);
        assert_eq!(code, expected, "{two:?}");
    };
    check(Definition::new("two", vec![root("/srv/a", Some("/r/b"))]), None);
    check(Definition::new("one", vec![root("/srv/b", None)]), Some("RW1003"));
    check(Definition::new("two", vec![root("/srv/b", Some("/r/a/deep"))]), Some("RW1011"));
    check(Definition::new("two", vec![root("/r", Some("/elsewhere"))]), Some("RW1011"));
    check(Definition::new("two", vec![root("/srv/b", Some("/srv/a/x"))]), Some("RW1011"));
}

#[test]
fn settings() {
    let before = Definition::new("docs", vec![root("/srv/a", None)]);
    let set = |pairs: &[(&str, &str)]| {
        let settings: Vec<_> =
            pairs.iter().map(|(key, value)| Setting { key: (*key).into(), value: (*value).into() }).collect();
        before.with_settings(&settings)
    };
    let after = set(&[
        ("retention", "2d"),
        ("journal_max", "1GiB"),
        ("rewind", "off"),
        ("exclude", "*.tmp"),
        ("exclude", "/srv/a/cache/**"),
        ("auto-resync", "always"),
    ])
    .unwrap();
    assert_eq!(after.retention, Duration::from_secs(172_800));
    assert_eq!((after.journal_bytes_max, after.rewind), (1 << 30, false));
    assert_eq!(after.excludes, ["*.tmp", "/srv/a/cache/**"]);
    assert_eq!(after.auto_resync, AutoResync::Always);
    assert_eq!(set(&[("exclude", "")]).unwrap().excludes, Vec::<String>::new());
    for (key, value) in [
        ("retention", "soon"),
        ("rewind", "maybe"),
        ("journal-max", "-1"),
        ("root", "/x"),
        ("colour", "blue"),
    ] {
        assert_eq!(set(&[(key, value)]).unwrap_err().code().id, "RW1014", "{key}");
    }
}
