//! What is done to sessions on their way to a repository on tape, and what they are encrypted with.
//!
//! The settings are in the server journal, the password beside those of other repositories. They stay as they were added:
//! what lies on the volumes needs the password. One that was added without a password may be given one, for volumes that
//! somebody else wrote; the sessions that follow are encrypted then.
//!
//! A password has to open the newest encrypted session on the volumes at hand, if there is one: so one that was mistyped is
//! known when it is given, and one that was replaced by mistake can be put right.

use super::tape::time_on;
use super::{Known, Vault, open};
use crate::engine::{EngineError, EngineResult, NewRepository, Repository};
use crate::points::wall_clock;
use crate::records::{Record, RepositoryAdded, TapeEncoding};
use crate::tapes::{self, Chosen};
use secrecy::{ExposeSecret, SecretString};
use snapshot::store::StoreUrl;
use snapshot::tape::archive::{Compression, Encoding, TapeKey};
use snapshot::tape::{TapeSession, VolumeInventory, sessions};
use wire::codes;

/// Refuses what is for tape alone.
pub(super) fn refuse_elsewhere(new: &NewRepository) -> EngineResult<()> {
    if new.compression.is_empty() {
        return Ok(());
    }
    let text = format!("how sessions are compressed cannot be chosen at {}", new.url);
    Err(EngineError::new(&codes::NOT_AVAILABLE, text)
        .because(
            "It is a choice for tape; what other repositories hold is always compressed, as restic has it.",
        )
        .advise("Leave `--compression` out."))
}

/// The password as a key, if there is one.
fn key_of(password: &SecretString) -> EngineResult<Option<TapeKey>> {
    let size = password.expose_secret().len() as u64;
    if size == 0 {
        return Ok(None);
    }
    let bad = |why: String| EngineError::new(&codes::BAD_PARAMETERS, why);
    if size > open::PASSWORD_BYTES_MAX {
        let most = open::PASSWORD_BYTES_MAX;
        return Err(bad(format!("a password of {size} bytes; at most {most} are accepted")));
    }
    TapeKey::of(password).map(Some).map_err(|error| bad(error.to_string()))
}

fn compression_of(word: &str) -> EngineResult<Option<Compression>> {
    if word.is_empty() {
        return Ok(None);
    }
    let bad = || {
        let text = format!("sessions on tape are compressed as \"none\" or \"zstd\", not as {word:?}");
        EngineError::new(&codes::BAD_PARAMETERS, text)
    };
    Compression::named(word).map(Some).ok_or_else(bad)
}

fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

fn kept(added: &RepositoryAdded, what: &str) -> EngineError {
    let text = format!("repository \"{}\" was added with another {what}", added.name);
    EngineError::new(&codes::TAPE_ENCODING_KEPT, text)
}

impl Known {
    /// A repository as clients are told of it.
    pub(super) fn told(&self, added: &RepositoryAdded) -> Repository {
        let is_tape = matches!(super::parse(&added.url), Ok(StoreUrl::Tape(_)));
        let encoding = self.encoding(added.id);
        Repository {
            name: added.name.clone(),
            url: added.url.clone(),
            id: added.repository.clone(),
            added: added.time,
            created: added.created,
            conditional_put: match added.conditional_put {
                1 => "honoured",
                2 => "ignored",
                3 => "refused",
                _ => "",
            },
            compression: match is_tape {
                true => compression(&encoding).word(),
                false => "",
            },
            encryption: match (is_tape, encoding.is_encrypted) {
                (true, true) => "age",
                (true, false) => "none",
                (false, _) => "",
            },
        }
    }

    fn encoding(&self, number: u64) -> TapeEncoding {
        let none = TapeEncoding { repository: number, ..TapeEncoding::default() };
        self.encodings.get(&number).copied().unwrap_or(none)
    }
}

fn compression(encoding: &TapeEncoding) -> Compression {
    if encoding.compression == 1 { Compression::Zstd } else { Compression::None }
}

impl Vault {
    /// What is done to sessions on their way to a repository on tape.
    ///
    /// # Errors
    /// `IO` if its password cannot be read, `BAD_PARAMETERS` if it is none.
    pub fn encoding(&self, number: u64) -> EngineResult<Encoding> {
        let compression = compression(&self.known.read().encoding(number));
        Ok(Encoding { compression, key: self.tape_key(number)? })
    }

    /// What opens its encrypted sessions, if it has a password.
    ///
    /// # Errors
    /// As [`Vault::encoding`].
    pub fn tape_key(&self, number: u64) -> EngineResult<Option<TapeKey>> {
        if !self.known.read().encoding(number).is_encrypted {
            return Ok(None);
        }
        // An empty file is a lost password, not the wish for none.
        key_of(&open::read_tape_secret(&self.secrets, number)?)?.map(Some).ok_or_else(|| {
            EngineError::new(&codes::IO, "the file with the password of the repository is empty")
                .because("What it held is lost here.")
                .advise("Add the repository again, with the same name and URL and its password.")
        })
    }

