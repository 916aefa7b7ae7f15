//! Saving files into a repository, from memory, against `restic backup` of the same files.
//!
//! Three answers. *Levels*: what each level of zstd stores, in shares of what restic stores (its data blobs; trees hold
//! other things than ours would here), and how long two threads take for it. *Stages*: what each step of saving a blob
//! costs one thread alone, so that the next limit is known. *Writer*: the whole of it with two threads, into memory
//! and into a directory with every pack synced, and restic, in turn. restic also walks the tree and stores directories,
//! which is little beside the data; its files are in the page cache. Beside the time stand processor seconds, which do
//! not depend on what else the machine does.
//!
//! `$REWIND_BENCH_TREE` names the tree; else it is a tenth of Linux.

use crate::{report, run, tree};
use anyhow::{Context, anyhow};
use rustix::time::ClockId;
use secrecy::SecretString;
use snapshot::repository::compress::{Codec, LEVEL_DEFAULT};
use snapshot::repository::crypto::SealKey;
use snapshot::repository::id::{BlobKind, Id};
use snapshot::repository::{BlobWriter, Chunker, KeyCost, Repository, RepositoryOptions, WriterOptions};
use snapshot::store::{BlobStore, DirectoryStore, MemoryStore};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const LEVELS: std::ops::RangeInclusive<i32> = 1..=5;
const THREADS: usize = 2;
const PASSWORD: &str = "bench";

/// Files as bytes.
type Files = Vec<Vec<u8>>;

pub fn run() -> anyhow::Result<()> {
    let scratch = tree::scratch()?;
    let source = match std::env::var_os("REWIND_BENCH_TREE") {
        Some(tree) => tree.into(),
        None => {
            let tenth = scratch.path().join("tree");
            tree::copy_tenth(&tree::linux()?, &tenth)?;
            tenth
        }
    };
    let files: Files = tree::files(&source)?
        .iter()
        .map(|path| std::fs::read(source.join(path)).with_context(|| path.display().to_string()))
        .collect::<Result<_, _>>()?;
    let bytes: usize = files.iter().map(Vec::len).sum();
    println!("  {} files, {bytes} bytes", files.len());
    levels(&files, &source, scratch.path())?;
    stages(&files)?;
    writer(&files, &source, scratch.path())
}

/// What a run took, and the bytes of its data blobs in packs.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    processor: f64,
    stored: u64,
}

/// The same of several runs.
#[derive(Default)]
struct Costs(Vec<Cost>);

impl Costs {
    fn stored(&self) -> u64 {
        self.0.last().map_or(0, |cost| cost.stored)
    }

    fn seconds(&self) -> Vec<f64> {
        self.0.iter().map(|cost| cost.seconds).collect()
    }

    fn processor(&self) -> Vec<f64> {
        self.0.iter().map(|cost| cost.processor).collect()
    }

    fn print(&self, what: &str) {
        report::line(what, &self.seconds());
        report::line("    processor", &self.processor());
    }
}

/// A first backup by restic, timed by the shell, which counts the processor's time of its children.
fn restic(source: &Path, scratch: &Path) -> anyhow::Result<Cost> {
    let place = tempfile::tempdir_in(scratch)?;
    let command = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-ec", script]).env("RESTIC_REPOSITORY", place.path()).env("SOURCE", source);
        command.env("RESTIC_PASSWORD", PASSWORD).env("TIMEFORMAT", "%U %S");
        command
    };
    run::timed(&mut command("restic --no-cache --quiet init"))?;
    run::sync(scratch)?;
    let backup = r#"{ time restic --no-cache --quiet backup "$SOURCE" >&2; } 2>&1"#;
    let (output, took) = run::timed(&mut command(backup))?;
    let processor = output.split_whitespace().map(str::parse::<f64>).sum::<Result<f64, _>>();
    let processor = processor.with_context(|| format!("what the shell says of the time: {output:?}"))?;
    let store = Arc::new(DirectoryStore::open(place.path())?);
    let repository = Repository::open(store, &SecretString::from(PASSWORD.to_owned()))?;
    let mut stored = 0;
    repository.index()?.for_each(&mut |blob| {
        // An entry of the pack's header belongs to each.
        stored += if blob.kind == BlobKind::Data { u64::from(blob.length) + 41 } else { 0 };
        true
    });
    Ok(Cost { seconds: took.as_secs_f64(), processor, stored })
}

