//! Reading sessions from volumes: into a repository of their own for a restore, into a listing, or for the proof alone.
//!
//! A session is read in one pass forward, and nothing of it counts before the verdict on all of it is there; the label that was
//! read proves its id, the parts only claim theirs. What is restored lies in a private directory that goes with
//! [`Recalled`], so it takes room for what is wanted of the session twice. Its key is random and kept nowhere.
//!
//! Refused: a session that is damaged anywhere, with the damaged object named; one whose volumes are not all at hand, with
//! the volume named.

use super::code_of;
use crate::engine::{EngineError, EngineResult};
use crate::vault::repository_error;
use secrecy::SecretString;
use snapshot::repository::{
    Id, KeyCost, Lock, LockOptions, Purpose, Repository, RepositoryOptions, SessionRecord, lock,
};
use snapshot::session::{Monitor, NoMonitor};
use snapshot::store::DirectoryStore;
use snapshot::tape::archive::{
    ArchiveError, ArchiveErrorKind, Content, Flow, IntoOptions, Keep, Member, Proof, SessionLabel,
    SessionReader, Taken, TapeKey, Verdict, Visitor, into_repository, whole,
};
use snapshot::tape::{AnyDrive, Automatic, PartPlace, SpanReader, TapeError, tape_error};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use wire::codes::{self, Code};
use wire::failure::chain;

/// What the key of a repository is derived with whose password is as good as a key.
pub(crate) const KEY_COST: KeyCost = KeyCost { log_n: 4, r: 8, p: 1 };
/// Directories of recalled sessions begin so; what is left of a daemon that died is known by it.
pub const PREFIX: &str = ".rewind-tape-";

/// A session and where all its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The id on its label.
    pub id: String,
    /// In their order.
    pub parts: Vec<PartPlace>,
}

/// Sessions that were read.
pub struct Recalled {
    /// Holds what was wanted of them.
    pub repository: Arc<Repository>,
    /// Their records, under their ids on tape.
    pub sessions: Vec<(Id, SessionRecord)>,
    /// Holds the repository; removed when this is dropped.
    pub directory: TempDir,
}

/// A password that nobody has to remember.
///
/// # Errors
/// `IO`.
pub(crate) fn random_password() -> EngineResult<SecretString> {
    let mut bytes = [0; 32];
    let place = Path::new("/dev/urandom");
    File::open(place)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| EngineError::io("read", place, error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// A directory in another one that nobody else can look into.
///
/// # Errors
/// Of the system.
pub fn private_directory(place: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(place)
}

/// Removes what recalls of a daemon that died have left in a directory.
pub fn sweep(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "what was recalled from tape is not removed");
        }
    }
}

/// Reads sessions into a repository in `directory`: the wanted paths, or everything. The key is for encrypted ones.
///
/// # Errors
/// `TAPE_VOLUME_WANTED`, `TAPE_DAMAGED`, `TAPE_DRIVE_FAILED`, `TAPE_PASSWORD_WANTED`, `TAPE_PASSWORD_WRONG`, `CANCELLED`; those
/// of the repository.
pub fn recall(
    any: &mut AnyDrive,
    (chosen, key): (&[Chosen], Option<&TapeKey>),
    paths: &[Vec<u8>],
    directory: TempDir,
    monitor: &dyn Monitor,
) -> EngineResult<Recalled> {
    let place = directory.path().join("repository");
    let failed = |error| repository_error("keep the session that is read from tape", error);
    let store = DirectoryStore::create(&place).map_err(|error| failed(error.into()))?;
    let options = RepositoryOptions { key_cost: KEY_COST, ..RepositoryOptions::default() };
    let repository = Repository::init(Arc::new(store), &random_password()?, options);
    let repository = Arc::new(repository.map_err(failed)?);
    let lock = lock::acquire(&repository, Purpose::Backup, LockOptions::default()).map_err(failed)?;
    let options = IntoOptions { wanted: paths.to_vec(), key: key.cloned(), ..IntoOptions::default() };
    let mut sessions = Vec::new();
    for one in chosen {
        let taken = into(any, one, &options, (&repository, &lock), directory.path(), monitor)?;
        let id = Id::parse(&one.id).unwrap_or(taken.id);
        sessions.push((id, repository.load_session(&taken.id).map_err(failed)?));
    }
    drop(lock);
    Ok(Recalled { repository, sessions, directory })
}

/// Reads what a session holds into a listing: its trees and its record.
///
/// # Errors
/// As [`recall`].
pub(crate) fn list(
    any: &mut AnyDrive,
    chosen: &Chosen,
    key: Option<&TapeKey>,
    stage: (&Arc<Repository>, &Lock),
    scratch: &Path,
    monitor: &dyn Monitor,
) -> EngineResult<Taken> {
    let options = IntoOptions { keep: Keep::Trees, key: key.cloned(), ..IntoOptions::default() };
    into(any, chosen, &options, stage, scratch, monitor)
}

fn into(
    any: &mut AnyDrive,
    chosen: &Chosen,
    options: &IntoOptions,
    to: (&Arc<Repository>, &Lock),
    scratch: &Path,
    monitor: &dyn Monitor,
) -> EngineResult<Taken> {
    let taken = read(any, chosen, |reader| into_repository(reader, options, to, scratch, monitor))?;
    check_label(chosen, &taken.verdict)?;
    Ok(taken)
}

/// What a proof saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proved {
    /// Names of objects.
    pub objects: u64,
    /// Bytes of files, each name with its own content counted.
    pub bytes: u64,
}

