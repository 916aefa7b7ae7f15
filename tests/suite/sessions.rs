//! Is a session what the view showed, and is an edited session the same as one made by looking at everything?
//!
//! Random histories, sessions at random points. A session made from the one before must have the very tree, by its hash,
//! of one made from nothing in another repository; and what is read back from the repository equals the model.

use crate::history::seeds;
use journal::{Attributes, Kind, Lsn, RootNo};
use snapshot::catalog::Row;
use snapshot::listing;
use snapshot::repository::keys::KeyCost;
use snapshot::repository::session::path_of_text;
use snapshot::repository::tree::read_tree;
use snapshot::repository::upkeep::NoWatch;
use snapshot::repository::upkeep::forget::{ForgetOptions, plan_forget};
use snapshot::repository::upkeep::policy::Policy;
use snapshot::repository::writer::Commit;
use snapshot::repository::{
    BlobKind, BlobWriter, Id, Lock, LockOptions, Node, NodeKind, Purpose, Repository, RepositoryOptions,
    Step, WriterOptions, lock,
};
use snapshot::session::{
    Entity, Monitor, NoMonitor, Previous, RecordOptions, Session, SessionError, back_up,
};
use snapshot::store::{BlobStore, MemoryStore};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::canonical::{Canonical, CanonicalNode, assert_equal, comparable, group, join};
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;

const PATH: &[u8] = b"/srv/docs";

fn entity() -> Entity {
    Entity { root: RootNo(0), path: PATH.to_vec(), device: 77 }
}

/// A repository in a store, made if there is none, and a lock on it.
pub fn repository_in(store: Arc<dyn BlobStore>) -> (Arc<Repository>, Lock) {
    let options =
        RepositoryOptions { key_cost: KeyCost { log_n: 4, r: 1, p: 1 }, ..RepositoryOptions::default() };
    let password = "secret".to_owned().into();
    let repository = match Repository::open(Arc::clone(&store), &password) {
        Ok(repository) => repository,
        Err(_) => Repository::init(store, &password, options).unwrap(),
    };
    let repository = Arc::new(repository);
    let lock = lock_of(&repository);
    (repository, lock)
}

/// A lock for a backup.
pub fn lock_of(repository: &Arc<Repository>) -> Lock {
    let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
    lock::acquire(repository, Purpose::Backup, options).unwrap()
}

fn repository() -> (Arc<Repository>, Lock) {
    repository_in(Arc::new(MemoryStore::new()))
}

/// A session of the view at a point.
pub fn session(
    lab: &Lab,
    at: Lsn,
    previous: Option<(Lsn, &Session)>,
    to: &(Arc<Repository>, Lock),
) -> Session {
    try_session(lab, at, previous, to).unwrap()
}

/// The same where it may fail.
pub fn try_session(
    lab: &Lab,
    at: Lsn,
    previous: Option<(Lsn, &Session)>,
    to: &(Arc<Repository>, Lock),
) -> Result<Session, SessionError> {
    watched(lab, at, previous, to, &NoMonitor)
}

fn watched(
    lab: &Lab,
    at: Lsn,
    previous: Option<(Lsn, &Session)>,
    to: &(Arc<Repository>, Lock),
    monitor: &dyn Monitor,
) -> Result<Session, SessionError> {
    let old = previous.map(|(lsn, session)| (lab.view(lsn), session));
    let previous =
        old.as_ref().map(|(view, session)| Previous { view, session: session.id, tree: session.tree });
    let record = RecordOptions { host: "master".to_owned(), ..RecordOptions::default() };
    back_up(&lab.view(at), previous.as_ref(), &entity(), (&to.0, &to.1), &record, monitor)
}

fn times(at: snapshot::repository::Timestamp) -> journal::Timestamp {
    journal::Timestamp(at.seconds * 1_000_000_000 + i64::from(at.nanoseconds))
}

