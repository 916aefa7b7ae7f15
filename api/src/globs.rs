//! Globs over paths of the master.
//!
//! A glob that begins with `/` matches the whole path, any other the path relative to its root. `*` and `**` cross
//! slashes, so `*.tmp` finds a file at any depth; `?` and `[..]` match one byte. Paths need not be UTF-8.

mod needs;

use crate::engine::EngineError;
use globset::{Glob, GlobSet, GlobSetBuilder};
use journal::state::summary::Token;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wire::codes;

/// A compiled set of globs; matches if any of them does.
#[derive(Clone, Debug)]
pub struct PathGlobs {
    whole: GlobSet,
    relative: GlobSet,
    texts: Vec<String>,
}

impl PathGlobs {
    /// Compiles.
    ///
    /// # Errors
    /// `BAD_SETTING` for a text that is no glob.
    pub fn new<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<Self, EngineError> {
        let mut whole = GlobSetBuilder::new();
        let mut relative = GlobSetBuilder::new();
        let mut texts = Vec::new();
        for text in globs {
            let bad = |error: globset::Error| {
                EngineError::new(&codes::BAD_SETTING, format!("{text:?} is not a glob")).caused_by(error)
            };
            let glob = Glob::new(text).map_err(bad)?;
            texts.push(text.to_owned());
            if text.starts_with('/') {
                whole.add(glob)
            } else {
                relative.add(glob)
            };
        }
        let build = |builder: GlobSetBuilder| {
            builder.build().map_err(|error| {
                EngineError::new(&codes::BAD_SETTING, "the globs are too large").caused_by(error)
            })
        };
        Ok(PathGlobs { whole: build(whole)?, relative: build(relative)?, texts })
    }

    /// What a path below one of these roots must have to match: all tokens of one of these.
    #[must_use]
    pub fn needs(&self, roots: &[&Path]) -> Vec<Vec<Token>> {
        let of_text = |text: &String| -> Vec<Vec<Token>> {
            if text.starts_with('/') {
                let roots = roots.iter().map(|root| root.as_os_str().as_bytes());
                roots.flat_map(|root| needs::of_glob(text, Some(root))).collect()
            } else {
                needs::of_glob(text, None)
            }
        };
        self.texts.iter().flat_map(of_text).collect()
    }

    /// Whether the path `relative` below the root `root` matches. The root itself has an empty relative path.
    #[must_use]
    pub fn matches(&self, root: &Path, relative: &[u8]) -> bool {
        let relative = Path::new(OsStr::from_bytes(relative));
        if self.relative.is_match(relative) {
            return true;
        }
        if self.whole.is_empty() {
            return false;
        }
        if relative.as_os_str().is_empty() {
            self.whole.is_match(root)
        } else {
            self.whole.is_match(root.join(relative))
        }
    }
}

#[cfg(test)]
mod tests;
