//! The part of a rescue that reads sessions from volumes of tape.
//!
//! What is at hand is listed first: of a directory all volumes, of a device the one in it. Sessions are read whole, in one
//! pass forward, into a repository of their own in a private directory that is removed at the end, and are restored from there by the
//! same code as any other: nothing of a session is restored before the verdict on all of it is there. So it takes room for the
//! session twice. Its key is random and kept nowhere.
//!
//! Of an encrypted session the label does not say which root it is of: which is the latest of a root is known when the label
//! inside was read, which takes the password and one look at the beginning of each.
//!
//! Refused: a session that is damaged anywhere, with the damaged object named; a session whose parts are not all at hand,
//! with the volume named. A directory that is no drive is left as it is.

use super::work::{Records, Rescue, Rescued, Wanted, Watch};
use api::tapes::{self, Chosen, Recalled};
use secrecy::{ExposeSecret, SecretString};
use snapshot::repository::Repository;
use snapshot::session::Monitor;
use snapshot::tape::archive::{LabelFields, TapeKey};
use snapshot::tape::{
    AnyDrive, FileContent, TapeError, TapeFile, TapeSession, VolumeInventory, parts_of, sessions,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use wire::Failure;
use wire::codes;
use wire::failure::chain;

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
    let key = key_of(&rescue.password)?;
    let mut any = tapes::open_existing(&rescue.url)?;
    let loaded = any.loaded().map_err(|error| tape_failure(&error.into()))?;
    let outcome = volumes(&mut any, rescue, rescued)
        .and_then(|volumes| choose(&mut any, key.as_ref(), (&rescue.which, &volumes), rescued))
        .and_then(|chosen| read_all(&mut any, (&chosen, key.as_ref()), rescue, watch));
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

/// What was given as password, if anything was.
fn key_of(password: &SecretString) -> Result<Option<TapeKey>, Failure> {
    if password.expose_secret().is_empty() {
        return Ok(None);
    }
    TapeKey::of(password).map(Some).map_err(|error| Failure::new(&codes::USAGE, error.to_string()))
}

fn choose(
    any: &mut AnyDrive,
    key: Option<&TapeKey>,
    (which, volumes): (&Wanted, &[VolumeInventory]),
    rescued: &mut Rescued,
) -> Result<Vec<Chosen>, Failure> {
    let found = sessions(volumes);
    match which {
        Wanted::Session(prefix) => Ok(vec![by_id(found, prefix, volumes)?]),
        Wanted::Latest => latest(any, key, (found, volumes), rescued),
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
    any: &mut AnyDrive,
    key: Option<&TapeKey>,
    (found, volumes): (Vec<TapeSession>, &[VolumeInventory]),
    rescued: &mut Rescued,
) -> Result<Vec<Chosen>, Failure> {
    let mut roots: BTreeMap<(String, Vec<String>), Vec<Dated>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for one in found {
        match said(any, key, &one, volumes) {
            Ok(LabelFields { master, paths, time, .. }) => {
                let time = (time.seconds, time.nanoseconds);
                roots.entry((master, paths)).or_default().push((time, one));
            }
            Err(error) if *error.code == *codes::CANCELLED.id => return Err(error),
            Err(error) => unknown.push((one, error)),
        }
    }
    let mut failure = None;
    for (one, error) in unknown {
        pass_over(rescued, &one.session, "what is restored of its root may be older", &error.message);
        failure.get_or_insert(error);
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

/// What the label of a session says; of an encrypted one the label inside.
fn said(
    any: &mut AnyDrive,
    key: Option<&TapeKey>,
    one: &TapeSession,
    volumes: &[VolumeInventory],
) -> Result<LabelFields, Failure> {
    let damaged = || Failure::new(&codes::TAPE_DAMAGED, "its label cannot be read");
    let fields = one.label.clone().and_then(|label| serde_json::from_value::<LabelFields>(label).ok());
    match fields {
        Some(fields) if fields.encryption == "none" => Ok(fields),
        Some(_) => {
            let chosen = whole(one, volumes)?;
            let label = tapes::label_inside(any, (&chosen, key), &std::env::temp_dir())?;
            label.map(|label| label.fields().clone()).ok_or_else(damaged)
        }
        None => {
            whole(one, volumes)?;
            Err(damaged())
        }
    }
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
    tapes::private_directory(first).or_else(|_| tapes::private_directory(&usual)).map_err(|error| {
        let text = format!("make a directory for what is read from tape in {}: {error}", usual.display());
        Failure::new(&codes::IO, text)
    })
}

fn read_all(
    any: &mut AnyDrive,
    chosen: (&[Chosen], Option<&TapeKey>),
    rescue: &Rescue,
    watch: &Watch,
) -> Result<Taken, Failure> {
    let directory = private_directory(&rescue.onto)?;
    let Recalled { repository, sessions, directory } =
        tapes::recall(any, chosen, &rescue.paths, directory, watch)?;
    Ok(Taken { repository, sessions, directory })
}

fn tape_failure(error: &TapeError) -> Failure {
    Failure::new(tapes::code_of(error), chain(error))
}
