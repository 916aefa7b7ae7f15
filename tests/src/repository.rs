//! Repositories whose password is cheap to check.
//!
//! Each program that opens a repository derives a key from its password, and with the parameters that users get this
//! takes more than all else a small test does. The parameters stand in the key file, which a repository brings with it:
//! one that was made here, with small ones, is opened by the same code. It serves tests of what lies in a repository.
//! Those of how one is made let `repository add` make it, with what users get.

use snapshot::repository::keys::KeyCost;
use snapshot::repository::{Repository, RepositoryOptions};
use snapshot::store::DirectoryStore;
use std::path::Path;
use std::sync::Arc;

/// Makes an empty repository in a directory that is not there yet; its password is the first line of the file.
pub fn make(directory: &Path, password: &Path) {
    let text = std::fs::read_to_string(password).unwrap();
    let password = text.lines().next().expect("a password").to_owned().into();
    let options =
        RepositoryOptions { key_cost: KeyCost { log_n: 4, r: 8, p: 1 }, ..RepositoryOptions::default() };
    let store = DirectoryStore::create(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    Repository::init(Arc::new(store), &password, options).unwrap();
}
