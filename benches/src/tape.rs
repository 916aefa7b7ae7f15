//! Sessions on their way to a volume of a drive of files, against `tar` writing the same tree to a file.
//!
//! The tree is that of a replica, fed from `$REWIND_BENCH_TREE` or a tenth of Linux: `tar` reads its files, we read a
//! view of it, and a session of the same files in a repository, in turn and all out of the page cache. Each ends when
//! its bytes are on the disk. The first volume is restored by `tar` and compared. Then a drive takes no more than
//! `$REWIND_BENCH_TAPE_RATE` megabytes a second, and what counts is how often it had to wait.

use crate::fed::{Fed, attributes, write};
use crate::{report, run, tree};
use anyhow::{Context, ensure};
use journal::disk::OsDisk;
use journal::event::WRITE_BYTES_MAX;
use journal::{Edge, Event, Kind, Lsn, Meta, Name, NodeId, Provenance, RootNo};
use snapshot::repository::{
    BlobWriter, Chunker, Id, KeyCost, Node, NodeKind, Repository, RepositoryOptions, TreeBuilder,
    WriterOptions,
};
use snapshot::session::{Entity, NoMonitor};
use snapshot::store::DirectoryStore;
use snapshot::tape::archive::{LabelFields, SessionLabel, Wrote, from_repository, from_view};
use snapshot::tape::drive::BLOCK_BYTES;
use snapshot::tape::{
    Automatic, Drive, DriveError, Fed as OnTape, Feeder, FileDrive, LabelRequest, Medium, MediumOptions, Met,
    Overwrite, Position, SpanOptions, Wanted, Wrote as Took, volume,
};
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEDIA: &str = "volume";
/// Megabytes a second of the limited drive, if nothing is said.
const RATE: f64 = 150.0;
/// The directory of the session, on the master that never was.
const ROOT: &str = "bench";

/// What goes to tape.
struct Source {
    fed: Fed,
    at: Lsn,
    /// The replica's tree, which `tar` reads.
    tree: PathBuf,
    repository: Arc<Repository>,
    root: Id,
    files: u64,
    bytes: u64,
}

/// Runs it.
///
/// # Errors
/// If something fails, or `tar` does not restore what was written.
pub fn run() -> anyhow::Result<()> {
    let scratch = tree::scratch()?;
    let place = scratch.path();
    let source = source(place)?;
    println!("  {} files, {} bytes", source.files, source.bytes);
    let (mut by_tar, mut by_view, mut by_repository) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..report::ROUNDS {
        by_tar.push(with_tar(&source.tree, place)?);
        let (took, _) = to_tape(place, None, &|out| view(&source, out, place), round == 0, &source.tree)?;
        by_view.push(took);
        let (took, _) = to_tape(place, None, &|out| stored(&source, out, place), false, &source.tree)?;
        by_repository.push(took);
    }
    report::line("tar --format=posix --xattrs, sync", &by_tar);
    report::line("a point of the journal to a volume", &by_view);
    report::line("a session of a repository to a volume", &by_repository);
    let tar = report::median(&by_tar);
    report::ratio("point / tar", report::median(&by_view) / tar, "1.00");
    report::ratio("session / tar", report::median(&by_repository) / tar, "1.00");
    limited(&source, place)
}