fn clock(clock: ClockId) -> f64 {
    let spent = rustix::time::clock_gettime(clock);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Processor seconds of this process so far.
fn processor() -> f64 {
    clock(ClockId::ProcessCPUTime)
}

/// Processor seconds of this thread so far.
fn of_thread() -> f64 {
    clock(ClockId::ThreadCPUTime)
}

/// All files by two threads.
fn ours(files: &Files, store: Arc<dyn BlobStore>, level: i32) -> anyhow::Result<Cost> {
    let options = RepositoryOptions { level, key_cost: KeyCost { log_n: 4, r: 8, p: 1 } };
    let repository = Repository::init(store, &SecretString::from(PASSWORD.to_owned()), options)?;
    let writer = BlobWriter::new(Arc::new(repository), WriterOptions::default())?;
    let next = AtomicUsize::new(0);
    let (started, before) = (Instant::now(), processor());
    let work = || -> anyhow::Result<()> {
        let mut chunker = Chunker::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            writer.save_file(&mut chunker, &mut file.as_slice())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let written = writer.flush()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Cost { seconds, processor: processor() - before, stored: written.pack_bytes })
}

fn levels(files: &Files, source: &Path, scratch: &Path) -> anyhow::Result<()> {
    let mut costs: Vec<Costs> = LEVELS.map(|_| Costs::default()).collect();
    let mut theirs = Costs::default();
    for _ in 0..report::ROUNDS {
        theirs.0.push(restic(source, scratch)?);
        for (level, costs) in LEVELS.zip(&mut costs) {
            costs.0.push(ours(files, Arc::new(MemoryStore::new()), level)?);
        }
    }
    theirs.print(&format!("restic, {} bytes of data", theirs.stored()));
    for (level, costs) in LEVELS.zip(&costs) {
        let ratio = costs.stored() as f64 / theirs.stored() as f64;
        costs.print(&format!("level {level} into memory, {} bytes ({ratio:.3})", costs.stored()));
    }
    Ok(())
}

/// Every stage over all chunks, one after the other, on one thread: processor seconds.
fn stages(files: &Files) -> anyhow::Result<()> {
    let key = SealKey::random()?;
    let mut codec = Codec::new(LEVEL_DEFAULT)?;
    let mut times: [Vec<f64>; 6] = Default::default();
    for _ in 0..report::ROUNDS {
        let mut spent = [0.0; 6];
        let [chunk, hash, compress, verify, seal, pack_hash] = &mut spent;
        let (mut chunker, mut plain) = (Chunker::new(), Vec::new());
        for file in files {
            chunker.restart();
            let mut reader = file.as_slice();
            loop {
                let started = of_thread();
                let Some(bytes) = chunker.next(&mut reader)? else { break };
                *chunk += of_thread() - started;
                let started = of_thread();
                black_box(Id::of(bytes));
                *hash += of_thread() - started;
                let started = of_thread();
                let packed = codec.compress(bytes).map_err(|error| anyhow!("{error:?}"))?.to_vec();
                let both = of_thread() - started;
                let started = of_thread();
                let same = codec.decompress(&packed, bytes.len(), &mut plain) && plain == bytes;
                let second = of_thread() - started;
                anyhow::ensure!(same, "what was compressed did not come back");
                *verify += second;
                *compress += both - second;
                let stored = if packed.len() < bytes.len() { packed.as_slice() } else { bytes };
                let started = of_thread();
                let sealed = key.seal(stored)?;
                *seal += of_thread() - started;
                let started = of_thread();
                black_box(Id::of(&sealed));
                *pack_hash += of_thread() - started;
            }
        }
        times.iter_mut().zip(spent).for_each(|(all, spent)| all.push(spent));
    }
    let names = ["cut", "hash", "compress", "verify", "seal", "hash of packs"];
    for (name, times) in names.iter().zip(&times) {
        report::line(&format!("one thread, processor: {name}"), times);
    }
    Ok(())
}

fn writer(files: &Files, source: &Path, scratch: &Path) -> anyhow::Result<()> {
    let (mut memory, mut directory, mut theirs) = (Costs::default(), Costs::default(), Costs::default());
    for _ in 0..report::ROUNDS {
        memory.0.push(ours(files, Arc::new(MemoryStore::new()), LEVEL_DEFAULT)?);
        let place = tempfile::tempdir_in(scratch)?;
        let store = Arc::new(DirectoryStore::open(place.path())?);
        run::sync(scratch)?;
        directory.0.push(ours(files, store, LEVEL_DEFAULT)?);
        theirs.0.push(restic(source, scratch)?);
    }
    memory.print("writer, two threads, into memory");
    directory.print("writer, two threads, into a directory");
    theirs.print("restic backup");
    let bytes: usize = files.iter().map(Vec::len).sum();
    let rate = bytes as f64 / report::median(&directory.seconds()) / 1e6;
    println!("  {rate:.0} MB/s of files into a directory");
    for (what, of) in
        [("time", Costs::seconds as fn(&Costs) -> Vec<f64>), ("processor seconds", Costs::processor)]
    {
        let ratio = report::median(&of(&theirs)) / report::median(&of(&directory));
        report::ratio(&format!("restic / writer into a directory: {what}"), ratio, "2 for a whole backup");
    }
    Ok(())
}
