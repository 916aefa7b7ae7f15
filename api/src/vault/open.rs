//! Opening repositories, and their passwords on disk.

use super::error::{repository_error, store_error};
use crate::engine::{EngineError, EngineResult};
use crate::store::make_private;
use crate::tapes::KEY_COST;
use secrecy::{ExposeSecret, SecretString};
use snapshot::repository::{Repository, RepositoryError, RepositoryErrorKind, RepositoryOptions, lock};
use snapshot::store::{
    self, ConditionalPut, DirectoryStore, Environment, StoreErrorKind, StoreOptions, StoreUrl,
};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use wire::codes;
use wire::failure::chain;
use zeroize::Zeroizing;

/// Longest password, in bytes.
pub(super) const PASSWORD_BYTES_MAX: u64 = 64 << 10;
/// Replaced passwords of one repository that are kept.
const KEPT_MAX: u32 = 100;

/// What adding a repository came to.
pub(super) struct Made {
    pub repository: Arc<Repository>,
    pub created: bool,
    pub conditional_put: Option<ConditionalPut>,
}

/// Opens the repository at an address, or makes it where there is none.
pub(super) fn open_or_create(
    url: &StoreUrl,
    password: &SecretString,
    runtime: &Handle,
) -> EngineResult<Made> {
    let size = password.expose_secret().len() as u64;
    if size == 0 || size > PASSWORD_BYTES_MAX {
        let message = format!("a password of {size} bytes; 1 to {PASSWORD_BYTES_MAX} are accepted");
        return Err(EngineError::new(&codes::BAD_PARAMETERS, message));
    }
    let options = StoreOptions::default();
    let environment = Environment::of_process();
    let opened =
        store::create(url, &options, &environment, runtime).map_err(|error| store_error(url, error))?;
    let conditional_put = opened.probe_conditional_put().map_err(|error| store_error(url, error))?;
    let shared = opened.into_shared();
    let (repository, created) = match Repository::open(Arc::clone(&shared), password) {
        Ok(repository) => (repository, false),
        Err(error) if error.kind() == RepositoryErrorKind::NoRepository => {
            let made = Repository::init(shared, password, RepositoryOptions::default());
            (made.map_err(|error| repository_error("make the repository", error))?, true)
        }
        Err(error) => return Err(repository_error("open the repository", error)),
    };
    Ok(Made { repository: Arc::new(repository), created, conditional_put: Some(conditional_put) })
}

/// Opens a repository that is there.
pub(super) fn open(
    url: &StoreUrl,
    password: &SecretString,
    runtime: &Handle,
) -> EngineResult<Arc<Repository>> {
    let options = StoreOptions::default();
    let opened = store::open(url, &options, &Environment::of_process(), runtime)
        .map_err(|error| store_error(url, error))?;
    let repository = Repository::open(opened.into_shared(), password)
        .map_err(|error| repository_error("open the repository", error))?;
    Ok(Arc::new(repository))
}

/// Opens the listing of a tape repository; what cannot be opened as one is made anew, empty, for it is a projection.
pub(super) fn open_stage(place: &Path, password: &SecretString) -> EngineResult<Arc<Repository>> {
    let failed = |error| repository_error("open the listing of the tape repository", error);
    let opened = DirectoryStore::open(place)
        .map_err(RepositoryError::from)
        .and_then(|store| Repository::open(Arc::new(store), password));
    let repository = match opened {
        Ok(repository) => repository,
        Err(error) if !is_no_stage(error.kind()) => return Err(failed(error)),
        Err(error) => {
            if place.exists() {
                let why = chain(&error);
                tracing::warn!(place = %place.display(), "the listing of a tape repository is made anew: {why}");
                std::fs::remove_dir_all(place).map_err(|error| EngineError::io("remove", place, error))?;
            }
            place.parent().map_or(Ok(()), make_private)?;
            let store = DirectoryStore::create(place).map_err(|error| failed(error.into()))?;
            let options = RepositoryOptions { key_cost: KEY_COST, ..RepositoryOptions::default() };
            Repository::init(Arc::new(store), password, options).map_err(failed)?
        }
    };
    // This daemon alone uses it: what was locked, was locked by one that died.
    lock::remove_all(&repository).map_err(failed)?;
    Ok(Arc::new(repository.by_original()))
}

fn is_no_stage(kind: RepositoryErrorKind) -> bool {
    use RepositoryErrorKind as Kind;
    matches!(
        kind,
        Kind::WrongPassword | Kind::NoRepository | Kind::UnsupportedVersion | Kind::Damaged | Kind::NotFound
    ) || kind == Kind::Store(StoreErrorKind::NotFound)
}

/// Keeps a password: whole or not at all, readable by its owner alone, durable when this returns.
pub(super) fn write_secret(directory: &Path, id: u64, password: &SecretString) -> EngineResult<()> {
    write_named(directory, &format!("repository-{id}"), password)
}

/// As [`write_secret`], of what sessions on tape are encrypted with: the other one opens the listing alone.
pub(super) fn write_tape_secret(directory: &Path, id: u64, password: &SecretString) -> EngineResult<()> {
    write_named(directory, &format!("tape-{id}"), password)
}

fn write_named(directory: &Path, name: &str, password: &SecretString) -> EngineResult<()> {
    make_private(directory)?;
    let path = directory.join(name);
    let unfinished = directory.join(format!("{name}.new"));
    let write = || {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(password.expose_secret().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        File::open(directory)?.sync_all()?;
        // The directory's own name: it may have been made just now.
        directory.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
    };
    write().map_err(|error| EngineError::io("write", &path, error))
}

/// The password of a repository.
pub(super) fn read_secret(directory: &Path, id: u64) -> EngineResult<SecretString> {
    read_named(directory, &format!("repository-{id}"))
}

/// What sessions on tape are encrypted with.
pub(super) fn read_tape_secret(directory: &Path, id: u64) -> EngineResult<SecretString> {
    read_named(directory, &format!("tape-{id}"))
}

/// The same; `None` if it is not there, or empty.
pub(super) fn find_tape_secret(directory: &Path, id: u64) -> EngineResult<Option<SecretString>> {
    let path = directory.join(format!("tape-{id}"));
    match path.try_exists() {
        Ok(true) => read_tape_secret(directory, id)
            .map(|secret| Some(secret).filter(|text| !text.expose_secret().is_empty())),
        Ok(false) => Ok(None),
        Err(error) => Err(EngineError::io("look for", &path, error)),
    }
}

/// Keeps what is about to be replaced, under the next free name beside it.
pub(super) fn keep_tape_secret(directory: &Path, id: u64) -> EngineResult<()> {
    let path = directory.join(format!("tape-{id}"));
    for number in 1..KEPT_MAX {
        match std::fs::hard_link(&path, directory.join(format!("tape-{id}.{number}"))) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            kept => return kept.map_err(|error| EngineError::io("keep", &path, error)),
        }
    }
    let full = io::Error::new(io::ErrorKind::AlreadyExists, "it was replaced too often");
    Err(EngineError::io("keep", &path, full))
}

fn read_named(directory: &Path, name: &str) -> EngineResult<SecretString> {
    let path = directory.join(name);
    let read = || {
        let mut text = Zeroizing::new(String::new());
        File::open(&path)?.take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
        Ok(SecretString::from(text.as_str()))
    };
    read().map_err(|error| {
        EngineError::io("read", &path, error)
            .because("The password of the repository cannot be read.")
            .advise("Add the repository again, with the same name and URL and its password.")
    })
}
