//! The part of a rescue that reads sessions from volumes of tape.
//!
//! What is at hand is listed first: of a directory all volumes, of a device the one in it. Sessions are read whole, in one
//! pass forward, into a repository of their own in a private directory that is removed at the end, and are restored from there by the
//! same code as any other: nothing of a session is restored before the verdict on all of it is there. So it takes room for the
//! session twice. Its key is random and kept nowhere.
//!
//! Refused: a session that is damaged anywhere, with the damaged object named; a session whose parts are not all at hand,
//! with the volume named. A directory that is no drive is left as it is.

use super::work::{Records, Rescue, Rescued, Wanted, Watch, repository_failure};
use api::tapes;
use secrecy::SecretString;
use snapshot::repository::{
    KeyCost, LockOptions, Purpose, Repository, RepositoryError, RepositoryOptions, SessionRecord, lock,
};
use snapshot::session::Monitor;
use snapshot::store::DirectoryStore;
use snapshot::tape::archive::{
    ArchiveError, ArchiveErrorKind, IntoOptions, LabelFields, Unfit, into_repository,
};
use snapshot::tape::{
    AnyDrive, Automatic, FileContent, PartPlace, SpanReader, TapeError, TapeFile, TapeSession,
    VolumeInventory, parts_of, sessions, tape_error,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use wire::Failure;
use wire::codes::{self, Code};
use wire::failure::chain;

/// What the temporary repository's key is derived with: its password is as good as a key.
const KEY_COST: KeyCost = KeyCost { log_n: 4, r: 8, p: 1 };

impl Monitor for Watch {
    fn progress(&self, objects: u64, bytes: u64) {
        self.done(objects, bytes);
    }

    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }
}

/// Whether an address is of a tape.
pub(super) fn is_tape(url: &str) -> bool {
    url.starts_with("tape://")
}

/// Sessions that were read.
pub(super) struct Taken {
    pub repository: Arc<Repository>,
    /// Under their ids on tape.
    pub sessions: Records,
    /// Holds the repository; removed when this is dropped.
    pub directory: TempDir,
}

/// A session that is to be read.
struct Chosen {
    id: String,
    parts: Vec<PartPlace>,
}

/// A session and the time on its label, in seconds and nanoseconds.
type Dated = ((i64, u32), TapeSession);

/// Reads what is wanted.
///
/// # Errors
/// `BAD_URL`, `TAPE_DRIVE_FAILED`, `TAPE_VOLUME_WANTED`, `TAPE_DAMAGED`, `NO_SUCH_SESSION`, `SESSION_AMBIGUOUS`, `CANCELLED`;
/// those of the temporary repository.
pub(super) fn take(rescue: &Rescue, watch: &Watch, rescued: &mut Rescued) -> Result<Taken, Failure> {
    if matches!(rescue.which, Wanted::At(_) | Wanted::Lsn(_)) {
        return Err(no_moment());
    }
    let mut any = tapes::open_existing(&rescue.url)?;
    let loaded = any.loaded().map_err(|error| tape_failure(&error.into()))?;
    let outcome = volumes(&mut any, rescue, rescued)
        .and_then(|volumes| choose(&rescue.which, &volumes, rescued))
        .and_then(|chosen| read_all(&mut any, &chosen, rescue, watch));
    if let Err(error) = any.put_back(loaded.as_deref()) {
        rescued
            .warnings
            .push(format!("the volume that was in the drive is not in it again: {}", chain(&error)));
    }
    outcome
}

