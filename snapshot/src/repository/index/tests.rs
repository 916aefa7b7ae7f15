//! Every place of a blob is found, against a plain list.

use super::*;
use crate::repository::RepositoryErrorKind;
use crate::repository::testing::Random;

fn entry(kind: BlobKind, id: Id, offset: u32) -> PackEntry {
    PackEntry { kind, id, offset, length: 100 + offset % 7, uncompressed_length: offset % 3 }
}

/// Random packs, with blobs that are in several: every place is found, before and after saving and loading.
#[test]
fn finds_every_place() {
    let mut random = Random::from_clock("index");
    let index = Index::default();
    let mut expected: Vec<Location> = Vec::new();
    for number in 0..600u32 {
        let pack = Id::of(&number.to_le_bytes());
        let blobs: Vec<PackEntry> = (0..100)
            .map(|i| {
                let kind = if random.below(4) == 0 { BlobKind::Tree } else { BlobKind::Data };
                entry(kind, Id::of(&random.below(40_000).to_le_bytes()), i * 200)
            })
            .collect();
        expected.extend(blobs.iter().map(|b| Location {
            pack,
            kind: b.kind,
            id: b.id,
            offset: b.offset,
            length: b.length,
            uncompressed_length: b.uncompressed_length,
        }));
        index.add(IndexedPack { id: pack, blobs }).unwrap();
    }
    check(&index, &expected);
    assert_eq!(index.unsaved_blobs(), 60_000);
    let mut loader = IndexLoader::default();
    let mut files = 0;
    loop {
        let packs = index.next_unsaved();
        if packs.is_empty() {
            break;
        }
        assert!(packs.iter().map(|pack| pack.blobs.len()).sum::<usize>() <= INDEX_BLOBS_MAX);
        loader.add_file("x", &to_json(&packs)).unwrap();
        index.saved(&packs);
        files += 1;
    }
    assert_eq!((files, index.unsaved_blobs()), (60_000_usize.div_ceil(INDEX_BLOBS_MAX), 0));
    let loaded = loader.finish();
    check(&loaded, &expected);
    assert!(loaded.memory_bytes() < 60_000 * 48 + 600 * 200, "{}", loaded.memory_bytes());
    index.replace(loaded).unwrap();
    check(&index, &expected);
}

fn check(index: &Index, expected: &[Location]) {
    let order = |place: &Location| (place.kind, place.id, place.pack, place.offset);
    let mut found = Vec::new();
    index.for_each(&mut |place| {
        found.push(place);
        true
    });
    found.sort_unstable_by_key(order);
    let mut sorted = expected.to_vec();
    sorted.sort_unstable_by_key(order);
    assert!(found == sorted);
    for places in sorted.chunk_by(|a, b| (a.kind, a.id) == (b.kind, b.id)).step_by(17) {
        let (kind, id) = (places[0].kind, places[0].id);
        let mut all = index.lookup_all(kind, &id);
        all.sort_unstable_by_key(order);
        assert_eq!(all, places);
        assert!(places.contains(&index.lookup(kind, &id).unwrap()) && index.contains(kind, &id));
    }
    let absent = Id::of(b"absent");
    assert!(BlobKind::ALL.iter().all(|kind| !index.contains(*kind, &absent)));
}

#[test]
fn hostile_files() {
    let id = Id([1; 32]);
    let blob = |fields: &str| {
        format!(r#"{{"packs":[{{"id":"{id}","blobs":[{{"id":"{id}","type":"data",{fields}}}]}}]}}"#)
    };
    let cases = [
        (blob(r#""offset":0,"length":40"#), true),
        (blob(r#""offset":0,"length":40,"new":[{"x":null}]"#), true),
        (format!(r#"{{"packs":null,"supersedes":["{id}"]}}"#), true),
        (format!(r#"{{"new":1,"packs":[{{"blobs":[],"id":"{id}"}}]}}"#), true),
        (blob(r#""offset":4294967295,"length":40"#), false),
        (blob(r#""offset":4294967256,"length":40"#), false),
        (blob(r#""offset":4294967296,"length":40"#), false),
        (blob(r#""offset":-1,"length":40"#), false),
        (blob(r#""offset":0,"length":31"#), false),
        (blob(r#""offset":0,"length":4294967296"#), false),
        (blob(r#""offset":0,"length":40,"uncompressed_length":4294967296"#), false),
        (blob(r#""offset":0,"length":40"#).replace("data", "what"), false),
        (blob(r#""offset":0,"length":40"#).replace("01", "zz"), false),
        (format!("{} x", blob(r#""offset":0,"length":40"#)), false),
        ("[".repeat(100_000), false),
        (format!(r#"{{"x":{}"#, "[".repeat(100_000)), false),
        (r#"{"packs":[{"blobs":[]}]}"#.into(), false),
        ("null".into(), false),
        (String::new(), false),
    ];
    for (json, valid) in cases {
        let outcome = IndexLoader::default().add_file("index/x", json.as_bytes());
        let start: String = json.chars().take(200).collect();
        assert_eq!(outcome.is_ok(), valid, "{start}: {outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), RepositoryErrorKind::Damaged);
            assert!(error.to_string().contains("index/x"));
        }
    }
}

/// Prints how fast a million blobs are parsed, sorted and found, and what they take.
#[test]
fn speed() {
    let count: u32 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let packs: Vec<_> = (0..count / 50)
        .map(|pack| {
            let blob = |i: u32| entry(BlobKind::Data, Id::of(&(pack * 50 + i).to_le_bytes()), i * 1000);
            Arc::new(IndexedPack { id: Id::of(&pack.to_be_bytes()), blobs: (0..50).map(blob).collect() })
        })
        .collect();
    let json = to_json(&packs);
    let started = std::time::Instant::now();
    let mut loader = IndexLoader::default();
    loader.add_file("x", &json).unwrap();
    let index = loader.finish();
    let load = started.elapsed();
    let started = std::time::Instant::now();
    let found = (0..count).filter(|i| index.contains(BlobKind::Data, &Id::of(&i.to_le_bytes()))).count();
    assert_eq!(found, count as usize);
    println!(
        "{count} blobs: loaded in {load:?}, {:?} a look-up, {} bytes a blob",
        started.elapsed() / count,
        index.memory_bytes() / count as usize
    );
}
