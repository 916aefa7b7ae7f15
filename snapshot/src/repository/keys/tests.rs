//! Several keys; hostile parameters are refused before any work; keys do not show.

use super::*;
use crate::repository::testing::{MemoryStore, fresh, password, quick};
use crate::repository::{Repository, RepositoryErrorKind};
use std::sync::Arc;

#[test]
fn several_keys() {
    let (store, repository) = fresh();
    let second = repository.add_key(&password("other")).unwrap();
    assert_eq!(repository.list_keys().unwrap().len(), 2);
    let open = |word| Repository::open_with(Arc::clone(&store) as _, &password(word), quick());
    assert_eq!(open("other").unwrap().key_id(), second);
    assert_eq!(open("secret").unwrap().key_id(), repository.key_id());
    let in_use = repository.remove_key(&repository.key_id()).unwrap_err();
    assert_eq!(in_use.kind(), RepositoryErrorKind::Refused);
    repository.remove_key(&second).unwrap();
    assert_eq!(repository.remove_key(&second).unwrap_err().kind(), RepositoryErrorKind::NotFound);
    assert_eq!(open("other").unwrap_err().kind(), RepositoryErrorKind::WrongPassword);
}

/// Parameters that would take all memory or all day are refused before any work; another key still opens.
#[test]
fn hostile_parameters() {
    let (store, repository) = fresh();
    let name = ObjectKind::Key.name(&repository.key_id());
    let json = String::from_utf8(store.get(&name, 10_000).unwrap().to_vec()).unwrap();
    for (old, new) in [
        ("\"N\":16", "\"N\":1152921504606846976"),
        ("\"N\":16", "\"N\":9223372036854775808"),
        ("\"N\":16", "\"N\":15"),
        ("\"N\":16", "\"N\":0"),
        ("\"N\":16", "\"N\":1"),
        ("\"N\":16", "\"N\":-16"),
        ("\"r\":8", "\"r\":4294967295"),
        ("\"r\":8", "\"r\":0"),
        ("\"p\":1", "\"p\":4294967295"),
        ("\"p\":1", "\"p\":0"),
        ("scrypt", "md5"),
        ("\"salt\":\"", "\"salt\":\"!"),
        ("\"data\":\"", "\"data\":\"!"),
    ] {
        let hostile = json.replace(old, new);
        assert_ne!(hostile, json);
        store.put(&name, hostile.into()).unwrap();
        let error = Repository::open_with(Arc::clone(&store) as _, &password("secret"), quick()).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, RepositoryErrorKind::Refused | RepositoryErrorKind::Damaged),
            "{new}: {kind:?}"
        );
    }
    let other = repository.add_key(&password("other")).unwrap();
    let opened = Repository::open_with(Arc::clone(&store) as _, &password("other"), quick()).unwrap();
    assert_eq!(opened.key_id(), other);
    let store: Arc<MemoryStore> = store;
    let cost = KeyCost { log_n: 63, r: 8, p: 1 };
    let refused = create(&*store, repository.seal_key(), &password("x"), cost, &Default::default());
    assert_eq!(refused.unwrap_err().kind(), RepositoryErrorKind::Refused);
}

/// The key is nowhere in the clear, and not in what debugging prints.
#[test]
fn keys_do_not_show() {
    let (store, repository) = fresh();
    let text = format!("{repository:?}");
    assert!(text.contains("SealKey(..)"), "{text}");
    let key = &repository.seal_key().encrypt;
    for bytes in store.objects.lock().values() {
        assert!(!bytes.windows(32).any(|window| window == key));
    }
}
