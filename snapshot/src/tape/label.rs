//! The label of a volume: what its first tape file says. `TAPE.md` (section "Volume label") is normative.
//!
//! A small archive of one member, so that `tar` shows it. Labels are hostile: the length is checked first, then the
//! header, then the words; a label of a version that is not known is refused, not guessed.

use super::drive::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};
use super::header::{self, UNIT};
use serde::{Deserialize, Serialize};
use std::io;

/// Name of the member.
pub const LABEL_NAME: &str = ".rewind/volume.json";
/// Longest label that is read, in bytes: header, content and padding.
pub(super) const LABEL_BYTES_MAX: usize = 16 << 10;
const FORMAT: &str = "rewind-volume";
const VERSION: u32 = 1;
/// Longest name of a medium or a pool, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a volume says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLabel {
    format: String,
    version: u32,
    /// Name that a person gave it, and wrote on it.
    pub media: String,
    /// 32 hexadecimal digits, new with each labelling.
    pub id: String,
    /// Serial number of the cartridge, where the drive knows it.
    pub serial: Option<String>,
    /// The pool it belongs to.
    pub pool: String,
    /// Which volume of its pool it is, from 1.
    pub sequence: u32,
    /// Bytes of a block of all tape files.
    pub block_bytes: usize,
    /// How contents are compressed; `none`.
    pub compression: String,
    /// How contents are encrypted; `none`.
    pub encryption: String,
    /// Program and host that wrote it.
    pub made_by: String,
    /// When, in seconds since 1970.
    pub made_at: u64,
}

/// What a new label is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequest {
    /// Name of the medium: letters, digits, `.`, `_`, `-`.
    pub media: String,
    /// Name of the pool, of the same alphabet.
    pub pool: String,
    /// Which volume of its pool, from 1.
    pub sequence: u32,
    /// Bytes of a block: a multiple of 512, 8 MiB at most.
    pub block_bytes: usize,
    /// Program and host.
    pub made_by: String,
    /// Now, in seconds since 1970.
    pub made_at: u64,
}

/// Whether it can be the name of a medium or a pool. It is a directory's name too.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_letter) && !name.starts_with(['.', '-'])
}

/// 32 random hexadecimal digits.
pub(super) fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Why bytes are no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelFault {
    /// No header of tar, or of another member.
    #[error("it does not begin with the label of a volume")]
    NotALabel,
    /// The content is not what a label says.
    #[error("the label of the volume cannot be read")]
    Malformed,
    /// Of a version this program does not know.
    #[error("the label is of version {version}")]
    Version {
        /// The version.
        version: u32,
    },
    /// Contents are compressed or encrypted in a way this program does not know.
    #[error("contents are compressed or encrypted in a way that is not known")]
    Encoding,
}

impl VolumeLabel {
    pub(super) fn new(request: LabelRequest, serial: Option<String>) -> io::Result<VolumeLabel> {
        Ok(VolumeLabel {
            format: FORMAT.to_owned(),
            version: VERSION,
            media: request.media,
            id: random_id()?,
            serial,
            pool: request.pool,
            sequence: request.sequence,
            block_bytes: request.block_bytes,
            compression: "none".to_owned(),
            encryption: "none".to_owned(),
            made_by: request.made_by,
            made_at: request.made_at,
        })
    }

    fn is_sound(&self) -> bool {
        is_name(&self.media)
            && is_name(&self.pool)
            && self.id.len() == 32
            && self.id.bytes().all(|byte| byte.is_ascii_hexdigit())
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&self.block_bytes)
            && self.block_bytes.is_multiple_of(UNIT)
    }

    /// The tape file: whole blocks.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let content = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        let mut archive = Vec::new();
        let is_sound = self.is_sound() && content.len() + 4 * UNIT < LABEL_BYTES_MAX;
        if !is_sound || !header::push_member(&mut archive, LABEL_NAME, b'0', &content, self.made_at) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        archive.resize((archive.len() + 2 * UNIT).next_multiple_of(self.block_bytes), 0);
        Ok(archive)
    }
}

/// Reads a label from the beginning of a tape file.
///
/// # Errors
/// Why it is none.
pub(super) fn parse(bytes: &[u8]) -> Result<VolumeLabel, LabelFault> {
    let (unit, rest) = bytes.split_first_chunk::<UNIT>().ok_or(LabelFault::NotALabel)?;
    let header = header::parse(unit).ok_or(LabelFault::NotALabel)?;
    if header.name != LABEL_NAME.as_bytes() || header.kind != b'0' {
        return Err(LabelFault::NotALabel);
    }
    let size = usize::try_from(header.size).map_err(|_| LabelFault::Malformed)?;
    let content = rest.get(..size).ok_or(LabelFault::Malformed)?;
    #[derive(Deserialize)]
    struct Version {
        format: String,
        version: u32,
    }
    let known: Version = serde_json::from_slice(content).map_err(|_| LabelFault::Malformed)?;
    if known.format != FORMAT {
        return Err(LabelFault::NotALabel);
    }
    if known.version != VERSION {
        return Err(LabelFault::Version { version: known.version });
    }
    let label: VolumeLabel = serde_json::from_slice(content).map_err(|_| LabelFault::Malformed)?;
    if !label.is_sound() {
        return Err(LabelFault::Malformed);
    }
    if label.compression != "none" || label.encryption != "none" {
        return Err(LabelFault::Encoding);
    }
    Ok(label)
}
