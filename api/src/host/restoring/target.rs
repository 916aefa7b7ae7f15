//! Where a restore may write on the daemon's host.
//!
//! Not into, and not around, a protected tree, a replica or what is kept beside it, a repository or the daemon's own
//! directory: that would be captured, or destroyed, by ourselves. Links are followed before places are compared.

use super::Host;
use crate::engine::{EngineError, EngineResult};
use snapshot::store::StoreUrl;
use std::path::{Path, PathBuf};
use wire::codes;

/// The place a path leads to, as far as it exists.
fn real(path: &Path) -> EngineResult<PathBuf> {
    let path = std::path::absolute(path).map_err(|error| EngineError::io("find", path, error))?;
    let above = path.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(&path);
    let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
    let found = std::fs::canonicalize(above).map_err(|error| EngineError::io("find", above, error))?;
    Ok(if rest.as_os_str().is_empty() { found } else { found.join(rest) })
}

/// What is kept beside a replica root.
fn beside(replica: &Path) -> Option<PathBuf> {
    let name = replica.file_name()?.to_string_lossy().into_owned();
    Some(replica.with_file_name(format!(".{name}.rewind")))
}

impl Host {
    /// Refuses a target in or around a tree of ours.
    pub(in crate::host) fn check_target(&self, target: &Path) -> EngineResult<()> {
        let place = real(target)?;
        let mut ours = vec![self.layout.data().to_owned()];
        for entry in self.context.registry.list() {
            let local = self.is_local(&entry.definition);
            for root in &entry.definition.roots {
                ours.extend(local.then(|| root.master.clone()));
                ours.extend(root.replica.clone());
                ours.extend(root.replica.as_deref().and_then(beside));
            }
        }
        for repository in self.context.vault.list() {
            if let Ok(StoreUrl::Directory(path) | StoreUrl::Tape(path)) = repository.url.parse() {
                ours.push(path);
            }
        }
        for tree in ours {
            // What cannot be looked at is compared as it is written.
            let tree = real(&tree).unwrap_or(tree);
            if place.starts_with(&tree) || tree.starts_with(&place) {
                let message = format!("{} and {} overlap", target.display(), tree.display());
                return Err(EngineError::new(&codes::TARGET_REFUSED, message));
            }
        }
        Ok(())
    }
}
