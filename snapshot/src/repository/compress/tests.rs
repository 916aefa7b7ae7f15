//! What is compressed comes back; bombs stop at the limit.

use super::*;

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn round_trip_of_all_sizes() {
    let mut codec = Codec::new(3).unwrap();
    for length in [1, 100, 1 << 20, WHOLE_BYTES + 1] {
        for plain in [vec![b'a'; length], noise(length)] {
            let packed = codec.compress(&plain).unwrap().to_vec();
            let mut out = vec![1, 2, 3];
            assert!(codec.decompress(&packed, length, &mut out));
            assert_eq!(out, plain);
            assert!(!codec.decompress(&packed, length - 1, &mut out));
            assert!(!codec.decompress(&packed, length + 1, &mut out));
            assert!(!codec.decompress(&packed[..packed.len() - 1], length, &mut out));
        }
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 3).unwrap();
    assert!(bomb.len() < 100_000);
    let mut out = Vec::new();
    let mut codec = Codec::new(3).unwrap();
    assert!(!codec.decompress(&bomb, 1000, &mut out));
    assert!(out.capacity() < WHOLE_BYTES);
    assert!(!codec.decompress(&bomb, WHOLE_BYTES + 1, &mut out));
    assert!(out.capacity() <= 4 * WHOLE_BYTES);
    let mut file = vec![2];
    file.extend_from_slice(&bomb);
    assert!(unpack_unpacked(&file, 1 << 20).is_none());
    assert_eq!(unpack_unpacked(&file, 256 << 20).unwrap().len(), 256 << 20);
}

#[test]
fn unpacked_files() {
    let json = br#"{"a":1}"#;
    assert_eq!(unpack_unpacked(json, 100).unwrap(), json);
    assert_eq!(unpack_unpacked(&pack_unpacked(json).unwrap(), 100).unwrap(), json);
    for bad in [&b""[..], b"\x02", b"\x03{}", b"\x02{}", b"x"] {
        assert!(unpack_unpacked(bad, 100).is_none());
    }
}

#[test]
fn differing_bytes_are_noticed() {
    let packed = zstd::bulk::compress(b"hello", 3).unwrap();
    assert!(unpacks_to(&packed, b"hello").unwrap());
    for other in [&b"hellx"[..], b"hell", b"hello!", b""] {
        assert!(!unpacks_to(&packed, other).unwrap());
    }
}
