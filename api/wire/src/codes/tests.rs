//! The catalogue is well formed, and `docs/errors.md` says the same.

use super::*;
use std::collections::BTreeSet;

#[test]
fn numbers_are_unique_and_sorted() {
    let ids: Vec<_> = CATALOGUE.iter().map(|code| code.id).collect();
    let sorted: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(ids, sorted.into_iter().collect::<Vec<_>>());
    for code in CATALOGUE.iter() {
        assert!(code.id.len() == 6 && code.id.starts_with("RW"), "{}", code.id);
        assert!(!code.title.is_empty() && !code.title.ends_with('.'), "{}", code.id);
        assert!(code.reason.ends_with('.') && code.action.ends_with('.'), "{}", code.id);
        assert!(code.exit != Exit::Done && code.grpc != Grpc::Ok, "{}", code.id);
    }
}

#[test]
fn is_found_however_it_is_typed() {
    for text in ["RW0465", "rw0465", "0465", " RW0465 "] {
        assert_eq!(find(text), Some(&NOT_REPLICATING), "{text}");
    }
    for text in ["", "RW", "RW9999", "465"] {
        assert_eq!(find(text), None, "{text}");
    }
}

#[test]
fn exits() {
    for exit in Exit::ALL {
        assert_eq!(Exit::from_number(exit.number()), Some(exit));
    }
    assert_eq!(Exit::from_number(9), None);
}

#[test]
fn the_documentation_says_the_same() {
    let text = include_str!("../../../../docs/errors.md");
    let (_, documented) = text.split_once("\n## ").expect("no entry");
    let expected: Vec<String> = CATALOGUE.iter().map(|code| entry(code)).collect();
    let documented = format!("## {}", documented.trim_end());
    assert_eq!(documented, expected.join("\n\n"), "docs/errors.md differs from the catalogue");
}

fn entry(code: &Code) -> String {
    format!(
        "## {}: {}\n\nExit status {}, module `{}`.\n\n- Reason: {}\n- Action: {}",
        code.id,
        code.title,
        code.exit.number(),
        code.module,
        code.reason,
        code.action
    )
}