/// Both ways to a drive that takes so much a second.
fn limited(source: &Source, place: &Path) -> anyhow::Result<()> {
    let given = std::env::var("REWIND_BENCH_TAPE_RATE").ok().and_then(|rate| rate.parse().ok());
    let rate = given.unwrap_or(RATE) * 1e6;
    println!("  a drive of {:.0} MB/s:", rate / 1e6);
    type Way<'w> = &'w dyn Fn(&mut Feeder) -> anyhow::Result<()>;
    let ways: [(&str, Way<'_>); 2] = [
        ("a point of the journal", &|out| view(source, out, place)),
        ("a session of a repository", &|out| stored(source, out, place)),
    ];
    for (what, way) in ways {
        let (took, fed) = to_tape(place, Some(rate), way, false, &source.tree)?;
        let least = fed.written.bytes as f64 / rate;
        println!(
            "  {what:<44} {:>10}   {} at its rate, {} MB spooled at most",
            report::show_seconds(took),
            report::show_seconds(least),
            fed.most_spooled / 1_000_000
        );
        report::ratio("    times the drive had to wait", fed.stalls as f64, "0");
    }
    Ok(())
}

fn view(source: &Source, out: &mut Feeder, scratch: &Path) -> anyhow::Result<()> {
    let entity = Entity { root: RootNo(0), path: format!("/{ROOT}").into_bytes(), device: 1 };
    let view = source.fed.replica.view(source.at)?;
    nothing_missed(from_view(&view, (&label()?, &entity), out, scratch, &NoMonitor)?)
}

fn stored(source: &Source, out: &mut Feeder, scratch: &Path) -> anyhow::Result<()> {
    nothing_missed(from_repository(&source.repository, (&label()?, &source.root), out, scratch, &NoMonitor)?)
}

fn nothing_missed<W>(wrote: Wrote<W>) -> anyhow::Result<()> {
    ensure!(wrote.listed.is_empty(), "not all is in the archive: {:?}", wrote.listed.first());
    Ok(())
}

fn label() -> anyhow::Result<SessionLabel> {
    Ok(SessionLabel::new(LabelFields {
        master: "bench".to_owned(),
        compression: "none".to_owned(),
        encryption: "none".to_owned(),
        ..LabelFields::default()
    })?)
}

/// Seconds until `tar` has written the tree and its file is on the disk.
fn with_tar(tree: &Path, place: &Path) -> anyhow::Result<f64> {
    run::sync(place)?;
    let file = place.join("by-tar.tar");
    let started = Instant::now();
    let mut tar = Command::new("tar");
    tar.args(["--format=posix", "--xattrs", "-cf"]).arg(&file).arg("-C").arg(tree).arg(".");
    run::timed(&mut tar)?;
    File::open(&file)?.sync_all()?;
    let took = started.elapsed().as_secs_f64();
    std::fs::remove_file(&file)?;
    Ok(took)
}

/// Seconds until a session is durable on a new volume.
fn to_tape(
    place: &Path,
    rate: Option<f64>,
    make: &dyn Fn(&mut Feeder) -> anyhow::Result<()>,
    is_compared: bool,
    tree: &Path,
) -> anyhow::Result<(f64, OnTape)> {
    run::sync(place)?;
    let directory = tempfile::tempdir_in(place)?;
    let mut files = FileDrive::open(Arc::new(OsDisk), directory.path())?;
    files.insert(MEDIA, MediumOptions { capacity: u64::MAX, early_warning: 0 })?;
    files.load(Wanted::Named(MEDIA))?;
    let (media, pool) = (MEDIA.to_owned(), MEDIA.to_owned());
    let made_by = "bench".to_owned();
    let request =
        LabelRequest { media, pool, sequence: 1, block_bytes: BLOCK_BYTES, made_by, made_at: 1_700_000_000 };
    let _label = volume::label(&mut files, request, Overwrite::Refuse)?;
    let drive: Box<dyn Drive> = match rate {
        None => Box::new(files),
        Some(rate) => Box::new(Limited { behind: files, rate, due: Instant::now() }),
    };
    let session = SpanOptions {
        session: label()?.id().to_string(),
        pool: MEDIA.to_owned(),
        media: None,
        seconds: 1_700_000_000,
    };
    let spool = api::tapes::spool(rate.is_some(), place);
    let started = Instant::now();
    let mut feeder = Feeder::start(drive, Box::new(Automatic), session, &spool)?;
    let made = make(&mut feeder);
    let fed = feeder.finish().result;
    let took = started.elapsed().as_secs_f64();
    made?;
    let fed = fed?;
    if is_compared {
        let restored = tempfile::tempdir_in(place)?;
        let file = directory.path().join(MEDIA).join("000001.tar");
        run::timed(Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(restored.path()))?;
        // The root of a replica has a time that was never captured.
        let root = restored.path().join(ROOT);
        File::open(&root)?.set_modified(tree.metadata()?.modified()?)?;
        run::must_equal(&root, tree, true)?;
    }
    Ok((took, fed))
}

/// Feeds a replica, and stores the same files in a repository.
fn source(place: &Path) -> anyhow::Result<Source> {
    let from = match std::env::var_os("REWIND_BENCH_TREE") {
        Some(tree) => PathBuf::from(tree),
        None => {
            let tenth = place.join("from");
            tree::copy_tenth(&tree::linux()?, &tenth)?;
            tenth
        }
    };
    let mut fed = Fed::open(&place.join("replica"))?;
    let mut count = Count { node: NodeId::FIRST_FREE.0, files: 0, bytes: 0 };
    feed(&mut fed, &from, NodeId::root(RootNo(0)), &mut count)?;
    let at = fed.synchronized(count.files)?;
    let tree = place.join("replica/tree");
    let store = Arc::new(DirectoryStore::create(&place.join("repository"))?);
    let options =
        RepositoryOptions { key_cost: KeyCost { log_n: 4, r: 8, p: 1 }, ..RepositoryOptions::default() };
    let repository = Arc::new(Repository::init(store, &"bench".to_owned().into(), options)?);
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default())?;
    let below = save(&writer, &mut Chunker::new(), &tree)?;
    let mut top = TreeBuilder::new();
    top.add(&Node {
        name: ROOT.into(),
        kind: NodeKind::Directory,
        permissions: 0o755,
        subtree: Some(below),
        ..Node::default()
    })?;
    let root = writer.save_tree(&mut top)?.id;
    writer.flush()?;
    Ok(Source { fed, at, tree, repository, root, files: count.files, bytes: count.bytes })
}