/// Reads a session to its end and believes nothing: the verdict says what is right of it.
///
/// # Errors
/// As [`recall`], but for `TAPE_DAMAGED` of what the verdict lists.
pub(crate) fn prove(
    any: &mut AnyDrive,
    (chosen, key): (&Chosen, Option<&TapeKey>),
    scratch: &Path,
    monitor: &dyn Monitor,
) -> EngineResult<(Verdict, Proved)> {
    let mut prover = Prover { monitor, proved: Proved::default() };
    let verdict =
        read(any, chosen, |reader| SessionReader::open_with(reader, key, scratch)?.read(&mut prover))?;
    if verdict.label.is_some() {
        check_label(chosen, &verdict)?;
    }
    Ok((verdict, prover.proved))
}

/// Proves what comes out of a stream by the archive's own hashes.
///
/// # Errors
/// `NotWhole`, and those of the archive.
pub(super) fn proved(input: impl Read, key: Option<&TapeKey>, scratch: &Path) -> Result<(), ArchiveError> {
    let mut prover = Prover { monitor: &NoMonitor, proved: Proved::default() };
    whole(&SessionReader::open_with(input, key, scratch)?.read(&mut prover)?)
}

/// The label inside a session, for which its beginning is read; `None` if it is damaged.
///
/// # Errors
/// As [`recall`].
pub fn label_inside(
    any: &mut AnyDrive,
    (chosen, key): (&Chosen, Option<&TapeKey>),
    scratch: &Path,
) -> EngineResult<Option<SessionLabel>> {
    read(any, chosen, |reader| Ok(SessionReader::open_with(reader, key, scratch)?.label().cloned()))
}

/// Refuses a verdict that is not good.
///
/// # Errors
/// `TAPE_DAMAGED`.
pub(crate) fn check_whole(chosen: &Chosen, verdict: &Verdict) -> EngineResult<()> {
    whole(verdict).map_err(|error| archive_failure(&chosen.id, error, None))
}

struct Prover<'m> {
    monitor: &'m dyn Monitor,
    proved: Proved,
}

impl Visitor for Prover<'_> {
    fn member(&mut self, member: &Member, _: &mut Content<'_>) -> Result<Flow, ArchiveError> {
        self.proved.objects += 1;
        self.proved.bytes = self.proved.bytes.saturating_add(member.node.size);
        self.monitor.progress(self.proved.objects, self.proved.bytes);
        Ok(if self.monitor.cancelled() { Flow::Stop } else { Flow::On })
    }

    fn cancelled(&self) -> bool {
        self.monitor.cancelled()
    }

    fn proof(&mut self, _: Proof) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// The label that was read from the tape proves its id; the parts only claim theirs.
fn check_label(chosen: &Chosen, verdict: &Verdict) -> EngineResult<()> {
    let id = verdict.label.as_ref().map(|label| label.id().to_string());
    if id.as_deref() == Some(chosen.id.as_str()) {
        return Ok(());
    }
    let text = format!("what the tape gives for session {} is another session", chosen.id);
    Err(EngineError::new(&codes::TAPE_DAMAGED, text))
}

fn read<T>(
    any: &mut AnyDrive,
    chosen: &Chosen,
    read: impl FnOnce(&mut Heard<'_>) -> Result<T, ArchiveError>,
) -> EngineResult<T> {
    let mut changer = Automatic;
    let reader = SpanReader::new(any.drive(), &mut changer, &chosen.id, chosen.parts.clone());
    let mut reader = Heard { inner: reader.map_err(|error| tape_failure(&error))?, failure: None };
    let outcome = read(&mut reader);
    match (outcome, reader.failure) {
        // A verdict on what could not be read says nothing of the session.
        (Ok(_), Some((code, why))) if *code != codes::TAPE_DAMAGED => Err(EngineError::new(code, why)),
        (outcome, failure) => outcome.map_err(|error| archive_failure(&chosen.id, error, failure)),
    }
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
                self.failure = Some((code_of(error), chain(error)));
            }
        })
    }
}

fn tape_failure(error: &TapeError) -> EngineError {
    EngineError::new(code_of(error), chain(error))
}

fn archive_failure(session: &str, error: ArchiveError, tape: Option<(&'static Code, String)>) -> EngineError {
    let text = format!("session {session}: {}", chain(&error));
    match (error.kind(), tape) {
        (ArchiveErrorKind::Cancelled, _) => EngineError::new(&codes::CANCELLED, text),
        _ if matches!(error, ArchiveError::Repository { .. }) => match error {
            ArchiveError::Repository { source } => repository_error("keep what is read from tape", source),
            _ => EngineError::new(&codes::IO, text),
        },
        (ArchiveErrorKind::Key, _) => {
            let code = match error {
                ArchiveError::WrongKey { .. } => &codes::TAPE_PASSWORD_WRONG,
                _ => &codes::TAPE_PASSWORD_WANTED,
            };
            EngineError::new(code, text)
        }
        (ArchiveErrorKind::System, _) => EngineError::new(&codes::IO, text),
        // The drive, or a volume that is not there: the archive has nothing to do with it.
        (_, Some((code, why))) if *code != codes::TAPE_DAMAGED => EngineError::new(code, why),
        (_, Some((code, why))) => EngineError::new(code, format!("{text}; {why}")),
        (ArchiveErrorKind::UnsupportedVersion, _) => EngineError::new(&codes::NOT_AVAILABLE, text),
        _ => EngineError::new(&codes::TAPE_DAMAGED, text),
    }
}
