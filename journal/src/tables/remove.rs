//! Removing a database, so that no crash leaves half of one.
//!
//! A fjall database of which some files are gone may open all the same: without its log it is as old as what was written
//! out, without one of its folders it has a table that is empty. Whoever asks its head row then believes it. So a database
//! goes from its name in one step, which is durable before the first file goes; what a crash leaves behind has a name that
//! no database has, and goes with the next one that is removed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Removes a closed database and what an interrupted removal of one before left. One that is not there is no error.
///
/// # Errors
/// The system's. The database is whole or gone then.
pub fn remove_tables(directory: &Path) -> io::Result<()> {
    let Some(aside) = aside(directory) else { return Err(ErrorKind::InvalidInput.into()) };
    remove_all(&aside)?;
    match fs::rename(directory, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if let Some(parent) = aside.parent() {
        File::open(parent)?.sync_all()?;
    }
    remove_all(&aside)
}

/// Names of scenarios begin with a letter or a digit.
fn aside(directory: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".removed-");
    name.push(directory.file_name()?);
    Some(directory.with_file_name(name))
}

fn remove_all(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests;
