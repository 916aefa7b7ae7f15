//! The bytes of trees are those that restic writes; hostile trees are refused.

use super::go_text::{json_string, quote, unquote};
use super::*;
use crate::repository::RepositoryErrorKind;
use crate::repository::testing::Random;

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn file(name: &[u8]) -> Node {
    Node {
        name: name.to_vec(),
        permissions: 0o644,
        modified: time("2026-11-21T12:09:28.630693425Z"),
        accessed: time("2026-01-01T00:00:00Z"),
        changed: time("1969-12-31T23:59:59.5Z"),
        user: "root".into(),
        group: "root".into(),
        inode: 7,
        device_id: 65024,
        links: 1,
        ..Node::default()
    }
}

fn nodes_of(json: &[u8]) -> Result<Vec<Node>, RepositoryError> {
    let mut nodes = Vec::new();
    read_tree(&Id::of(json), json, &mut |node| {
        nodes.push(node);
        true
    })?;
    Ok(nodes)
}

fn json_of(nodes: &[Node]) -> Vec<u8> {
    let mut builder = TreeBuilder::new();
    for node in nodes {
        builder.add(node).unwrap();
    }
    builder.finish().to_vec()
}

/// The bytes are those that restic 0.14 writes for the same nodes.
#[test]
fn golden() {
    let a = Id([0x2c; 32]);
    let special = Node { kind: NodeKind::BlockDevice, permissions: 0o660, device: 1792, ..file(b"blk") };
    let odd = Node {
        size: 1,
        content: vec![a],
        permissions: 0o4755,
        links: 2,
        xattrs: vec![Xattr { name: b"user.k".to_vec(), value: b"v\\x00".to_vec() }],
        ..file(b"b\xff\"\\ \x01\xc2\xa0\xe2\x80\x8b\xc3\xa4")
    };
    let directory =
        Node { kind: NodeKind::Directory, permissions: 0o755, links: 0, subtree: Some(a), ..file(b"d") };
    let link = Node {
        kind: NodeKind::Symlink,
        permissions: 0o777,
        link_target: b"t<&>\x08".to_vec(),
        ..file(b"sl")
    };
    let raw = Node { kind: NodeKind::Symlink, link_target: b"q\xff".to_vec(), ..file(b"sl2") };
    let empty = Node { permissions: 0, ..file(b"zero") };
    let nodes = [special, odd, directory, link, raw, empty];
    let common = r#""mtime":"2026-11-21T12:09:28.630693425Z","atime":"2026-01-01T00:00:00Z","ctime":"1969-12-31T23:59:59.5Z","uid":0,"gid":0,"user":"root","group":"root","inode":7,"device_id":65024"#;
    let expected = [
        r#"{"nodes":[{"name":"blk","type":"dev","mode":67109296,@,"links":1,"device":1792,"content":null},"#,
        r#"{"name":"b\\xff\\\"\\\\ \\x01\\u00a0\\u200bä","type":"file","mode":8389101,@,"size":1,"links":2,"extended_attributes":[{"name":"user.k","value":"dlx4MDA="}],"content":["2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c"]},"#,
        r#"{"name":"d","type":"dir","mode":2147484141,@,"content":null,"subtree":"2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c"},"#,
        r#"{"name":"sl","type":"symlink","mode":134218239,@,"links":1,"linktarget":"t\u003c\u0026\u003e\u0008","content":null},"#,
        r#"{"name":"sl2","type":"symlink","mode":134218148,@,"links":1,"linktarget":"q�","linktarget_raw":"cf8=","content":null},"#,
        r#"{"name":"zero","type":"file",@,"links":1,"content":[]}]}"#,
    ];
    let expected = format!("{}\n", expected.concat().replace('@', common));
    // In the order of bytes `b\xff` comes after `blk`.
    let json = json_of(&nodes);
    assert_eq!(String::from_utf8(json.clone()).unwrap(), expected);
    assert_eq!(nodes_of(&json).unwrap(), nodes);
    assert_eq!(json_of(&[]), b"{\"nodes\":[]}\n");
    assert_eq!(
        Id::of(&json_of(&[])).to_string(),
        "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"
    );
}

#[test]
fn names_of_any_bytes() {
    let mut random = Random::from_clock("names");
    for _ in 0..20_000 {
        let mut name: Vec<u8> = match random.below(3) {
            0 => random.bytes(1 + random.0 as usize % 20),
            1 => (0..10)
                .filter_map(|_| char::from_u32(random.below(0x11_0000) as u32))
                .collect::<String>()
                .into(),
            _ => b"a\\\"\n\t\x07\x7f\xc2\x80\xef\xbf\xbd".to_vec(),
        };
        name.retain(|byte| !matches!(byte, 0 | b'/'));
        if name_refusal(&name).is_some() {
            continue;
        }
        let node = Node { name, link_target: b"x\xf0\x90".to_vec(), kind: NodeKind::Symlink, ..file(b"") };
        let json = json_of(std::slice::from_ref(&node));
        assert_eq!(nodes_of(&json).unwrap(), [node]);
    }
}

