//! Headers, records and maps by themselves.

use super::{label, node, scratch};
use crate::repository::{Id, Node, NodeKind, Timestamp, Xattr};
use crate::tape::archive::member::{Before, Head, Role};
use crate::tape::archive::sparse::{MapReader, encode, stored};
use crate::tape::archive::ustar::Ustar;
use crate::tape::archive::{
    ArchiveErrorKind, LabelFields, Member, MemberKind, SessionLabel, SessionWriter, acl, data_of, padding,
    path_refusal, pax,
};

fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

#[test]
fn times_are_exact_on_both_sides_of_1970() {
    let cases = [
        (time(0, 0), "0"),
        (time(5, 500_000_000), "5.5"),
        (time(-1, 0), "-1"),
        (time(-2, 500_000_000), "-1.5"),
        (time(-1, 999_999_999), "-0.000000001"),
        (time(1_700_000_000, 1), "1700000000.000000001"),
        (time(i64::MAX, 999_999_999), "9223372036854775807.999999999"),
    ];
    for (time, text) in cases {
        assert_eq!(pax::time_text(time), text);
        assert_eq!(pax::time_of(text.as_bytes()), Some(time), "{text}");
    }
    for text in ["", "-", ".5", "1.", "1.0000000001", "+1", "1e3", "9223372036854775808", "0x1", "1 "] {
        assert_eq!(pax::time_of(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn records_count_their_own_digits() {
    for length in (0..130).chain(980..1000).chain(99_970..99_999) {
        let value = vec![b'v'; length];
        let mut records = Vec::new();
        pax::put(&mut records, b"k=\n".strip_suffix(b"=\n").unwrap(), &value);
        records.extend_from_slice(b"rest");
        assert_eq!(pax::take(&records), Some((&b"k"[..], &value[..], &b"rest"[..])));
    }
    let bad: [&[u8]; 9] = [
        b"",
        b"7 k=v\n",
        b"5 k=v\n",
        b"6 k=v ",
        b"6 kkv\n",
        b"6k=v\n",
        b"99999999999999999999999 k=v\n",
        b"-6 k=v\n",
        b"2 \n",
    ];
    for record in bad {
        assert_eq!(pax::take(record), None, "{}", record.escape_ascii());
    }
}

fn head(path: &[u8], node: Node, stored: u64, sparse: bool) -> Head {
    let (kind, first, offset) = (MemberKind::Node, Vec::new(), 1024);
    let member = Member { path: path.to_vec(), node, kind, first, offset, stored, sparse };
    Head { session: *b"0123abcd", role: Role::Object, before: Before::Content(Id::of(b"x")), member }
}

/// Encodes, and takes the blocks apart again.
fn round(head: &Head) -> Option<Head> {
    let blocks = head.encode().unwrap();
    assert!(blocks.len().is_multiple_of(512));
    let (first, rest) = blocks.split_first_chunk::<512>().unwrap();
    let extended = Ustar::decode(first).unwrap();
    let records = &rest[..extended.size as usize];
    match extended.typeflag {
        b'g' => {
            assert_eq!(rest.len(), records.len() + padding(extended.size));
            Head::decode_hidden(records)
        }
        _ => {
            let behind = &rest[records.len() + padding(extended.size)..];
            Head::decode(records, behind.try_into().unwrap())
        }
    }
}

#[test]
fn a_node_survives_its_header() {
    let path = [b"srv/".as_slice(), &[b'\xff'; 300], b"/name"].concat();
    let large = Node {
        size: u64::MAX,
        uid: u32::MAX,
        gid: 2_097_152,
        user: "u".repeat(40),
        group: "gr\u{fc}ppe".into(),
        permissions: 0o7777,
        modified: time(-3, 7),
        changed: time(1 << 40, 0),
        inode: u64::MAX,
        device_id: u64::MAX,
        links: u64::MAX,
        xattrs: vec![
            Xattr { name: b"user.%3D=%".to_vec(), value: b"\0=\n 5 a=b\n".to_vec() },
            Xattr { name: b"user.\n".to_vec(), value: Vec::new() },
            Xattr { name: b"system.posix_acl_access".to_vec(), value: b"no ACL".to_vec() },
        ],
        ..node("name", NodeKind::File)
    };
    let head = head(&path, large.clone(), u64::MAX, false);
    assert_eq!(round(&head), Some(head));
    let sparse = Node { size: 1 << 40, ..large };
    let head = self::head(&path, sparse, 4608, true);
    assert_eq!(round(&head), Some(head));
}

#[test]
fn every_kind_survives_its_header() {
    use NodeKind::{BlockDevice, CharacterDevice, Directory, Fifo, File, Socket, Symlink};
    for kind in [BlockDevice, CharacterDevice, Directory, Fifo, File, Socket, Symlink] {
        for target in ["t".to_owned(), "t".repeat(101), "\u{f6}".into()] {
            let mut node = node("name", kind);
            if kind == Symlink {
                node.link_target = target.into_bytes();
            }
            if matches!(kind, BlockDevice | CharacterDevice) {
                node.device = rustix::fs::makedev(259, 1_000_000);
            }
            let head = head(b"a/name", node.clone(), 0, false);
            assert_eq!(round(&head), Some(head));
            node.name = vec![b'n'; 255];
            let path = [&[b'p'; 200][..], b"/", &node.name].concat();
            let head = self::head(&path, node, 0, false);
            assert_eq!(round(&head), Some(head));
        }
    }
    // A device number that has no room in a block is hidden.
    let odd = Node { device: u64::MAX, ..node("name", BlockDevice) };
    let head = self::head(b"name", odd, 0, false);
    assert_eq!(round(&head), Some(head));
    let mut link = self::head(b"b/name", Node { size: 77, ..node("name", File) }, 0, false);
    (link.member.kind, link.member.first) = (MemberKind::Link, vec![b'f'; 300]);
    assert_eq!(round(&link), Some(link));
}

#[test]
fn what_cannot_be_archived_is_refused() {
    let plain = node("name", NodeKind::File);
    let bad = [
        (b"name".to_vec(), Node { kind: NodeKind::Other, ..plain.clone() }),
        (b"name".to_vec(), Node { user: "\0".into(), ..plain.clone() }),
        (b"name".to_vec(), Node { xattrs: vec![Xattr { name: vec![], value: vec![] }], ..plain.clone() }),
        (b"../name".to_vec(), plain.clone()),
        (b"/name".to_vec(), plain.clone()),
        (vec![b'n'; 300_000], plain.clone()),
        (
            b"name".to_vec(),
            Node { xattrs: vec![Xattr { name: b"user.x".to_vec(), value: vec![0; 9 << 20] }], ..plain },
        ),
    ];
    for (path, node) in bad {
        assert!(head(&path, node, 0, false).encode().is_err());
    }
}

#[test]
fn names_that_could_leave_the_target_are_refused() {
    let bad: [&[u8]; 10] = [b"", b"/", b"/etc", b"a//b", b"a/", b".", b"..", b"a/../b", b"a/./b", b"a\0b"];
    for path in bad {
        assert!(path_refusal(path).is_some(), "{}", path.escape_ascii());
        // Also where everything else of the header is right.
        let mut head = head(b"harmless", node("harmless", NodeKind::File), 0, false);
        let blocks = head.encode().unwrap();
        head.member.path = path.to_vec();
        assert!(head.encode().is_err());
        drop(blocks);
    }
    assert_eq!(path_refusal(b"a/...b/c."), None);
}

#[test]
fn any_flipped_bit_of_a_header_is_noticed() {
    let node = Node {
        xattrs: vec![Xattr { name: b"user.x".to_vec(), value: b"value".to_vec() }],
        ..node("n\u{f6}", NodeKind::File)
    };
    let head = head("d/n\u{f6}".as_bytes(), node, 0, false);
    let blocks = head.encode().unwrap();
    let decode = |blocks: &[u8]| -> Option<Head> {
        let (first, rest) = blocks.split_first_chunk::<512>()?;
        let extended = Ustar::decode(first)?;
        let records = rest.get(..extended.size as usize)?;
        let behind = rest.get(records.len() + padding(extended.size)..)?;
        Head::decode(records, behind.try_into().ok()?)
    };
    assert_eq!(decode(&blocks).as_ref(), Some(&head));
    let mut noticed = 0;
    for bit in 0..blocks.len() * 8 {
        let mut bad = blocks.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match decode(&bad) {
            None => noticed += 1,
            // Padding says nothing.
            Some(read) => assert_eq!(read, head, "bit {bit}"),
        }
    }
    assert!(noticed > 2 * 512 * 8, "{noticed}");
}

#[test]
fn acls_have_the_text_that_tar_reads() {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 5, 7), (4, 4, 0), (8, 0, 9), (0x10, 7, 0), (0x20, 1, 0)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let text = "user::rw-,user:7:r-x,group::r--,group:9:---,mask::rwx,other::--x".to_owned();
    assert_eq!(acl::text(b"system.posix_acl_default", &value), Some(("SCHILY.acl.default", text)));
    for length in 0..value.len() {
        let cut = acl::text(b"system.posix_acl_access", &value[..length]);
        assert_eq!(cut.is_some(), length > 4 && (length - 4).is_multiple_of(8), "{length}");
    }
    assert_eq!(acl::text(b"user.x", &value), None);
}

#[test]
fn holes_are_cut_where_tar_can_read_them() {
    let k = 1024;
    // Short holes are data; edges are rounded outwards.
    assert_eq!(stored(&[0..10], 10), None);
    assert_eq!(stored(&[], 60 * k), None);
    assert_eq!(stored(&[], 64 * k), Some(vec![]));
    assert_eq!(stored(&[5..6], 200 * k), Some(vec![0..4 * k]));
    assert_eq!(stored(&[100 * k + 1..100 * k + 2], 200 * k), Some(vec![100 * k..104 * k]));
    assert_eq!(stored(&[70 * k..70 * k + 1, 100 * k..200 * k], 200 * k), Some(vec![68 * k..200 * k]));
    assert_eq!(stored(&[0..1, 64 * k..65 * k], 66 * k), None);
    let many: Vec<_> = (0..70_000).map(|n| n * 100 * k..n * 100 * k + 1).collect();
    let size = 70_000 * 100 * k;
    let extents = stored(&many, size).unwrap();
    assert_eq!(extents.len(), 1 << 16);
    assert_eq!(extents.last().unwrap().end, size, "what is behind the last extent is data");
    for (extents, size) in [(extents, size), (vec![], 64 * k), (vec![0..4096], 200 * k)] {
        let mut map = MapReader::new(size);
        let blocks = encode(&extents, size);
        let mut blocks = blocks.chunks(512);
        while map.block(blocks.next().unwrap()) == Some(false) {}
        assert_eq!(map.extents, extents);
        assert_eq!(blocks.next(), None);
    }
    let bad: [&[u8]; 7] = [
        b"x\n",
        b"\n",
        b"1\n0\n11\n",
        b"2\n5\n1\n0\n1\n",
        b"99999999\n",
        b"1\n18446744073709551615\n9\n",
        b"1\n000000000000000000000\n",
    ];
    for map in bad {
        let mut block = [0; 512];
        block[..map.len()].copy_from_slice(map);
        assert_eq!(MapReader::new(10).block(&block), None, "{}", map.escape_ascii());
    }
}

#[test]
fn zeros_are_found_across_pieces() {
    let mut bytes = vec![0_u8; 400_000];
    (bytes[3], bytes[200_000]) = (1, 1);
    let mut data = Vec::new();
    for (number, piece) in bytes.chunks(4096 * 3).enumerate() {
        data_of(piece, number as u64 * 4096 * 3, &mut data);
    }
    assert_eq!(data, [0..4096, 196_608..200_704]);
}

#[test]
fn a_label_proves_itself() {
    let label = label();
    assert_eq!(SessionLabel::parse(label.json()).unwrap(), label);
    for at in 0..label.json().len() {
        let mut bad = label.json().to_vec();
        // The second makes capitals.
        for bit in [1, 0x20] {
            bad[at] = label.json()[at] ^ bit;
            assert!(SessionLabel::parse(&bad).is_err(), "byte {at}");
        }
        assert!(SessionLabel::parse(&label.json()[..at]).is_err());
    }
    // A later version is told from damage.
    let body = br#"{"version":2,"future":[]}"#;
    let json = format!("{{\"id\":\"{}\",{}", Id::of(body), &String::from_utf8_lossy(&body[1..]));
    let error = SessionLabel::parse(json.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), crate::tape::archive::ArchiveErrorKind::UnsupportedVersion);
}

#[test]
fn an_encoding_that_is_not_known_is_named() {
    let plain = label();
    for (compression, encryption) in [("zstd", "none"), ("none", "age"), ("", "none")] {
        let (compression, encryption) = (compression.to_owned(), encryption.to_owned());
        let label = SessionLabel::new(LabelFields {
            compression: compression.clone(),
            encryption: encryption.clone(),
            ..plain.fields().clone()
        });
        let writer = SessionWriter::begin(Vec::new(), &label.unwrap(), &scratch()).unwrap();
        let error = super::read(&writer.finish().unwrap().out).unwrap_err();
        assert_eq!(error.kind(), ArchiveErrorKind::UnsupportedVersion, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{compression:?}")) && text.contains(&format!("{encryption:?}")),
            "{text}"
        );
    }
}
