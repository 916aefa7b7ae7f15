//! Ids and names print and parse; nothing else parses.

use super::*;

#[test]
fn ids_print_and_parse() {
    let id = Id::of(b"abc");
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(id.to_string(), text);
    assert_eq!(Id::parse(text), Some(id));
    assert_eq!(Id::parse(&text.to_uppercase()), Some(id));
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<Id>(&format!("\"{text}\"")).unwrap(), id);
    assert!(id.starts_with("ba78") && id.starts_with("") && !id.starts_with("bb"));
    for bad in ["", "ba", &text[..63], &format!("{text}0"), &text.replace('b', "g"), &"é".repeat(32)] {
        assert_eq!(Id::parse(bad), None, "{bad}");
    }
}

#[test]
fn names_of_objects() {
    let id = Id::of(b"abc");
    for kind in [ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot, ObjectKind::Key, ObjectKind::Lock]
    {
        assert_eq!(kind.id_in(&kind.name(&id)), Some(id), "{kind:?}");
    }
    assert!(ObjectKind::Pack.name(&id).starts_with("data/ba/ba78"));
    assert_eq!(ObjectKind::Index.id_in(&format!("index/{id}.tmp")), None);
    assert_eq!(ObjectKind::Index.id_in(&format!("index/xy/{id}")), None);
    for misplaced in ["data", "data/abc", "data/bb", "data/BA", "index"] {
        assert_eq!(ObjectKind::Pack.id_in(&format!("{misplaced}/{id}")), None, "{misplaced}");
    }
    assert_eq!(ObjectKind::Index.id_in(&format!("index/{}", id.to_string().to_uppercase())), None);
}
