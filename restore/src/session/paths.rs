//! Which paths of a session are wanted: a tree of names, so that a walk follows only what leads to them.

use super::error::SessionRestoreError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Components of a path that is asked for.
const COMPONENTS_MAX: usize = 4096;

/// What is wanted at and below one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    /// The place and all below it.
    pub whole: bool,
    below: BTreeMap<Vec<u8>, Arc<Paths>>,
}

impl Paths {
    /// These absolute paths and all below them; everything if there are none.
    pub fn new(paths: &[Vec<u8>]) -> Result<Self, SessionRestoreError> {
        let mut all = Self { whole: paths.is_empty(), below: BTreeMap::new() };
        for path in paths {
            let refused = || SessionRestoreError::PathRefused { path: path.clone() };
            let names: Vec<&[u8]> =
                path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
            let dots = names.iter().any(|name| matches!(*name, b"." | b"..") || name.contains(&0));
            if !path.starts_with(b"/") || dots || names.len() > COMPONENTS_MAX {
                return Err(refused());
            }
            let mut at = &mut all;
            for name in names {
                let below = at.below.entry(name.to_vec()).or_default();
                at = Arc::make_mut(below);
            }
            at.whole = true;
        }
        Ok(all)
    }

    /// What is wanted of a name; `None` if nothing is.
    pub fn below(self: &Arc<Self>, name: &[u8]) -> Option<Arc<Self>> {
        if self.whole { Some(self.clone()) } else { self.below.get(name).cloned() }
    }

    /// The names that lead on, where this place is not wanted as a whole.
    pub fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.below.keys().filter(|_| !self.whole)
    }
}
