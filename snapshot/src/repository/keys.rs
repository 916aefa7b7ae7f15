//! Key files: the repository's key, sealed under a key derived from a password.
//!
//! All key files of a repository hold the same key; each has a password of its own, so one can be given to somebody and
//! taken back. The derivation is scrypt. Its parameters come from the file, and the file from a store that may be
//! hostile: work and memory are bounded before any is spent. A key file that cannot be used is passed over, since another
//! may fit; which ones were passed over is reported.

use super::base64;
use super::crypto::{SealKey, fill_random};
use super::error::RepositoryError;
use super::id::{Id, ObjectKind};
use super::time::Timestamp;
use crate::store::BlobStore;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Largest key file that is read, in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Most key files that are tried.
pub const KEY_FILES_MAX: usize = 1000;
/// Most memory that a derivation may take, in bytes (128 N r).
pub const KDF_MEMORY_MAX: u64 = 1 << 30;
/// Most work of a derivation, as bytes passed through (128 N r p).
pub const KDF_WORK_MAX: u64 = 16 << 30;
const SALT_BYTES: usize = 64;

/// How costly it is to try a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCost {
    /// Binary logarithm of scrypt's N.
    pub log_n: u8,
    /// scrypt's r.
    pub r: u32,
    /// scrypt's p.
    pub p: u32,
}

impl Default for KeyCost {
    /// 32 MiB of memory and some tenths of a second.
    fn default() -> Self {
        Self { log_n: 15, r: 8, p: 4 }
    }
}

/// The JSON of a key file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeyFile {
    #[serde(default)]
    created: Timestamp,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The JSON inside, sealed.
#[derive(Serialize, Deserialize)]
struct KeyBody {
    mac: MacBody,
    encrypt: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
struct MacBody {
    k: Zeroizing<String>,
    r: Zeroizing<String>,
}

/// What a key file says of itself, readable without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Name of the file.
    pub id: Id,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub username: String,
    /// Where.
    pub hostname: String,
}

/// Writes a key file and returns its id.
///
/// # Errors
/// `KeyParameter`, `Random`, `Store`.
pub fn create(
    store: &dyn BlobStore,
    key: &SealKey,
    password: &SecretString,
    cost: KeyCost,
    owner: &super::lock::Identity,
) -> Result<Id, RepositoryError> {
    let mut salt = [0; SALT_BYTES];
    fill_random(&mut salt)?;
    let derived = derive(&Id([0; 32]), password, &salt, cost)?;
    let encode = |bytes: &[u8]| Zeroizing::new(base64::encoded(bytes));
    let body = KeyBody {
        mac: MacBody { k: encode(&key.mac_k), r: encode(&key.mac_r) },
        encrypt: encode(&key.encrypt),
    };
    let failed = |source| RepositoryError::Json { object: "a new key".into(), source };
    let body = Zeroizing::new(serde_json::to_vec(&body).map_err(failed)?);
    let file = KeyFile {
        created: Timestamp::now(),
        username: owner.username.clone(),
        hostname: owner.hostname.clone(),
        kdf: "scrypt".into(),
        n: 1 << cost.log_n,
        r: cost.r,
        p: cost.p,
        salt: base64::encoded(&salt),
        data: base64::encoded(&derived.seal(&body)?),
    };
    let json = serde_json::to_vec(&file).map_err(failed)?;
    let id = Id::of(&json);
    store.put(&ObjectKind::Key.name(&id), json.into())?;
    Ok(id)
}