/// What was fed so far.
struct Count {
    node: u64,
    files: u64,
    bytes: u64,
}

/// Directories and files below a directory, as captures.
fn feed(fed: &mut Fed, from: &Path, parent: NodeId, count: &mut Count) -> anyhow::Result<()> {
    for path in entries(from)? {
        let found = path.symlink_metadata()?;
        let (kind, mode) = match found.file_type() {
            kind if kind.is_dir() => (Kind::Directory, 0o755),
            kind if kind.is_file() => (Kind::File, 0o644),
            _ => continue,
        };
        count.node += 1;
        let node = NodeId(count.node);
        let name = path.file_name().context("name a file")?;
        let at =
            Edge::new(parent, Name::new(std::os::unix::ffi::OsStrExt::as_bytes(name)).context("a name")?);
        let meta = Meta { kind, size: 0, attributes: attributes(mode, 1), xattrs: Vec::new() };
        let create = Event::Create { node, at, meta, origin: None, parent_mtime: None };
        fed.feed(Provenance::Synchronization, vec![create])?;
        if found.is_dir() {
            feed(fed, &path, node, count)?;
            continue;
        }
        let bytes = std::fs::read(&path)?;
        for (piece, number) in bytes.chunks(WRITE_BYTES_MAX).zip(0_u64..) {
            let offset = number * WRITE_BYTES_MAX as u64;
            fed.feed(Provenance::Synchronization, vec![write(node, offset, piece.to_vec())])?;
        }
        count.files += 1;
        count.bytes += bytes.len() as u64;
    }
    Ok(())
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let found = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut found = found.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}

fn save(writer: &BlobWriter, chunker: &mut Chunker, directory: &Path) -> anyhow::Result<Id> {
    let mut tree = TreeBuilder::new();
    for path in entries(directory)? {
        let found = path.metadata()?;
        let name = path.file_name().context("name a file")?.to_os_string();
        let mut node = Node {
            name: std::os::unix::ffi::OsStringExt::into_vec(name),
            permissions: found.permissions().mode() & 0o7777,
            inode: found.ino(),
            links: 1,
            ..Node::default()
        };
        if found.is_dir() {
            (node.kind, node.subtree) = (NodeKind::Directory, Some(save(writer, chunker, &path)?));
        } else {
            node.size = found.len();
            node.content = writer.save_file(chunker, &mut File::open(&path)?)?.content;
        }
        tree.add(&node)?;
    }
    Ok(writer.save_tree(&mut tree)?.id)
}

/// A drive that takes so many bytes a second. What comes late is not made up for: the tape has passed by.
struct Limited {
    behind: FileDrive,
    rate: f64,
    due: Instant,
}

impl Drive for Limited {
    fn serial(&self) -> &str {
        self.behind.serial()
    }

    fn medium(&mut self) -> Result<Medium, DriveError> {
        self.behind.medium()
    }

    fn block_bytes(&self) -> usize {
        self.behind.block_bytes()
    }

    fn set_block_bytes(&mut self, bytes: usize) -> Result<(), DriveError> {
        self.behind.set_block_bytes(bytes)
    }

    fn position(&self) -> Position {
        self.behind.position()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Met, DriveError> {
        self.behind.read(buffer)
    }

    fn read_start(&mut self, limit: usize) -> Result<Vec<u8>, DriveError> {
        self.behind.read_start(limit)
    }

    fn write(&mut self, block: &[u8]) -> Result<Took, DriveError> {
        let wrote = self.behind.write(block)?;
        let takes = Duration::from_secs_f64(block.len() as f64 / self.rate);
        self.due = self.due.max(Instant::now() - takes) + takes;
        std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        Ok(wrote)
    }

    fn filemark(&mut self) -> Result<(), DriveError> {
        self.behind.filemark()
    }

    fn locate(&mut self, file: u32) -> Result<(), DriveError> {
        self.behind.locate(file)
    }

    fn locate_last_block(&mut self, file: u32) -> Result<Option<u64>, DriveError> {
        self.behind.locate_last_block(file)
    }

    fn end_of_data(&mut self) -> Result<Position, DriveError> {
        self.behind.end_of_data()
    }

    fn load(&mut self, wanted: Wanted<'_>) -> Result<(), DriveError> {
        self.behind.load(wanted)
    }

    fn eject(&mut self) -> Result<(), DriveError> {
        self.behind.eject()
    }
}
