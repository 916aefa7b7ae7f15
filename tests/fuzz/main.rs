//! Is every decoder that meets hostile bytes total: no panic, and no more memory than its input allows?
//!
//! A deterministic mutation fuzzer over a kept corpus. `tests/corpus/TARGET/` holds small inputs: what the real encoders
//! write now (a test holds them to that; `REWIND_CORPUS=write` writes them anew), and `found-*`, each of which once broke
//! something. Every input runs as it is, then many mutations of it. Memory is counted by thread; what a target may take
//! at most is stated with it, in bytes for each byte of input and a constant.
//!
//! `REWIND_FIRST_SEED` and `REWIND_SEEDS` choose the seeds (default: 0 and 1): each multiplies the mutations. What
//! breaks is printed as hexadecimal digits with its seed.

// Tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod kept;
mod targets;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use targets::{TARGETS, Target};
use tests::rng::Rng;

#[global_allocator]
static ALLOCATOR: sys::Counted = sys::Counted;

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// All inputs of a target, by name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

/// Numbers at which decoders go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

fn mutate(input: &[u8], others: &[&Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let end = (at + 1 + rng.below(16) as usize).min(bytes.len());
        match rng.below(10) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            2 if at < bytes.len() => bytes[at] = EDGES[rng.below(5) as usize] as u8,
            // The marks of integers of 2, 4, 8 and 16 bytes in record bodies.
            3 if at < bytes.len() => bytes[at] = 251 + rng.below(5) as u8,
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at.min(end)..end)),
            6 => {
                let count = 1 + rng.below(9) as usize;
                let some = rng.bytes(count);
                bytes.splice(at..at, some);
            }
            7 => {
                let again = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, again);
            }
            8 => {
                let number = EDGES[rng.below(EDGES.len() as u64) as usize].to_le_bytes();
                let width = [2, 4, 8][rng.below(3) as usize];
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => {
                let other = others[rng.below(others.len() as u64) as usize];
                let from = rng.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs one input; what is wrong with it, if anything is.
fn fault(target: &Target, input: &[u8]) -> Option<String> {
    let ran = catch_unwind(AssertUnwindSafe(|| sys::most_held(|| (target.run)(input))));
    match ran {
        Err(_) => Some("it panics".to_owned()),
        Ok((_, most)) => {
            let allowed = target.constant + target.factor * input.len();
            (most > allowed).then(|| format!("it takes {most} bytes, {allowed} are allowed"))
        }
    }
}

fn check(target: &Target, input: &[u8], context: &str) {
    if let Some(fault) = fault(target, input) {
        panic!("{}, {context}: {fault}: {}", target.name, hex(input));
    }
}

fn run(target: &Target) {
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    for (name, input) in &corpus {
        check(target, input, name);
    }
    let inputs: Vec<&Vec<u8>> = corpus.values().collect();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("REWIND_FIRST_SEED").unwrap_or(0);
    let count = number("REWIND_SEEDS").unwrap_or(1);
    for seed in first..first + count {
        let mut rng = Rng::new(seed ^ 0xf022);
        for turn in 0..target.turns {
            let input = mutate(inputs[rng.below(inputs.len() as u64) as usize], &inputs, &mut rng);
            check(target, &input, &format!("seed {seed}, turn {turn}"));
        }
    }
    println!(
        "{}: {} inputs, seeds {first} to {}, {} turns each",
        target.name,
        corpus.len(),
        first + count - 1,
        target.turns
    );
}

fn run_named(name: &str) {
    run(TARGETS.iter().find(|target| target.name == name).unwrap());
}

#[test]
fn bodies_of_records() {
    run_named("redo");
    run_named("undo");
}

#[test]
fn rows_of_tables() {
    run_named("rows");
}

#[test]
fn parts_and_messages_of_the_stream() {
    run_named("part");
    run_named("from-master");
    run_named("from-replica");
}

#[test]
fn manifests_of_the_archive() {
    run_named("archive");
}

#[test]
fn files_of_a_journal() {
    run_named("journal");
}

#[test]
fn thinned_segments() {
    run_named("thinned");
}

#[test]
fn segments_of_the_archive() {
    run_named("shipped");
}

/// What the encoders write now is in the corpus, so that the corpus never talks of formats that are gone.
#[test]
fn the_corpus_is_what_encoders_write() {
    let writes = std::env::var("REWIND_CORPUS").is_ok_and(|value| value == "write");
    for (target, inputs) in kept::all() {
        let place = directory(target);
        if writes {
            std::fs::create_dir_all(&place).unwrap();
        }
        for (name, bytes) in inputs {
            if writes {
                std::fs::write(place.join(&name), &bytes).unwrap();
            }
            let found = std::fs::read(place.join(&name)).unwrap_or_default();
            assert!(
                found == bytes,
                "corpus/{target}/{name} is not what is written now (REWIND_CORPUS=write)"
            );
        }
    }
}