/// What is on the volumes at hand.
fn volumes(
    any: &mut AnyDrive,
    rescue: &Rescue,
    rescued: &mut Rescued,
) -> Result<Vec<VolumeInventory>, Failure> {
    let mut found = Vec::new();
    tapes::volumes_in(any, &rescue.url, &mut |volume| {
        match volume.content {
            Ok(inventory) => found.push(inventory),
            Err(why) => rescued.warnings.push(format!("volume {} was passed over: {why}", volume.name)),
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn choose(
    which: &Wanted,
    volumes: &[VolumeInventory],
    rescued: &mut Rescued,
) -> Result<Vec<Chosen>, Failure> {
    let found = sessions(volumes);
    match which {
        Wanted::Session(prefix) => Ok(vec![by_id(found, prefix, volumes)?]),
        Wanted::Latest => latest(found, volumes, rescued),
        Wanted::At(_) | Wanted::Lsn(_) => Err(no_moment()),
    }
}

fn no_moment() -> Failure {
    let text = "a moment cannot be rescued from tape yet: give a session or `latest`";
    Failure::new(&codes::NOT_AVAILABLE, text)
}

fn by_id(found: Vec<TapeSession>, prefix: &str, volumes: &[VolumeInventory]) -> Result<Chosen, Failure> {
    let prefix = prefix.to_ascii_lowercase();
    let mut fitting = found.into_iter().filter(|one| !prefix.is_empty() && one.session.starts_with(&prefix));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => whole(&one, volumes),
        (Some(one), Some(other)) => {
            let text = format!("{prefix} may be {} or {}", short(&one.session), short(&other.session));
            Err(Failure::new(&codes::SESSION_AMBIGUOUS, text))
        }
        (None, _) => {
            let text = format!("no session on the volumes at hand has an id that begins with {prefix:?}");
            Err(no_session(text))
        }
    }
}

fn no_session(text: String) -> Failure {
    Failure::new(&codes::NO_SUCH_SESSION, text)
        .advise("`restorectl tape inventory` shows what volumes hold; put in the ones that are missing.")
}

/// Of each root of each host the newest, by the time on its label; one that is not whole is passed over for an older one,
/// and that is said.
fn latest(
    found: Vec<TapeSession>,
    volumes: &[VolumeInventory],
    rescued: &mut Rescued,
) -> Result<Vec<Chosen>, Failure> {
    let mut roots: BTreeMap<(String, Vec<String>), Vec<Dated>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for one in found {
        let fields = one.label.clone().and_then(|label| serde_json::from_value::<LabelFields>(label).ok());
        match fields {
            Some(LabelFields { master, paths, time, .. }) => {
                let time = (time.seconds, time.nanoseconds);
                roots.entry((master, paths)).or_default().push((time, one));
            }
            None => unknown.push(one),
        }
    }
    let mut failure = None;
    for one in &unknown {
        let why = whole(one, volumes).err().map_or("its label cannot be read".into(), |error| {
            let text = error.message.clone();
            failure.get_or_insert(error);
            text
        });
        pass_over(rescued, &one.session, "what is restored of its root may be older", &why);
    }
    let mut chosen = Vec::new();
    for of_root in roots.into_values() {
        chosen.extend(newest(of_root, volumes, rescued)?);
    }
    if chosen.is_empty() {
        return Err(
            failure.unwrap_or_else(|| no_session("there is no session on the volumes at hand".to_owned()))
        );
    }
    Ok(chosen)
}

/// Of the sessions of one root the newest that is whole; none of none.
fn newest(
    mut of_root: Vec<Dated>,
    volumes: &[VolumeInventory],
    rescued: &mut Rescued,
) -> Result<Option<Chosen>, Failure> {
    of_root.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let mut failure = None;
    let found = of_root.iter().find_map(|(_, one)| match whole(one, volumes) {
        Ok(whole) => Some(whole),
        Err(error) => {
            failure.get_or_insert((&one.session, error));
            None
        }
    });
    match (&found, failure) {
        (Some(_), Some((session, error))) => {
            pass_over(rescued, session, "what is restored of its root is older", &error.message);
        }
        (None, Some((_, error))) => return Err(error),
        _ => {}
    }
    Ok(found)
}

fn pass_over(rescued: &mut Rescued, session: &str, what: &str, why: &str) {
    rescued
        .passed_over(format!("session {} was passed over; {what}: {why}", short(session)), "session on tape");
}

fn short(session: &str) -> &str {
    session.get(..16).unwrap_or(session)
}

/// A session with all its parts.
fn whole(one: &TapeSession, volumes: &[VolumeInventory]) -> Result<Chosen, Failure> {
    let id = one.session.clone();
    match parts_of(volumes, &id) {
        Ok(parts) => Ok(Chosen { id, parts }),
        // Which volume its end is on, no part before it can say.
        Err(TapeError::NotWhole { .. }) => {
            let text = match last_at_hand(&id, volumes) {
                Some(media) => format!(
                    "session {id} does not end on {media}, the last volume at hand that holds a part of it: put in the \
                     one behind it, unless the session was cut off when it was written"
                ),
                None => format!("session {id} does not end on the volumes at hand"),
            };
            Err(Failure::new(&codes::TAPE_VOLUME_WANTED, text))
        }
        Err(error) => Err(tape_failure(&error)),
    }
}

/// The volume with the last part of a session.
fn last_at_hand<'v>(id: &str, volumes: &'v [VolumeInventory]) -> Option<&'v str> {
    let part = |file: &TapeFile| match &file.content {
        FileContent::First { session, .. } if id.starts_with(session.as_str()) => Some(1),
        FileContent::Later { session, part, .. } if session == id => Some(*part),
        _ => None,
    };
    let parts = volumes.iter().flat_map(|volume| {
        volume.files.iter().filter_map(move |file| Some((part(file)?, volume.label.media.as_str())))
    });
    parts.max_by_key(|(part, _)| *part).map(|(_, media)| media)
}

/// A directory that nobody else can look into: where the system is told to put such, else beside the target, which has
/// the room for what is restored.
fn private_directory(onto: &[u8]) -> Result<TempDir, Failure> {
    let onto = Path::new(OsStr::from_bytes(onto));
    let beside = onto.ancestors().skip(1).find(|above| above.is_dir());
    let usual = std::env::temp_dir();
    let told = std::env::var_os("TMPDIR").is_some_and(|value| !value.is_empty());
    let first = beside.filter(|_| !told).unwrap_or(&usual);
    let make = |place: &Path| {
        let private = Permissions::from_mode(0o700);
        tempfile::Builder::new().prefix(".rewind-tape-").permissions(private).tempdir_in(place)
    };
    make(first).or_else(|_| make(&usual)).map_err(|error| {
        let text = format!("make a directory for what is read from tape in {}: {error}", usual.display());
        Failure::new(&codes::IO, text)
    })
}

fn random_password() -> Result<SecretString, Failure> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::new(&codes::IO, format!("read /dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

fn read_all(any: &mut AnyDrive, chosen: &[Chosen], rescue: &Rescue, watch: &Watch) -> Result<Taken, Failure> {
    let directory = private_directory(&rescue.onto)?;
    let place = directory.path().join("repository");
    let failed = |error: &RepositoryError| {
        repository_failure(&format!("keep the session in {}", place.display()), error)
    };
    let store = DirectoryStore::create(&place).map_err(|error| failed(&error.into()))?;
    let options = RepositoryOptions { key_cost: KEY_COST, ..RepositoryOptions::default() };
    let repository = Repository::init(Arc::new(store), &random_password()?, options);
    let repository = Arc::new(repository.map_err(|error| failed(&error))?);
    let lock = lock::acquire(&repository, Purpose::Backup, LockOptions::default());
    let lock = lock.map_err(|error| failed(&error))?;
    let options = IntoOptions { wanted: rescue.paths.clone(), unfit: Unfit::Refuse };
    let mut sessions = Vec::new();
    for one in chosen {
        let mut changer = Automatic;
        let reader = SpanReader::new(any.drive(), &mut changer, &one.id, one.parts.clone());
        let mut reader = Heard { inner: reader.map_err(|error| tape_failure(&error))?, failure: None };
        let into = (&repository, &lock);
        let taken = into_repository(&mut reader, &options, into, directory.path(), watch);
        let taken = taken.map_err(|error| archive_failure(&one.id, &error, reader.failure, &failed))?;
        // The label that was read from the tape proves its id; the parts only claim theirs.
        let id = taken.verdict.label.as_ref().map(|label| label.id());
        let Some(id) = id.filter(|id| id.to_string() == one.id) else {
            let text = format!("what the tape gives for session {} is another session", one.id);
            return Err(Failure::new(&codes::TAPE_DAMAGED, text));
        };
        let record: SessionRecord = repository.load_session(&taken.id).map_err(|error| failed(&error))?;
        sessions.push((id, record));
    }
    drop(lock);
    Ok(Taken { repository, sessions, directory })
}

/// A reader that remembers how the tape failed: who reads an archive takes any failure for its end.
struct Heard<'d> {
    inner: SpanReader<'d>,
    failure: Option<(&'static Code, String)>,
}

impl Read for Heard<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.inner.read(room).inspect_err(|error| {
            if let (None, Some(error)) = (&self.failure, tape_error(error)) {
                self.failure = Some((tapes::code_of(error), chain(error)));
            }
        })
    }
}

fn tape_failure(error: &TapeError) -> Failure {
    Failure::new(tapes::code_of(error), chain(error))
}

fn archive_failure(
    session: &str,
    error: &ArchiveError,
    tape: Option<(&'static Code, String)>,
    repository: &dyn Fn(&RepositoryError) -> Failure,
) -> Failure {
    let text = format!("session {session}: {}", chain(error));
    match (error, error.kind(), tape) {
        (_, ArchiveErrorKind::Cancelled, _) => Failure::new(&codes::CANCELLED, text),
        (ArchiveError::Repository { source }, ..) => repository(source),
        (_, ArchiveErrorKind::System, _) => Failure::new(&codes::IO, text),
        // The drive, or a volume that is not there: the archive has nothing to do with it.
        (_, _, Some((code, why))) if *code != codes::TAPE_DAMAGED => Failure::new(code, why),
        (_, _, Some((code, why))) => Failure::new(code, format!("{text}; {why}")),
        (_, ArchiveErrorKind::UnsupportedVersion, _) => Failure::new(&codes::NOT_AVAILABLE, text),
        _ => Failure::new(&codes::TAPE_DAMAGED, text),
    }
}
