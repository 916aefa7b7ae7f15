//! A note comes back as it was, golden bytes hold its layout, and no other bytes are one.

use super::*;

fn note() -> Note {
    let thaw = "touch /tmp/thawed".to_owned();
    let (scenario, id, roots) = ("docs".into(), "7f".into(), vec![b"/srv/\xff".to_vec()]);
    Note { scenario, id, roots, thaw, limit: Duration::from_secs(60), quiesce: None }
}

#[test]
fn comes_back() {
    let place = tempfile::tempdir().unwrap();
    let path = path_in(place.path(), "docs");
    assert!(Note::list(&place.path().join("nowhere")).unwrap().is_empty());
    for quiesce in [None, Process::of(std::process::id())] {
        let note = Note { quiesce, ..note() };
        note.write(&path).unwrap();
        assert_eq!(Note::read(&path).unwrap(), Some(note));
        assert_eq!(Note::list(place.path()).unwrap(), std::slice::from_ref(&path));
    }
    Note::remove(&path).unwrap();
    assert!(Note::list(place.path()).unwrap().is_empty());
}

#[test]
fn golden_bytes() {
    let place = tempfile::tempdir().unwrap();
    let path = path_in(place.path(), "docs");
    note().write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let body: String = bytes.iter().skip(MAGIC.len() + 66).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(body, "04646f637302376601062f7372762fff11746f756368202f746d702f746861776564fb60ea00");
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x20;
        assert_eq!(Note::parse(&bad), None, "flipped at {at}");
        assert_eq!(Note::parse(&bytes[..at]), None, "cut at {at}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(Note::parse(&longer), None);
}
