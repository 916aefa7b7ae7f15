//! The label of a carrier: which session is in it, and how to get at it. In clear, named by its own SHA-256 as every label.
//!
//! Of a session that is compressed alone it says what the label inside says. Of an encrypted one it says what a person needs
//! to choose among volumes (scenario, master, time), and nothing that names what is inside.
//!
//! Refused when reading: words for compression and encryption that are not known, by name; a carrier of nothing.

use super::super::label::{LabelFields, NOT_ENCODED, SessionLabel, proved, sealed, short_of};
use super::super::member::Short;
use super::super::{ArchiveError, Result};
use super::TapeKey;
use crate::repository::Id;
use serde::{Deserialize, Serialize};

const ZSTD: &str = "zstd";
const AGE: &str = "age";

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// Frames of zstd.
    Zstd,
}

impl Compression {
    /// Its word on labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => NOT_ENCODED,
            Self::Zstd => ZSTD,
        }
    }

    /// What a word says; `None` if nobody knows it.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::None, Self::Zstd].into_iter().find(|one| one.word() == word)
    }
}

/// What is done to the archive of a session on its way to tape. The default: nothing.
#[derive(Clone, Debug, Default)]
pub struct Encoding {
    /// How it is compressed.
    pub compression: Compression,
    /// What it is encrypted for; `None`: it is not.
    pub key: Option<TapeKey>,
}

impl Encoding {
    /// Whether the archive goes to tape as it is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.compression == Compression::None && self.key.is_none()
    }

    /// The label of a session that is to be written so: one that will be encrypted has a salt.
    ///
    /// # Errors
    /// Those of [`SessionLabel::new`]; `Label` if the system gives no random bytes.
    pub fn label(&self, fields: LabelFields) -> Result<SessionLabel> {
        SessionLabel::new(if self.key.is_some() { fields.salted()? } else { fields })
    }
}

#[derive(Serialize, Deserialize)]
struct Fields {
    session: Id,
    #[serde(flatten)]
    fields: LabelFields,
}

/// The label of a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierLabel {
    session: Id,
    json: Vec<u8>,
    fields: LabelFields,
    compression: Compression,
}

impl CarrierLabel {
    /// The label of a carrier of this session.
    ///
    /// # Errors
    /// `Json`, `Label` if it is too large.
    pub fn new(inside: &SessionLabel, encoding: &Encoding) -> Result<Self> {
        let all = inside.fields().clone();
        let compression = encoding.compression;
        let words = |fields: LabelFields| LabelFields {
            compression: compression.word().to_owned(),
            encryption: if encoding.key.is_some() { AGE } else { NOT_ENCODED }.to_owned(),
            ..fields
        };
        let fields = words(match encoding.key {
            None => all,
            // Every field by name: a new one is secret until somebody says otherwise.
            Some(_) => LabelFields {
                scenario: all.scenario,
                master: all.master,
                time: all.time,
                lsn: all.lsn,
                class: all.class,
                journal: all.journal,
                written: all.written,
                program: all.program,
                ..LabelFields::default()
            },
        });
        let session = inside.id();
        let (_, json) = sealed(&Fields { session, fields: fields.clone() })?;
        Ok(Self { session, json, fields, compression })
    }

    /// Reads a label.
    ///
    /// # Errors
    /// `Label` if it does not prove itself; `Version`; `Encoding` of words that are not known; `Json`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let (_, Fields { session, fields }) = proved(json)?;
        let compression = Compression::named(&fields.compression);
        match (compression, fields.encryption.as_str()) {
            (Some(compression), AGE) => Ok(Self { session, json: json.to_vec(), fields, compression }),
            (Some(Compression::Zstd), NOT_ENCODED) => {
                Ok(Self { session, json: json.to_vec(), fields, compression: Compression::Zstd })
            }
            _ => {
                let LabelFields { compression, encryption, .. } = fields;
                Err(ArchiveError::Encoding { compression, encryption })
            }
        }
    }

    /// Id of the session inside.
    #[must_use]
    pub fn session(&self) -> Id {
        self.session
    }

    /// What it says, the words of how to get inside among it.
    #[must_use]
    pub fn fields(&self) -> &LabelFields {
        &self.fields
    }

    /// How the archive is compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.fields.encryption == AGE
    }

    /// Its bytes.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    pub(in super::super) fn short(&self) -> Short {
        short_of(&self.session)
    }
}
