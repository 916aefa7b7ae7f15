//! The archive: redo of a journal, kept in the store of a repository, beside the sessions it starts from.
//!
//! A session and the redo behind it give every later moment. So the redo segments of a journal are copied in pieces,
//! as they are sealed and in between, and a numbered manifest says which pieces count. `FORMAT.md` (section "Archive")
//! is normative; [`manifest`] owns the words, [`plan`] decides what is copied next, this file puts and gets.
//!
//! **Beside the repository, not in it.** All names begin with `rewind/archive/JOURNAL/`, where no program of restic's
//! format looks; the bytes are sealed with the repository's key, so whoever can restore a session can restore a moment.
//! A prune here or elsewhere neither reads nor removes them.
//!
//! **Order.** Pieces are durable before a manifest names them; what a manifest does not name any more is removed when the
//! manifest after it is durable too, so the newest two can always be read in full. A generation is never written twice:
//! whose put failed is given up, since it may have happened. One writer owns the archive of a journal; a second one, of
//! a journal that was copied, is noticed by a generation that the first did not write.
//!
//! **Nothing is believed.** A manifest names each piece by the hash of its sealed bytes and says the hash of the plain
//! ones; it says its own journal and generation; the pieces hold frames whose checksums are seeded with journal and
//! place, chained over all segments ([`journal::log::ShippedSegment`]). What a store can do is to hide the newest
//! manifests: then the archive ends earlier, and says at which time.

pub mod manifest;
pub mod plan;
#[cfg(test)]
mod tests;

pub use manifest::{Draft, Gap, Manifest, PIECE_BYTES_MAX, Piece, Upto, parse_last_part};

use crate::repository::{Id, Repository, RepositoryError, compress};
use std::collections::BTreeSet;

/// Where all archives lie.
const PLACE: &str = "rewind/archive";
/// Longest manifest that is read, in bytes of JSON.
const MANIFEST_BYTES_MAX: usize = 256 << 20;

/// The version alone: the rest of a document of another version may be anything.
#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

/// What came of tidying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tidied {
    /// So many objects were removed.
    Removed(u64),
    /// Nothing was: there is a manifest of this generation, which is newer than any of the caller's.
    Newer(u64),
}

/// A journal's id as names have it.
#[must_use]
pub fn hex(journal: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*journal))
}

/// Inverse of [`hex`]; `None` for any other text.
#[must_use]
pub fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let journal = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    (hex(&journal) == text).then_some(journal)
}

/// The journals that have an archive in this repository.
///
/// # Errors
/// `Store`.
pub fn journals(repository: &Repository) -> Result<BTreeSet<[u8; 16]>, RepositoryError> {
    let mut found = BTreeSet::new();
    repository.store().list(PLACE, &mut |entry| {
        let rest = entry.name.strip_prefix(PLACE).and_then(|rest| rest.strip_prefix('/'));
        found.extend(rest.and_then(|rest| rest.split_once('/')).and_then(|(journal, _)| parse_hex(journal)));
        true
    })?;
    Ok(found)
}

/// The archive of one journal.
#[derive(Clone, Copy)]
pub struct Archive<'r> {
    repository: &'r Repository,
    journal: [u8; 16],
}

impl<'r> Archive<'r> {
    /// That of a journal; whether there is one is not looked at.
    #[must_use]
    pub fn new(repository: &'r Repository, journal: [u8; 16]) -> Self {
        Archive { repository, journal }
    }

    fn place(&self) -> String {
        format!("{PLACE}/{}", hex(&self.journal))
    }

    fn piece_name(&self, piece: &Piece) -> String {
        format!("{}/redo/{}", self.place(), piece.last_part())
    }

    fn manifest_name(&self, generation: u64) -> String {
        format!("{}/manifest/{generation:020}", self.place())
    }

    /// Stores a piece; it is durable when this returns, and counts when a manifest names it.
    ///
    /// # Errors
    /// `Store`, `Zstd`, `Random`; `TooLarge` for more than [`PIECE_BYTES_MAX`].
    pub fn put_piece(&self, draft: &Draft, plain: &[u8]) -> Result<Piece, RepositoryError> {
        if plain.len() > PIECE_BYTES_MAX {
            let (size, limit) = (plain.len() as u64, PIECE_BYTES_MAX as u64);
            return Err(RepositoryError::TooLarge { what: "a piece of the archive", size, limit });
        }
        let sealed = self.repository.seal_key().seal(&compress::pack_unpacked(plain)?)?;
        let piece = Piece { id: Id::of(&sealed), plain: Id::of(plain), place: draft.clone() };
        self.repository.store().put(&self.piece_name(&piece), sealed.into())?;
        Ok(piece)
    }

    /// The bytes of a piece, exactly those that were put.
    ///
    /// # Errors
    /// `Damaged` with the object's name; `Store`, `NotFound` if it is missing.
    pub fn load_piece(&self, piece: &Piece) -> Result<Vec<u8>, RepositoryError> {
        let name = self.piece_name(piece);
        let plain = self.load(&name, Some(&piece.id), PIECE_BYTES_MAX)?;
        if plain.len() as u64 != piece.bytes() || Id::of(&plain) != piece.plain {
            return Err(RepositoryError::damaged(&*name, 0, "it is not the piece that the manifest names"));
        }
        Ok(plain)
    }

