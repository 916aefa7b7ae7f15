//! The label of a session: what it is of. JSON, versioned, named by its own SHA-256.
//!
//! The first key is `id`; the id is the SHA-256 of the same bytes without that key. So a label of a later program, with
//! more keys, is still proved by its bytes. Refused when reading: labels that do not have their hash, of other versions, of
//! members that are compressed or encrypted, or beyond [`LABEL_BYTES_MAX`]. The label of a carrier is another one, see
//! [`super::carrier`].

use super::member::Short;
use super::{ArchiveError, Result};
use crate::repository::{Id, SessionRecord, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest label, in bytes.
pub(super) const LABEL_BYTES_MAX: u64 = 16 << 20;
const VERSION: u32 = 1;
/// What a label says of members that are as they are.
pub(super) const NOT_ENCODED: &str = "none";

/// What a label says beside its id. The order of fields is that of the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelFields {
    /// Scenario; empty: unknown.
    #[serde(default)]
    pub scenario: String,
    /// The entity's root on the master, as session records have it.
    #[serde(default)]
    pub entity: String,
    /// The master's name.
    #[serde(default)]
    pub master: String,
    /// The LSN of the point.
    #[serde(default)]
    pub lsn: String,
    /// How consistent the point is.
    #[serde(default)]
    pub class: String,
    /// The master's clock at the point.
    pub time: Timestamp,
    /// The journal's id.
    #[serde(default)]
    pub journal: String,
    /// Absolute paths on the master, as session records have them.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Words of the session record.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Patterns that the session leaves out.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// The session of a repository that this one was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// What the session's record says of its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<serde_json::Value>,
    /// When the archive was begun.
    #[serde(default)]
    pub written: Timestamp,
    /// Which program wrote it.
    #[serde(default)]
    pub program: String,
    /// Random digits that keep whoever reads the id from trying which paths have it; only of what will be encrypted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub salt: String,
    /// How members are compressed.
    pub compression: String,
    /// How members are encrypted.
    pub encryption: String,
}

impl LabelFields {
    /// What the record of a session says, read as our own tags are.
    #[must_use]
    pub fn of_record(id: &Id, record: &SessionRecord) -> Self {
        let tag = |key: &str| {
            let found = record.tags.iter().find_map(|tag| tag.strip_prefix(key));
            found.unwrap_or_default().to_owned()
        };
        Self {
            scenario: tag("scenario:"),
            entity: tag("entity:"),
            master: record.hostname.clone(),
            lsn: tag("lsn:"),
            class: tag("class:"),
            time: record.time,
            journal: tag("journal:"),
            paths: record.paths.clone(),
            tags: record.tags.clone(),
            excludes: record.excludes.clone(),
            original: Some(*id),
            summary: record.summary.clone(),
            ..Self::now()
        }
    }

    /// With a salt, for a session whose id is read by people who shall not read the rest.
    ///
    /// # Errors
    /// `Label` if the system gives no random bytes.
    pub fn salted(self) -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|_| ArchiveError::Label { what: "the system gives no random bytes for it" })?;
        let salt = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { salt, ..self })
    }

    /// An empty label, written now by this program.
    #[must_use]
    pub fn now() -> Self {
        Self {
            written: Timestamp::now(),
            program: concat!("rewind ", env!("CARGO_PKG_VERSION")).to_owned(),
            compression: NOT_ENCODED.to_owned(),
            encryption: NOT_ENCODED.to_owned(),
            ..Self::default()
        }
    }
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLabel {
    id: Id,
    json: Vec<u8>,
    fields: LabelFields,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    fields: T,
}

#[derive(Deserialize)]
struct Nothing {}

impl SessionLabel {
    /// A label that says this.
    ///
    /// # Errors
    /// `Json`, `Label` if it is too large.
    pub fn new(fields: LabelFields) -> Result<Self> {
        let (id, json) = sealed(&fields)?;
        Ok(Self { id, json, fields })
    }

    /// Reads a label.
    ///
    /// # Errors
    /// `Label` if it does not prove itself; `Version`; `Encoding` if members are not as they are; `Json`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let (id, fields) = proved::<LabelFields>(json)?;
        if fields.compression != NOT_ENCODED || fields.encryption != NOT_ENCODED {
            let LabelFields { compression, encryption, .. } = fields;
            return Err(ArchiveError::Encoding { compression, encryption });
        }
        Ok(Self { id, json: json.to_vec(), fields })
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it says.
    #[must_use]
    pub fn fields(&self) -> &LabelFields {
        &self.fields
    }

    /// Its bytes.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    pub(super) fn short(&self) -> Short {
        short_of(&self.id)
    }
}

/// The bytes of a label and the hash they are named by.
pub(super) fn sealed<T: Serialize>(fields: &T) -> Result<(Id, Vec<u8>)> {
    let failed = |source| ArchiveError::Json { object: "the session's label", source };
    let body = serde_json::to_vec(&Versioned { version: VERSION, fields }).map_err(failed)?;
    let id = Id::of(&body);
    let rest = body.strip_prefix(b"{").unwrap_or_default();
    let json = [format!("{{\"id\":\"{id}\",").as_bytes(), rest].concat();
    if json.len() as u64 > LABEL_BYTES_MAX {
        return Err(ArchiveError::Label { what: "it is too large" });
    }
    Ok((id, json))
}

/// What a label says that has its hash.
pub(super) fn proved<T: DeserializeOwned>(json: &[u8]) -> Result<(Id, T)> {
    const HEAD: &[u8] = b"{\"id\":\"";
    let unproved = ArchiveError::Label { what: "it does not have the hash it is named by" };
    let Some((digits, rest)) = json.strip_prefix(HEAD).and_then(|rest| rest.split_first_chunk::<64>()) else {
        return Err(unproved);
    };
    let id = std::str::from_utf8(digits).ok().and_then(Id::parse);
    let (Some(id), Some(rest)) = (id, rest.strip_prefix(b"\",")) else { return Err(unproved) };
    let body = [b"{", rest].concat();
    // To the byte: capital digits read the same and are not what was written.
    if Id::of(&body) != id || id.to_string().as_bytes() != digits {
        return Err(unproved);
    }
    let failed = |source| ArchiveError::Json { object: "the session's label", source };
    let Versioned { version, .. } = serde_json::from_slice::<Versioned<Nothing>>(&body).map_err(failed)?;
    if version != VERSION {
        return Err(ArchiveError::Version { version });
    }
    let Versioned { fields, .. } = serde_json::from_slice::<Versioned<T>>(&body).map_err(failed)?;
    Ok((id, fields))
}

/// The beginning of an id, as headers have it.
pub(super) fn short_of(id: &Id) -> Short {
    let mut short = [b'0'; 8];
    short.iter_mut().zip(id.hex()).for_each(|(to, from)| *to = from);
    short
}
