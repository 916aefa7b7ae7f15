//! What sessions on tape are encrypted with: an age identity, or a passphrase. The format is that of age, version 1.
//!
//! An identity costs nothing to use and works with `age -d -i FILE`; a passphrase is made into a key by scrypt, for each
//! session anew, and is typed at `age -d`. Texts are kept from logs and wiped.

use super::super::{ArchiveError, Result};
use super::{AGE_HEADER_BYTES_MAX, WORK_FACTOR, WORK_FACTOR_MAX};
use crate::repository::chain;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::io::{self, Chain, Cursor, Read, Write};
use std::sync::Arc;

/// What an identity begins with.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// Opens sessions, and closes them.
#[derive(Clone)]
pub struct TapeKey(Arc<Kind>);

enum Kind {
    Identity(x25519::Identity),
    Passphrase(SecretString),
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKey {
    /// Nothing is in it.
    #[error("the password is empty")]
    Empty,
    /// It begins as an identity does.
    #[error("the text begins as the secret key of age does, and is none")]
    Identity,
}

impl fmt::Debug for TapeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_identity() { "identity" } else { "passphrase" };
        write!(formatter, "TapeKey({kind})")
    }
}

/// What age encrypted, open, with its head put in front again.
pub(super) type Opened<R> = StreamReader<Chain<Cursor<Vec<u8>>, R>>;

impl TapeKey {
    /// What a text is: the secret key of age (`AGE-SECRET-KEY-1...`), or else a passphrase.
    ///
    /// # Errors
    /// If it is empty, or begins as a secret key does and is none.
    pub fn of(text: &SecretString) -> std::result::Result<Self, BadKey> {
        let text = text.expose_secret();
        let trimmed = text.trim();
        let kind = if trimmed.is_empty() {
            return Err(BadKey::Empty);
        } else if trimmed.get(..IDENTITY.len()).is_some_and(|head| head.eq_ignore_ascii_case(IDENTITY)) {
            Kind::Identity(trimmed.parse().map_err(|_| BadKey::Identity)?)
        } else {
            Kind::Passphrase(SecretString::from(text))
        };
        Ok(Self(Arc::new(kind)))
    }

    /// Whether it is an age identity, not a passphrase.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        matches!(&*self.0, Kind::Identity(_))
    }

    /// Encrypts what is written.
    pub(super) fn seal<W: Write>(&self, out: W) -> io::Result<StreamWriter<W>> {
        let recipient: Box<dyn Recipient> = match &*self.0 {
            Kind::Identity(identity) => Box::new(identity.to_public()),
            Kind::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK_FACTOR);
                Box::new(recipient)
            }
        };
        let encryptor = Encryptor::with_recipients(std::iter::once(recipient.as_ref()));
        encryptor.map_err(io::Error::other)?.wrap_output(out)
    }

    /// Decrypts what is read.
    ///
    /// # Errors
    /// `WrongKey`; `Carrier` if it is nothing that age encrypted, or asks for more than it may.
    pub(super) fn open<R: Read>(&self, mut input: R) -> Result<Opened<R>> {
        let head = head(&mut input).map_err(|error| ArchiveError::Carrier { what: chain(&error) })?;
        let decryptor = Decryptor::new(Cursor::new(head).chain(input)).map_err(failure)?;
        let identity: Box<dyn Identity> = match &*self.0 {
            Kind::Identity(identity) => Box::new(identity.clone()),
            Kind::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(WORK_FACTOR_MAX);
                Box::new(identity)
            }
        };
        if decryptor.is_scrypt() == self.is_identity() {
            return Err(ArchiveError::WrongKey { is_passphrase: decryptor.is_scrypt() });
        }
        let is_passphrase = decryptor.is_scrypt();
        decryptor.decrypt(std::iter::once(identity.as_ref())).map_err(|error| match error {
            DecryptError::NoMatchingKeys
            | DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed => ArchiveError::WrongKey { is_passphrase },
            error => failure(error),
        })
    }
}

fn failure(error: DecryptError) -> ArchiveError {
    let what = match error {
        DecryptError::ExcessiveWork { required, .. } => {
            format!("its passphrase asks for 2^{required} steps, at most 2^{WORK_FACTOR_MAX} are made")
        }
        error => chain(&error),
    };
    ArchiveError::Carrier { what }
}

/// The head of what age encrypted: lines up to one that begins with `---`.
fn head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut head = Vec::new();
    let mut line = 0;
    loop {
        let mut byte = [0];
        if input.read(&mut byte)? == 0 {
            return Err(bad("it ends in the head of what age encrypted"));
        }
        head.extend_from_slice(&byte);
        if byte == *b"\n" {
            if head.get(line..).is_some_and(|line| line.starts_with(b"---")) {
                return Ok(head);
            }
            line = head.len();
        }
        if head.len() > AGE_HEADER_BYTES_MAX {
            return Err(bad("the head of what age encrypted is too long, or is none"));
        }
    }
}
