//! Session records: what restic calls snapshots.
//!
//! A record names the tree, and says of what, by whom and when it was made. It is written last, when all that its tree
//! needs is durable: a reader that finds a record finds everything. Ids may be shortened to any unambiguous beginning.
//!
//! Paths are bytes and records hold text. [`path_text`] is one to one, so that roots whose names are not UTF-8 do not become
//! one: sessions are grouped, and forgotten, by this text.

use super::Repository;
use super::error::RepositoryError;
use super::id::{ID_DIGITS, Id, ObjectKind};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Largest record that is read, in bytes of JSON.
pub const SESSION_BYTES_MAX: usize = 16 << 20;

/// A session as it is recorded. The order of fields is that of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// When the backed up state was current.
    pub time: Timestamp,
    /// The session it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// Root tree.
    pub tree: Id,
    /// Absolute paths on the machine that was backed up, as [`path_text`] has them.
    #[serde(default, deserialize_with = "nullable")]
    pub paths: Vec<String>,
    /// The machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who ran the backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Numeric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Numeric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Patterns that were left out.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Free words; ours carry scenario, entity, LSN and class.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The record that this one was rewritten from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// Statistics, in whatever form the writer has them; kept when a record is rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<serde_json::Value>,
}

impl SessionRecord {
    /// Objects that the session lacks because they could not be read when it was made; 0 if its writer does not say.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let missed = self.summary.as_ref().and_then(|summary| summary.get("missed"));
        missed.and_then(serde_json::Value::as_u64).unwrap_or(0)
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Go writes an absent list as `null`.
fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The text of an absolute path: itself if it is UTF-8. Else, after one more `/` in front, which no such path begins with,
/// each byte that is not UTF-8 and each `%` as `%` and two digits.
#[must_use]
pub fn path_text(path: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(path) {
        return text.to_owned();
    }
    let mut text = "/".to_owned();
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The path of a text that [`path_text`] made; of every other text its bytes.
#[must_use]
pub fn path_of_text(text: &str) -> Vec<u8> {
    let escaped = text.strip_prefix('/').filter(|path| path.starts_with('/'));
    let decoded = escaped.and_then(unescaped).filter(|path| path_text(path) == text);
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut path = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        path.push(u8::from_str_radix(digits, 16).ok()?);
        path.extend_from_slice(rest.as_bytes());
    }
    Some(path)
}

impl Repository {
    /// Writes a session record. Everything its tree needs must be durable and in durable index files: call
    /// [`flush`](super::writer::BlobWriter::flush) first.
    ///
    /// # Errors
    /// `Store`, `Zstd`, `Random`.
    pub fn save_session(&self, session: &SessionRecord) -> Result<Id, RepositoryError> {
        let json = serde_json::to_vec(session)
            .map_err(|source| RepositoryError::Json { object: "a session record".into(), source })?;
        let record = self.save_unpacked(ObjectKind::Snapshot, &json)?;
        Ok(session.original.filter(|_| self.names.is_some()).unwrap_or(record))
    }

    /// Reads a session record.
    ///
    /// # Errors
    /// `SessionNotFound`, `Damaged`, `Json`, `Store`.
    pub fn load_session(&self, id: &Id) -> Result<SessionRecord, RepositoryError> {
        match &self.names {
            None => self.load_record(id),
            Some(names) => match self.records_of(names, id)?.last() {
                Some(record) => self.load_record(record),
                None => Err(RepositoryError::SessionNotFound { prefix: id.to_string() }),
            },
        }
    }

    /// Reads a session record by its own name.
    pub(super) fn load_record(&self, id: &Id) -> Result<SessionRecord, RepositoryError> {
        let gone = |error: RepositoryError| match error.kind() {
            super::error::RepositoryErrorKind::NotFound => {
                RepositoryError::SessionNotFound { prefix: id.to_string() }
            }
            _ => error,
        };
        let json = self.load_unpacked(ObjectKind::Snapshot, id, SESSION_BYTES_MAX).map_err(gone)?;
        let object = ObjectKind::Snapshot.name(id);
        serde_json::from_slice(&json).map_err(|source| RepositoryError::Json { object, source })
    }

    /// Ids of all sessions, in order.
    ///
    /// # Errors
    /// `Store`.
    pub fn list_sessions(&self) -> Result<Vec<Id>, RepositoryError> {
        match &self.names {
            None => self.list_ids(ObjectKind::Snapshot),
            Some(names) => self.sessions_by_original(names),
        }
    }

    /// Removes a session record. Its data stays until prune.
    ///
    /// # Errors
    /// `Store`.
    pub fn remove_session(&self, id: &Id) -> Result<(), RepositoryError> {
        let records = match &self.names {
            None => vec![*id],
            Some(names) => self.records_of(names, id)?,
        };
        let delete = |record: &Id| self.store().delete(&ObjectKind::Snapshot.name(record));
        Ok(records.iter().try_for_each(delete)?)
    }

    /// The one session whose id begins so.
    ///
    /// # Errors
    /// `SessionPrefix`, `SessionNotFound`, `SessionAmbiguous`, `Store`.
    pub fn resolve_session(&self, prefix: &str) -> Result<Id, RepositoryError> {
        let digits = prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if prefix.is_empty() || prefix.len() > ID_DIGITS || !digits {
            return Err(RepositoryError::SessionPrefix { prefix: prefix.into() });
        }
        let mut found = self.list_sessions()?.into_iter().filter(|id| id.starts_with(prefix));
        match (found.next(), found.next()) {
            (None, _) => Err(RepositoryError::SessionNotFound { prefix: prefix.into() }),
            (Some(id), None) => Ok(id),
            (Some(first), Some(second)) => {
                Err(RepositoryError::SessionAmbiguous { prefix: prefix.into(), first, second })
            }
        }
    }
}

#[cfg(test)]
mod tests;
