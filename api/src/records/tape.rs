//! Where sessions lie on tape, as the server journal remembers it.

use bincode::{Decode, Encode};
use journal::Timestamp;
use snapshot::tape::PartPlace;

/// A part of a session on tape.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TapePart {
    /// Media name of the volume.
    pub media: String,
    /// Id of the volume.
    pub volume: String,
    /// Serial number of the cartridge; empty if none is known.
    pub serial: String,
    /// The tape file.
    pub file: u32,
    /// Blocks in it.
    pub blocks: u64,
}

/// Where a session lies on tape. A later record of the same session takes the place of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionOnTape {
    /// When.
    pub time: Timestamp,
    /// Id of the repository here.
    pub repository: u64,
    /// The id on the label of the session.
    pub session: [u8; 32],
    /// Pool of its volumes; empty if it is not known.
    pub pool: String,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Its parts, in their order.
    pub parts: Vec<TapePart>,
}

impl SessionOnTape {
    /// Places of the parts, as readers want them.
    #[must_use]
    pub fn places(&self) -> Vec<PartPlace> {
        let place = |part: &TapePart| PartPlace {
            media: part.media.clone(),
            volume: part.volume.clone(),
            file: part.file,
            blocks: part.blocks,
        };
        self.parts.iter().map(place).collect()
    }

    /// Names of the volumes, each once, in the order of the parts.
    #[must_use]
    pub fn media(&self) -> Vec<String> {
        let mut media: Vec<String> = Vec::new();
        for part in &self.parts {
            if !media.contains(&part.media) {
                media.push(part.media.clone());
            }
        }
        media
    }
}

/// What is done to sessions on their way to a repository on tape. A later record takes the place of an earlier one; it stands
/// before the record that adds the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TapeEncoding {
    /// When.
    pub time: Timestamp,
    /// Id of the repository here.
    pub repository: u64,
    /// How they are compressed: 0 not, 1 zstd.
    pub compression: u8,
    /// Whether they are encrypted; the password is not in the journal.
    pub is_encrypted: bool,
}
