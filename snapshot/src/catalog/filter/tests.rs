//! What a block has, its filter never denies; what it has not, the filter denies nearly always.

use super::super::path::split;
use super::*;

fn filter(paths: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = FilterBuilder::default();
    paths.iter().for_each(|path| builder.push(split(path)));
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert!(is_sound(out.len()), "{}", out.len());
    out
}

fn paths(count: u64) -> Vec<Vec<u8>> {
    let path = |number: u64| format!("/srv/d{}/\u{e9}name-{:05}.txt", number / 50, number * 7919 % 65536);
    (0..count).map(|number| path(number).into_bytes()).collect()
}

#[test]
fn what_is_there_is_never_denied() {
    for count in [0, 1, 2, 40, 4096] {
        let mut paths = paths(count);
        paths.extend([b"/".to_vec(), b"/a".to_vec(), b"/ab".to_vec(), b"/a/b".to_vec()]);
        let filter = filter(&paths);
        for path in &paths {
            for from in 0..path.len() {
                for to in from..path.len() + 1 {
                    let text = &path[from..to];
                    assert!(
                        Runs::of(&[text]).may_be_in(&filter),
                        "{count}: {:?}",
                        String::from_utf8_lossy(text)
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_not_there_is_denied_nearly_always() {
    let filter = filter(&paths(4096));
    assert!(filter.len() <= FILTER_BYTES_MAX / 2, "{}", filter.len());
    let allowed =
        (0..1000).filter(|number| Runs::of(&[format!("qz{number}xv").as_bytes()]).may_be_in(&filter));
    assert!(allowed.count() < 20);
}

#[test]
fn a_small_block_has_a_small_filter() {
    assert!(filter(&paths(1)).len() <= 128);
    assert_eq!(filter(&[]).len(), FILTER_BYTES_MIN);
    assert!(!is_sound(0) && !is_sound(9) && !is_sound(4) && !is_sound(2 * FILTER_BYTES_MAX));
}

#[test]
fn a_short_text_may_be_anywhere() {
    assert!(Runs::of(&[b""]).is_empty() && Runs::of(&[b"ab"]).is_empty());
    assert!(Runs::of(&[b"ab"]).may_be_in(&filter(&[])));
    assert!(!Runs::of(&[b"abc"]).may_be_in(&filter(&[])));
}