    fn load(&self, name: &str, id: Option<&Id>, limit: usize) -> Result<Vec<u8>, RepositoryError> {
        let damaged = |what| RepositoryError::damaged(name, 0, what);
        let most = limit + limit / 64 + 4096;
        let mut sealed = Vec::from(self.repository.store().get(name, most as u64)?);
        if id.is_some_and(|id| Id::of(&sealed) != *id) {
            return Err(damaged("its bytes do not have the hash that the manifest says"));
        }
        let opened = self.repository.seal_key().open_in_place(&mut sealed);
        let plain = opened.map_err(|_| damaged("it was not written with this repository's key"))?;
        compress::unpack_unpacked(plain, limit)
            .ok_or_else(|| damaged("its compression is damaged, unknown or too large"))
    }

    /// Generations of the manifests there are, the newest last. Other names are passed over.
    ///
    /// # Errors
    /// `Store`.
    pub fn generations(&self) -> Result<Vec<u64>, RepositoryError> {
        let place = format!("{}/manifest", self.place());
        let mut found = Vec::new();
        self.repository.store().list(&place, &mut |entry| {
            let number = entry.name.strip_prefix(&place).and_then(|rest| rest.strip_prefix('/'));
            let number = number.and_then(|digits| digits.parse().ok());
            found.extend(number.filter(|number| self.manifest_name(*number) == entry.name));
            true
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// A manifest.
    ///
    /// # Errors
    /// `Damaged` with the object's name, also for one of another journal or generation; `ArchiveVersion`, `Json`, `Store`.
    pub fn load_manifest(&self, generation: u64) -> Result<Manifest, RepositoryError> {
        let name = self.manifest_name(generation);
        let json = self.load(&name, None, MANIFEST_BYTES_MAX)?;
        let no_json = |source| RepositoryError::Json { object: name.clone(), source };
        let Version { version } = serde_json::from_slice(&json).map_err(no_json)?;
        if version != manifest::VERSION {
            return Err(RepositoryError::ArchiveVersion { object: name, version });
        }
        let manifest: Manifest = serde_json::from_slice(&json).map_err(no_json)?;
        let right = manifest.journal == hex(&self.journal) && manifest.generation == generation;
        let fault = if right { manifest.fault() } else { Some("it belongs elsewhere") };
        fault.map_or(Ok(manifest), |what| Err(RepositoryError::damaged(&*name, 0, what)))
    }

    /// Stores a manifest; from now on it counts. All it names must be durable, its generation unused.
    ///
    /// # Errors
    /// `TooLarge` for one that no reader would take: it was not stored. `Store`, `Zstd`, `Random`, `Json`: whether it counts
    /// is not known then, and its generation is used up.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        let name = self.manifest_name(manifest.generation);
        let json = serde_json::to_vec(manifest)
            .map_err(|source| RepositoryError::Json { object: name.clone(), source })?;
        check_length(json.len(), MANIFEST_BYTES_MAX)?;
        let sealed = self.repository.seal_key().seal(&compress::pack_unpacked(&json)?)?;
        Ok(self.repository.store().put(&name, sealed.into())?)
    }

    /// The last parts of the names of all pieces that are stored, whether a manifest names them or not.
    ///
    /// # Errors
    /// `Store`.
    pub fn stored(&self) -> Result<BTreeSet<String>, RepositoryError> {
        let place = format!("{}/redo/", self.place());
        let mut found = BTreeSet::new();
        self.repository.store().list(place.trim_end_matches('/'), &mut |entry| {
            found.extend(entry.name.strip_prefix(&place).map(str::to_owned));
            true
        })?;
        Ok(found)
    }

    /// Removes what neither of the newest two manifests needs: their pieces and they themselves stay. `own` is the greatest
    /// generation the caller knows of: if there is a greater one, somebody else writes, and nothing is removed. The
    /// manifests `unread` stay, and while there are any, all pieces do: nobody knows which ones they name.
    ///
    /// # Errors
    /// `Store`; the rest is removed the next time.
    pub fn tidy(
        &self,
        newest: &Manifest,
        before: Option<&Manifest>,
        own: u64,
        unread: &[u64],
    ) -> Result<Tidied, RepositoryError> {
        let mut needed: BTreeSet<String> = unread.iter().map(|number| self.manifest_name(*number)).collect();
        for manifest in [Some(newest), before].into_iter().flatten() {
            needed.insert(self.manifest_name(manifest.generation));
            needed.extend(manifest.pieces.iter().map(|piece| self.piece_name(piece)));
        }
        let manifests = format!("{}/manifest/", self.place());
        let (mut gone, mut greatest) = (Vec::new(), 0);
        self.repository.store().list(&self.place(), &mut |entry| {
            let generation = entry.name.strip_prefix(&manifests).map(str::parse);
            if let Some(Ok(generation)) = generation {
                greatest = greatest.max(generation);
            }
            if !needed.contains(&entry.name) && (unread.is_empty() || generation.is_some()) {
                gone.push(entry.name);
            }
            true
        })?;
        if greatest > own {
            return Ok(Tidied::Newer(greatest));
        }
        for name in &gone {
            self.repository.store().delete(name)?;
        }
        Ok(Tidied::Removed(gone.len() as u64))
    }
}

/// Refuses to write what would not be read.
fn check_length(bytes: usize, limit: usize) -> Result<(), RepositoryError> {
    if bytes <= limit {
        return Ok(());
    }
    let (size, limit) = (bytes as u64, limit as u64);
    Err(RepositoryError::TooLarge { what: "a manifest of the archive", size, limit })
}