    /// What opens its encrypted sessions, if it can be had: without it the others are read all the same, and who wants an
    /// encrypted one is told that the password is missing.
    pub fn key_for_reading(&self, number: u64) -> Option<TapeKey> {
        let key = self.tape_key(number);
        key.inspect_err(|error| tracing::warn!(number, %error, "encrypted sessions on tape cannot be read"))
            .unwrap_or_default()
    }

    /// Refuses settings that are none, and a password that is not that of the volumes at hand.
    pub(super) fn check_encoding(
        &self,
        new: &NewRepository,
        (url, volumes): (&str, &[VolumeInventory]),
    ) -> EngineResult<()> {
        compression_of(&new.compression)?;
        match key_of(&new.password)? {
            Some(key) => self.opens(url, volumes, &key).map(drop),
            None => Ok(()),
        }
    }

    /// The settings of a repository that is about to be added: durable before it is.
    pub(super) fn begin_encoding(
        &self,
        known: &mut Known,
        number: u64,
        new: &NewRepository,
    ) -> EngineResult<()> {
        let chosen = compression_of(&new.compression)?.unwrap_or_default();
        self.set_encoding(known, (number, chosen), key_of(&new.password)?.map(|_| &new.password))
    }

    fn set_encoding(
        &self,
        known: &mut Known,
        (number, compression): (u64, Compression),
        password: Option<&SecretString>,
    ) -> EngineResult<()> {
        if let Some(password) = password {
            open::write_tape_secret(&self.secrets, number, password)?;
        }
        let encoding = TapeEncoding {
            time: wall_clock(),
            repository: number,
            compression: u8::from(compression == Compression::Zstd),
            is_encrypted: password.is_some(),
        };
        self.append(known, Record::TapeEncoding(encoding))
    }

    /// A repository on tape is added again: with the same settings, with a password where it had none, or with the one that
    /// was lost here.
    pub(super) fn add_again(&self, new: &NewRepository, added: &RepositoryAdded) -> EngineResult<Repository> {
        let (given, key) = (compression_of(&new.compression)?, key_of(&new.password)?);
        let known = self.known.read();
        let encoding = known.encoding(added.id);
        let compression = compression(&encoding);
        if given.is_some_and(|given| given != compression) {
            return Err(kept(added, "compression"));
        }
        drop(known);
        let Some(key) = key else { return Ok(self.known.read().told(added)) };
        let stored = match encoding.is_encrypted {
            true => open::find_tape_secret(&self.secrets, added.id)?,
            false => None,
        };
        if stored.as_ref().is_none_or(|stored| !is_same(stored, &new.password)) {
            let opens = self.opens(&added.url, &self.media_in(&added.url)?, &key)?;
            if stored.is_some() && !opens {
                return Err(kept(added, "password"));
            }
            if stored.is_some() {
                // What lies on volumes that are elsewhere may need it.
                open::keep_tape_secret(&self.secrets, added.id)?;
            }
            let chosen = (added.id, compression);
            self.set_encoding(&mut self.known.write(), chosen, Some(&new.password))?;
            // What could not be read before may be read now.
            self.unread.lock().insert(added.id);
        }
        Ok(self.known.read().told(added))
    }

    /// Whether a key opens the newest encrypted session at hand; false if there is none.
    ///
    /// # Errors
    /// `TAPE_PASSWORD_WRONG`; `BAD_URL`, `TAPE_DRIVE_FAILED`, `TAPE_VOLUME_WANTED`, `TAPE_BUSY`.
    fn opens(&self, url: &str, volumes: &[VolumeInventory], key: &TapeKey) -> EngineResult<bool> {
        let is_encrypted = |session: &TapeSession| {
            let word = session.label.as_ref().and_then(|label| label.get("encryption")?.as_str());
            word.is_some_and(|word| word != "none")
        };
        let found = sessions(volumes).into_iter().filter(is_encrypted);
        let newest = found
            .filter_map(|session| Some((time_on(session.label), session.session, session.parts?)))
            .max_by_key(|(time, ..)| *time);
        let Some((_, id, parts)) = newest else { return Ok(false) };
        let mut any = tapes::open_existing(url)?;
        let loaded = any.loaded().map_err(|error| tapes::tape_failure(url, error.into()))?;
        let chosen = Chosen { id, parts };
        let label = tapes::label_inside(&mut any, (&chosen, Some(key)), &self.layout.scratch()?);
        any.put_back(loaded.as_deref()).map_err(|error| tapes::tape_failure(url, error.into()))?;
        match label {
            // What is damaged, or of a later program, says nothing of the password; a drive that fails is no reason to take any.
            Err(error) if [&codes::TAPE_DAMAGED, &codes::NOT_AVAILABLE].contains(&error.code()) => Ok(false),
            label => Ok(label?.is_some()),
        }
    }
}