fn canonical_node(repository: &Repository, node: &Node, path: &[u8]) -> CanonicalNode {
    let kind = match node.kind {
        NodeKind::File => Kind::File,
        NodeKind::Directory => Kind::Directory,
        NodeKind::Symlink => Kind::Symlink(node.link_target.clone()),
        NodeKind::Fifo => Kind::Fifo,
        NodeKind::Socket => Kind::Socket,
        NodeKind::CharacterDevice => Kind::CharDevice(node.device),
        NodeKind::BlockDevice => Kind::BlockDevice(node.device),
        NodeKind::Other => panic!("a node of no kind"),
    };
    let mut content = Vec::new();
    for blob in &node.content {
        content.extend(repository.load_blob(BlobKind::Data, blob).unwrap());
    }
    let (mode, uid, gid) = (node.permissions, node.uid, node.gid);
    let attributes = Attributes { mode, uid, gid, mtime: times(node.modified), ctime: times(node.changed) };
    let attributes = comparable(attributes, &kind);
    let xattrs = node.xattrs.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
    let size = node.size;
    CanonicalNode { kind, size, content: Arc::new(content), attributes, xattrs, first_name: path.to_vec() }
}

/// What a session holds below the root's path.
pub fn canonical(repository: &Repository, tree: Id) -> Canonical {
    let mut found = Canonical::new();
    let mut inodes = HashMap::new();
    let mut todo = vec![(Vec::new(), tree)];
    while let Some((path, tree)) = todo.pop() {
        let json = repository.load_blob(BlobKind::Tree, &tree).unwrap();
        read_tree(&tree, &json, &mut |node| {
            let path = join(&path, &node.name);
            todo.extend(node.subtree.map(|below| (path.clone(), below)));
            let below = path.strip_prefix(&PATH[1..]).map(|below| below.strip_prefix(b"/").unwrap_or(below));
            if let Some(below) = below {
                found.insert(below.to_vec(), canonical_node(repository, &node, below));
                inodes.insert(below.to_vec(), node.inode);
            }
            true
        })
        .unwrap();
    }
    group(&mut found, |path| inodes.get(path).copied());
    found
}

/// What the catalog would keep of all that is below the root.
fn rows(repository: &Repository, tree: Id) -> BTreeMap<Vec<u8>, Row> {
    let mut found = BTreeMap::new();
    let walked = repository.walk(&tree, &mut |path, node| {
        let path = [b"/", path].concat();
        if path.starts_with(PATH) && path != PATH {
            found.insert(path, listing::row(&node));
        }
        Step::Into
    });
    assert!(walked.unwrap());
    found
}

/// A path, what was there, and what is.
type Told = (Vec<u8>, Option<Row>, Option<Row>);

/// What a session says of its differences from the one before.
#[derive(Default)]
struct Differences {
    told: Mutex<Vec<Told>>,
    untold: AtomicBool,
}

impl Monitor for Differences {
    fn progress(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }

    fn changed(&self, path: &[u8], before: Option<&Node>, after: Option<&Node>) {
        let row = |node: Option<&Node>| node.map(listing::row);
        self.told.lock().unwrap().push((path.to_vec(), row(before), row(after)));
    }

    fn untold(&self) {
        self.untold.store(true, Ordering::Relaxed);
    }
}

impl Differences {
    /// Whether they say all; if they do, they make the one of the other.
    fn check(self, old: &BTreeMap<Vec<u8>, Row>, new: &BTreeMap<Vec<u8>, Row>, context: &str) -> bool {
        let (mut rows, mut paths) = (old.clone(), HashSet::new());
        let (told, all) = (self.told.into_inner().unwrap(), !self.untold.into_inner());
        for (path, before, after) in told {
            let text = String::from_utf8_lossy(&path).into_owned();
            assert!(paths.insert(path.clone()), "{context}: {text} is told twice");
            let was = match after {
                Some(row) => rows.insert(path, row),
                None => rows.remove(&path),
            };
            assert!(!all || was == before, "{context}: at {text} was {was:?}, not {before:?}");
        }
        if all {
            assert_eq!(&rows, new, "{context}: not all differences were told");
        }
        all
    }
}

/// The same session, recorded by a program that says nothing of its totals.
fn without_summary(session: Session, (repository, lock): &(Arc<Repository>, Lock)) -> Session {
    let mut record = repository.load_session(&session.id).unwrap();
    record.summary = None;
    let writer = BlobWriter::new(Arc::clone(repository), WriterOptions::default()).unwrap();
    match writer.commit(lock, &record).unwrap() {
        Commit::Recorded(id) => Session { id, ..session },
        Commit::Missing(missing) => panic!("{} blobs are missing", missing.len()),
    }
}