/// Tries the password on every key file until `accept` takes the key inside. Several are tried because an init that was
/// cut off may have left a key that belongs to no config.
///
/// # Errors
/// `WrongPassword`, `Store`, `TooLarge` (keys), what `accept` fails with if no later key is accepted.
pub fn open<T>(
    store: &dyn BlobStore,
    password: &SecretString,
    accept: &mut dyn FnMut(Id, SealKey) -> Result<T, RepositoryError>,
) -> Result<T, RepositoryError> {
    let ids = list_ids(store)?;
    let mut refused = None;
    for id in &ids {
        // A file that is damaged or gone must not hide the others.
        let key = match read(store, id).and_then(|file| unseal(id, &file, password)) {
            Ok(Some(key)) => key,
            Ok(None) => continue,
            Err(error @ RepositoryError::Store { .. }) if !is_gone(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(key = %id, error = %crate::repository::chain(&error), "key file passed over");
                refused = Some(error);
                continue;
            }
        };
        match accept(*id, key) {
            Ok(value) => return Ok(value),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or(RepositoryError::WrongPassword { keys: ids.len() }))
}

fn is_gone(error: &RepositoryError) -> bool {
    error.kind() == super::error::RepositoryErrorKind::NotFound
}

/// Ids of the key files, in order.
///
/// # Errors
/// `Store`, `TooLarge`.
pub fn list_ids(store: &dyn BlobStore) -> Result<Vec<Id>, RepositoryError> {
    let mut ids = Vec::new();
    store.list(ObjectKind::Key.directory(), &mut |entry| {
        ids.extend(ObjectKind::Key.id_in(&entry.name));
        ids.len() <= KEY_FILES_MAX
    })?;
    if ids.len() > KEY_FILES_MAX {
        let (size, limit) = (ids.len() as u64, KEY_FILES_MAX as u64);
        return Err(RepositoryError::TooLarge { what: "the number of keys", size, limit });
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What the key files say of themselves; those that cannot be read are left out.
///
/// # Errors
/// `Store`, `TooLarge`.
pub fn list(store: &dyn BlobStore) -> Result<Vec<KeyInfo>, RepositoryError> {
    let mut infos = Vec::new();
    for id in list_ids(store)? {
        match read(store, &id) {
            Ok(KeyFile { created, username, hostname, .. }) => {
                infos.push(KeyInfo { id, created, username, hostname });
            }
            Err(error @ RepositoryError::Store { .. }) if !is_gone(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(key = %id, error = %crate::repository::chain(&error), "key file passed over");
            }
        }
    }
    Ok(infos)
}

fn read(store: &dyn BlobStore, id: &Id) -> Result<KeyFile, RepositoryError> {
    let name = ObjectKind::Key.name(id);
    let json = store.get(&name, KEY_FILE_BYTES_MAX)?;
    serde_json::from_slice(&json).map_err(|source| RepositoryError::Json { object: name, source })
}

/// The key in a file; `None` if the password is not its own.
fn unseal(id: &Id, file: &KeyFile, password: &SecretString) -> Result<Option<SealKey>, RepositoryError> {
    let name = ObjectKind::Key.name(id);
    let damaged = |what| RepositoryError::damaged(&*name, 0, what);
    if file.kdf != "scrypt" {
        return Err(damaged("the key derivation is not scrypt"));
    }
    if !file.n.is_power_of_two() || file.n < 2 {
        return Err(RepositoryError::KeyParameter { key: *id, parameter: "N", value: file.n });
    }
    let log_n = u8::try_from(file.n.trailing_zeros()).unwrap_or(u8::MAX);
    let salt = base64::decode(&file.salt).ok_or_else(|| damaged("the salt is not base64"))?;
    let mut data = base64::decode(&file.data).ok_or_else(|| damaged("the data is not base64"))?;
    let derived = derive(id, password, &salt, KeyCost { log_n, r: file.r, p: file.p })?;
    let Ok(plain) = derived.open_in_place(&mut data) else { return Ok(None) };
    let failed = |source| RepositoryError::Json { object: name.clone(), source };
    let body: KeyBody = serde_json::from_slice(plain).map_err(failed)?;
    let mut bytes = Zeroizing::new([0; 64]);
    let (encrypt, mac) = bytes.split_at_mut(32);
    let (mac_k, mac_r) = mac.split_at_mut(16);
    for (field, text) in [(encrypt, &body.encrypt), (mac_k, &body.mac.k), (mac_r, &body.mac.r)] {
        let value = base64::decode(text).filter(|value| value.len() == field.len());
        field.copy_from_slice(&value.ok_or_else(|| damaged("a key inside has a wrong length"))?);
    }
    Ok(Some(SealKey::from_bytes(&bytes)))
}

/// Derives the key of a password, refusing parameters that would take more than the limits.
fn derive(id: &Id, password: &SecretString, salt: &[u8], cost: KeyCost) -> Result<SealKey, RepositoryError> {
    let refuse = |parameter, value| RepositoryError::KeyParameter { key: *id, parameter, value };
    let n = 1u64.checked_shl(cost.log_n.into()).ok_or_else(|| refuse("N", cost.log_n.into()))?;
    let memory = n.checked_mul(128 * u64::from(cost.r)).filter(|bytes| *bytes <= KDF_MEMORY_MAX);
    let memory = memory.ok_or_else(|| refuse("N", n))?;
    memory
        .checked_mul(cost.p.into())
        .filter(|bytes| *bytes <= KDF_WORK_MAX)
        .ok_or_else(|| refuse("p", cost.p.into()))?;
    let params =
        scrypt::Params::new(cost.log_n, cost.r, cost.p, 32).map_err(|_| refuse("r", cost.r.into()))?;
    let mut bytes = Zeroizing::new([0; 64]);
    scrypt::scrypt(password.expose_secret().as_bytes(), salt, &params, bytes.as_mut_slice())
        .map_err(|_| refuse("r", cost.r.into()))?;
    Ok(SealKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests;
