//! From which size on a spool is too small.

use super::small_spool;

#[test]
fn a_spool_below_a_tenth_of_the_data_set_is_small() {
    assert_eq!(small_spool(5 << 30, 0), None);
    assert_eq!(small_spool(5 << 30, 50 << 30), None);
    let text = small_spool(5 << 30, 60 << 30).unwrap();
    assert!(text.contains("(5.0 GiB)") && text.contains("(60.0 GiB)"), "{text}");
}