#[test]
fn go_text() {
    for (bytes, text) in [
        (&b"plain \xc3\xa4"[..], "plain \u{e4}"),
        (b"\x07\x08\x0c\n\r\t\x0b", r"\a\b\f\n\r\t\v"),
        (b"'\"\\", r#"'\"\\"#),
        (b"\x7f\x1b", r"\x7f\x1b"),
        ("\u{ad}\u{85}\u{2028}\u{e000}\u{10ffff}".as_bytes(), r"\u00ad\u0085\u2028\ue000\U0010ffff"),
        ("\u{fffd}漢字🎉".as_bytes(), "\u{fffd}漢字🎉"),
    ] {
        let mut quoted = String::new();
        quote(bytes, &mut quoted);
        assert_eq!(quoted, text);
        assert_eq!(unquote(text).unwrap(), bytes);
    }
    assert_eq!(unquote(r"\101\x41A").unwrap(), b"AAA");
    for bad in [
        "\"",
        "\n",
        "\\",
        r"\q",
        r"\x4",
        r"\xzz",
        r"\u12",
        r"\ud800",
        r"\U00110000",
        r"\x+4",
        r"\400",
        r"\'",
        "\\é",
    ] {
        assert_eq!(unquote(bad), None, "{bad}");
    }
    let mut json = Vec::new();
    json_string("\"\\\n\r\t\u{1}<>&\u{2028}ä", &mut json);
    assert_eq!(String::from_utf8(json).unwrap(), r#""\"\\\n\r\t\u0001\u003c\u003e\u0026\u2028ä""#);
}

/// What a hostile tree may say; all of it is refused with the tree and the node named.
#[test]
fn hostile_trees() {
    let node = |name: &str| format!(r#"{{"name":"{name}","type":"file","content":[]}}"#);
    let tree = |nodes: &[String]| format!(r#"{{"nodes":[{}]}}"#, nodes.join(","));
    for (json, valid) in [
        (tree(&[]), true),
        (tree(&[node("a"), node("b")]), true),
        (tree(&[node("b"), node("a"), node("c")]), true),
        (r#"{"nodes":null}"#.into(), true),
        (tree(&[node("a")]).replace("file", "new-kind"), true),
        (tree(&[node("a")]).replace("\"content\":[]", "\"content\":null,\"x\":{}"), true),
        (tree(&[node("")]), false),
        (tree(&[node(".")]), false),
        (tree(&[node("..")]), false),
        (tree(&[node("a/b")]), false),
        (tree(&[node("/etc")]), false),
        (tree(&[node(r"\\x2e.")]), false),
        (tree(&[node(r"a\\x00")]), false),
        (tree(&[node(r"a\\x2fb")]), false),
        (tree(&[node(r"\\q")]), false),
        (tree(&[node(&"x".repeat(5000))]), false),
        (tree(&[node("a"), node("a")]), false),
        (tree(&[node("b"), node("a"), node("b")]), false),
        (tree(&[node("a")]).replace("file", "dir"), false),
        (tree(&[node("a")]).replace("[]", &format!(r#"[],"subtree":"{}""#, Id([1; 32]))), false),
        (tree(&[node("a")]).replace("[]", r#"["zz"]"#), false),
        (tree(&[node("a")]).replace("[]", r#"[],"mtime":"yesterday""#), false),
        (tree(&[node("a")]).replace("[]", r#"[],"linktarget_raw":"!""#), false),
        (tree(&[node("a")]).replace("[]", r#"[],"size":-1"#), false),
        (format!(r#"{{"nodes":[{}],"nodes":[{}]}}"#, node("a"), node("a")), false),
        ("{}".into(), false),
        ("[".repeat(100_000), false),
        (format!("{} x", tree(&[])), false),
    ] {
        let outcome = nodes_of(json.as_bytes());
        let start: String = json.chars().take(200).collect();
        assert_eq!(outcome.is_ok(), valid, "{start}: {outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), RepositoryErrorKind::Damaged);
            assert!(error.to_string().contains(&Id::of(json.as_bytes()).to_string()), "{error}");
        }
    }
}

#[test]
fn the_builder_refuses() {
    let mut builder = TreeBuilder::new();
    builder.add(&file(b"b")).unwrap();
    let before = builder.bytes();
    let no_tree = Node { kind: NodeKind::Directory, ..file(b"c") };
    let other = Node { kind: NodeKind::Other, ..file(b"c") };
    for node in [file(b"a"), file(b"b"), file(b""), file(b".."), file(b"c/d"), file(b"c\0"), no_tree, other] {
        assert_eq!(builder.add(&node).unwrap_err().kind(), RepositoryErrorKind::Refused);
    }
    assert_eq!(builder.bytes(), before);
    builder.add(&file(b"c")).unwrap();
    assert_eq!(nodes_of(builder.finish()).unwrap().len(), 2);
    builder.clear();
    builder.add(&file(b"a")).unwrap();
    assert_eq!(nodes_of(builder.finish()).unwrap().len(), 1);
}

#[test]
fn reading_stops_when_told() {
    let json = json_of(&[file(b"a"), file(b"b")]);
    let mut seen = 0;
    read_tree(&Id::of(&json), &json, &mut |_| {
        seen += 1;
        false
    })
    .unwrap();
    assert_eq!(seen, 1);
}

/// A million entries; prints speed and size.
#[test]
fn large_directory() {
    let count = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let started = std::time::Instant::now();
    let mut builder = TreeBuilder::new();
    let mut node = Node { content: vec![Id([9; 32])], size: 5000, ..file(b"") };
    for i in 0..count {
        node.name = format!("file-{i:08}").into_bytes();
        builder.add(&node).unwrap();
    }
    let json = builder.finish();
    let write = started.elapsed();
    let started = std::time::Instant::now();
    let mut seen = 0;
    read_tree(&Id([0; 32]), json, &mut |node| {
        seen += node.content.len();
        true
    })
    .unwrap();
    assert_eq!(seen, count);
    println!(
        "{count} nodes, {} MB: written in {write:?}, read in {:?}",
        json.len() / 1_000_000,
        started.elapsed()
    );
}
