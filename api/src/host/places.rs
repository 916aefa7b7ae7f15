//! Whether a repository's directory is a place of its own.
//!
//! What is compared are real places, links resolved as far as they exist: a repository below a protected directory would
//! be replicated and backed up into itself; one below a replica root would be taken for drift, and a rewind would remove it;
//! below the daemon's directory it would lie beside the journal that it is to survive. The other way round is as bad.

use super::Host;
use crate::definition::{Definition, overlap};
use crate::engine::{EngineError, EngineResult};
use snapshot::store::StoreUrl;
use std::path::{Path, PathBuf};
use wire::codes;

impl Host {
    /// Refuses an address in a directory that is used for something else. What is no address is somebody else's to refuse.
    pub(super) fn check_repository_place(&self, url: &str) -> EngineResult<()> {
        let Ok(StoreUrl::Directory(path) | StoreUrl::Tape(path)) = url.parse() else { return Ok(()) };
        let repository = real(&path);
        let data = &self.context.options.data;
        if overlap(&repository, &real(data)) {
            return Err(refused(&path, "the daemon's directory", data));
        }
        for entry in self.context.registry.list() {
            for (what, place) in self.places(&entry.definition) {
                if overlap(&repository, &real(&place)) {
                    return Err(refused(
                        &path,
                        &format!("{what} of scenario \"{}\"", entry.definition.name),
                        &place,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses a scenario over a repository.
    pub(super) fn check_beside_repositories(&self, definition: &Definition) -> EngineResult<()> {
        for (name, repository) in self.context.vault.directories() {
            let place = real(&repository);
            for (what, root) in self.places(definition) {
                if overlap(&place, &real(&root)) {
                    return Err(refused(&repository, &format!("{what} of the scenario"), &root)
                        .because(format!("Repository \"{name}\" lies there.")));
                }
            }
        }
        Ok(())
    }

    /// Directories of a scenario on this machine.
    fn places(&self, definition: &Definition) -> Vec<(&'static str, PathBuf)> {
        let mut places = Vec::new();
        for root in &definition.roots {
            if self.is_local(definition) {
                places.push(("a root", root.master.clone()));
            }
            let Some(replica) = &root.replica else { continue };
            places.push(("a replica root", replica.clone()));
            if let (Some(name), Some(above)) = (replica.file_name(), replica.parent()) {
                let kept = format!(".{}.rewind", name.to_string_lossy());
                places.push(("the kept area", above.join(kept)));
            }
        }
        places
    }
}

fn refused(repository: &Path, what: &str, place: &Path) -> EngineError {
    let message = format!("{} overlaps with {what}, {}", repository.display(), place.display());
    EngineError::new(&codes::REPOSITORY_OVERLAPS, message)
}

/// The place without links; what is not there yet has none.
fn real(path: &Path) -> PathBuf {
    let above = path.ancestors().find(|above| above.exists()).unwrap_or(path);
    match (std::fs::canonicalize(above), path.strip_prefix(above)) {
        (Ok(real), Ok(rest)) => real.join(rest),
        _ => path.to_owned(),
    }
}