/// Edited sessions, and those of which all differences were told.
fn one_history(seed: u64, captures: usize) -> (u64, u64) {
    let mut rng = Rng::new(seed ^ 0x5e55);
    let names_max = if seed.is_multiple_of(3) { 40 } else { 12 };
    let file_bytes_max = if seed.is_multiple_of(4) { 3_000_000 } else { 30_000 };
    let options = Options { names_max, file_bytes_max, revive: seed.is_multiple_of(5), ..Options::default() };
    let mut generator = Generator::new(seed, options);
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let chain = repository();
    let mut last: Option<(Lsn, Session)> = None;
    let (mut done, mut edits, mut all) = (1, 0, 0);
    while done < captures {
        let batch: Vec<_> = (0..rng.below(12) + 1).map(|_| generator.next()).collect();
        done += batch.len();
        let placed = lab.journal_them(&batch).unwrap();
        lab.apply(&placed).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        if !rng.chance(1, 4) {
            continue;
        }
        // At any point after the one before, not at the newest only.
        let newest = lab.journal.applied();
        let oldest = last.as_ref().map_or(1, |(lsn, _)| lsn.captured);
        let at = Lsn::captured(oldest + rng.below(newest.captured - oldest + 1));
        let context = format!("seed {seed}, session at {at} after {:?}", last.as_ref().map(|(lsn, _)| lsn));
        let before = last.as_ref().map(|(lsn, session)| (*lsn, session));
        let differences = Differences::default();
        let edited = watched(&lab, at, before, &chain, &differences).unwrap();
        assert_eq!(edited.incremental, last.is_some(), "{context}");
        assert_eq!(edited.counts.missed, [], "{context}");
        let whole = session(&lab, at, None, &repository());
        let expected = generator.model.canonical_at(at, RootNo(0));
        assert_equal(&expected, &canonical(&chain.0, edited.tree), &context);
        assert_eq!(edited.tree, whole.tree, "{context}: the edited tree is not that of a whole look");
        assert_eq!(edited.totals, whole.totals, "{context}: totals");
        if let Some((_, old)) = &last {
            let (old, new) = (rows(&chain.0, old.tree), rows(&chain.0, edited.tree));
            edits += 1;
            all += u64::from(differences.check(&old, &new, &context));
        }
        last = Some((at, if rng.chance(1, 3) { without_summary(edited, &chain) } else { edited }));
    }
    (edits, all)
}

#[test]
fn a_session_is_what_the_view_showed() {
    let (mut edits, mut all, mut runs) = (0, 0, 0);
    for seed in seeds(30) {
        let (some, of_them) = one_history(seed, 150);
        (edits, all, runs) = (edits + some, all + of_them, runs + 1);
    }
    println!("{edits} sessions were edited; of {all} all differences were told");
    // Both happen: directories move, and they do not.
    assert!(runs < 10 || (all > 0 && all < edits), "{all} of {edits}");
}

/// Names that look the same as lossy text are not the same root: none takes the place of another in a retention.
#[test]
fn roots_that_are_not_utf8_are_apart() {
    let mut lab = Lab::new();
    lab.synchronized(&mut Generator::new(7, Options::default()));
    let (repository, lock) = repository();
    let paths: [&[u8]; 4] = [b"/srv/M\xfcller", b"/srv/M\xf6ller", b"/srv/M%FCller", b"/srv/M%F6ller"];
    let record = RecordOptions { host: "master".to_owned(), ..RecordOptions::default() };
    for path in paths {
        let entity = Entity { path: path.to_vec(), ..entity() };
        let view = lab.view(lab.journal.applied());
        back_up(&view, None, &entity, (&repository, &lock), &record, &NoMonitor).unwrap();
    }
    let policy = Policy { last: 1, ..Policy::default() };
    let options = ForgetOptions { policy, ..ForgetOptions::default() };
    let groups = plan_forget(&repository, &options, &NoWatch).unwrap();
    assert!(groups.iter().all(|group| group.forget.is_empty()), "{groups:?}");
    let mut found: Vec<Vec<u8>> = groups.iter().map(|group| path_of_text(&group.paths[0])).collect();
    found.sort_unstable();
    let mut wanted = paths.map(<[u8]>::to_vec);
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}
