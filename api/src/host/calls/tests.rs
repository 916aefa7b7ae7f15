//! Whose word counts for which host.

use super::speaks_for;

#[test]
fn a_master_speaks_for_itself_only() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(speaks_for(&names(&["a"]), "a").is_ok());
    assert!(speaks_for(&names(&["other", "a"]), "a").is_ok());
    for (known, host) in [(names(&["a"]), "b"), (names(&[]), "a"), (names(&["a.example"]), "a")] {
        assert!(speaks_for(&known, host).is_err(), "{known:?} as {host}");
    }
}
