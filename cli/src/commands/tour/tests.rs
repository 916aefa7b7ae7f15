//! The tour's own eyes: copies are equal, and every kind of difference is seen.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    sample::make(&a).unwrap();
    copy::copy(&a, &b).unwrap();
    (place, a, b)
}

#[test]
fn a_copy_is_equal() {
    let (_place, a, b) = tree();
    let comparison = compare(&a, &b).unwrap();
    assert_eq!(comparison.differences, Vec::<String>::new());
    assert!(comparison.objects > 300 && comparison.bytes > 18 << 20);
}

#[test]
fn edits_work_on_what_they_find() {
    let (_place, a, b) = tree();
    for edit in [edits::work, edits::more_work, edits::ruin] {
        assert!(!edit(&a).unwrap().is_empty());
        assert!(!compare(&a, &b).unwrap().differences.is_empty());
    }
    let nearly_empty = tempfile::tempdir().unwrap();
    for edit in [edits::work, edits::more_work, edits::ruin] {
        edit(nearly_empty.path()).unwrap();
    }
}

#[test]
fn every_difference_is_seen() {
    let (_place, a, b) = tree();
    let odd = b.join("odd things");
    let check = |what: &str, spoil: &dyn Fn(), mend: &dyn Fn()| {
        spoil();
        let comparison = compare(&a, &b).unwrap();
        assert!(comparison.differences.iter().any(|line| line.contains(what)), "{what}: {comparison:?}");
        mend();
    };
    let again = || {
        std::fs::remove_dir_all(&b).unwrap();
        copy::copy(&a, &b).unwrap();
    };
    let film = b.join("media/film.bin");
    check(
        "other bytes",
        &|| {
            let mut bytes = std::fs::read(&film).unwrap();
            bytes[2 << 20] ^= 1;
            std::fs::write(&film, bytes).unwrap();
        },
        &again,
    );
    check(
        "modified at",
        &|| {
            drop(
                std::fs::File::create(odd.join("empty/x"))
                    .and_then(|_| std::fs::remove_file(odd.join("empty/x"))),
            )
        },
        &again,
    );
    check(
        "mode",
        &|| std::fs::set_permissions(odd.join("script.sh"), std::fs::Permissions::from_mode(0o700)).unwrap(),
        &again,
    );
    check("should not be there", &|| std::fs::write(odd.join("more"), b"").unwrap(), &again);
    check("No such file", &|| std::fs::remove_file(odd.join("no bytes")).unwrap(), &again);
    check(
        "another target",
        &|| {
            std::fs::remove_file(odd.join("link")).unwrap();
            symlink("elsewhere", odd.join("link")).unwrap();
        },
        &again,
    );
    check(
        "another kind",
        &|| {
            std::fs::remove_file(odd.join("pipe")).unwrap();
            std::fs::write(odd.join("pipe"), b"").unwrap();
        },
        &again,
    );
    check(
        "hard links",
        &|| {
            std::fs::copy(odd.join("script.sh"), odd.join("third")).unwrap();
            std::fs::rename(odd.join("third"), odd.join("second name")).unwrap();
        },
        &again,
    );
    check(
        "extended attributes",
        &|| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(odd.join("script.sh"), "user.origin", b"other", flags).unwrap();
        },
        &again,
    );
}

#[test]
fn quoting() {
    for (word, quoted) in
        [("a/b-c.d=e:f", "a/b-c.d=e:f"), ("a b", "'a b'"), ("", "''"), ("it's", "'it'\\''s'")]
    {
        assert_eq!(quote(word), quoted);
    }
}
