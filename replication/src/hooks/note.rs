//! A file that says: an application may be held still, and this lets it go on.
//!
//! It is durable before the quiesce hook begins and is removed when the thaw hook has succeeded. Layout: a line with
//! the word `rewind-hold-1` and the BLAKE3 hash of the rest in hexadecimal, then bincode (standard configuration) of
//! [`Body`], which is frozen. A file that does not fit is no note: what it says is never run.

use super::Process;
use bincode::{Decode, Encode, config};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MAGIC: &str = "rewind-hold-1";
/// Longest file that is read.
const BYTES_MAX: usize = 16 << 20;
/// How names of notes end.
const EXTENSION: &str = "hold";

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Body {
    scenario: String,
    id: String,
    roots: Vec<Vec<u8>>,
    thaw: String,
    limit_millis: u64,
    quiesce: Option<Process>,
}

/// What is needed to thaw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub scenario: String,
    /// Of the hold.
    pub id: String,
    pub roots: Vec<Vec<u8>>,
    /// The command.
    pub thaw: String,
    /// How long it may take.
    pub limit: Duration,
    /// The quiesce hook.
    pub quiesce: Option<Process>,
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all())
}

impl Note {
    /// Makes it durable.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let body = Body {
            scenario: self.scenario.clone(),
            id: self.id.clone(),
            roots: self.roots.clone(),
            thaw: self.thaw.clone(),
            limit_millis: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX),
            quiesce: self.quiesce.clone(),
        };
        let body = bincode::encode_to_vec(&body, config::standard()).map_err(io::Error::other)?;
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(format!("{MAGIC} {}\n", blake3::hash(&body).to_hex()).as_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory_of(path)
    }

    /// Removes it, durably.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        sync_directory_of(path)
    }

    /// Reads one; `None` if it is none.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let size = fs::symlink_metadata(path)?;
        if !size.is_file() || size.len() > BYTES_MAX as u64 {
            return Ok(None);
        }
        Ok(Note::parse(&fs::read(path)?))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (head, body) = (bytes.get(..end)?, bytes.get(end + 1..)?);
        let hash = std::str::from_utf8(head).ok()?.strip_prefix(MAGIC)?.trim();
        if blake3::hash(body).to_hex().as_str() != hash {
            return None;
        }
        let limited = config::standard().with_limit::<BYTES_MAX>();
        let (body, used) = bincode::decode_from_slice::<Body, _>(body, limited).ok()?;
        let whole = used + end + 1 == bytes.len();
        whole.then_some(Note {
            scenario: body.scenario,
            id: body.id,
            roots: body.roots,
            thaw: body.thaw,
            limit: Duration::from_millis(body.limit_millis),
            quiesce: body.quiesce,
        })
    }

    /// The notes in a directory, which may not be there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The file of a note in a directory. `name` is one component.
#[must_use]
pub fn path_in(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.{EXTENSION}"))
}

#[cfg(test)]
mod tests;
