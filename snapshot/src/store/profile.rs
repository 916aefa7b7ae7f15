//! The files `~/.aws/credentials` and `~/.aws/config`: keys, region and endpoint of a profile.
//!
//! `object_store` reads variables, web identities, container and instance metadata, but not these files, and they are
//! where most machines outside a cloud have their keys. Read once, when a store is opened. A profile that gets its keys
//! by other means (a role to assume, a process to run, a sign-on) is refused by name instead of being taken as one
//! without keys.

use super::options::Environment;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A credentials file larger than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a profile could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Far larger than such a file is.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// `AWS_PROFILE` names one that no file has.
    #[error("no file has the profile {profile:?} that AWS_PROFILE names")]
    NoSuchProfile {
        /// The name.
        profile: String,
    },
    /// One of the two keys is missing.
    #[error("profile {profile:?} has only one of aws_access_key_id and aws_secret_access_key")]
    HalfAKey {
        /// The profile.
        profile: String,
    },
    /// The profile gets its keys in a way that is not supported.
    #[error(
        "profile {profile:?} gets its keys by {setting}, which is not supported: export them as variables"
    )]
    NotSupported {
        /// The profile.
        profile: String,
        /// The setting that says so.
        setting: &'static str,
    },
}

/// What a profile says.
#[derive(Default)]
pub(crate) struct Profile {
    /// Access key and secret key.
    pub(crate) keys: Option<(String, String)>,
    /// Token of a session.
    pub(crate) token: Option<String>,
    /// Region.
    pub(crate) region: Option<String>,
    /// Endpoint.
    pub(crate) endpoint: Option<String>,
}

/// Reads the profile that the environment names, or `default`. Files that are not there are empty.
pub(crate) fn read(environment: &Environment) -> Result<Profile, ProfileError> {
    let home = environment.get("HOME").map(|home| Path::new(home).join(".aws"));
    let file = |variable: &str, name: &str| {
        environment.get(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(name)))
    };
    let chosen = environment.get("AWS_PROFILE").or_else(|| environment.get("AWS_DEFAULT_PROFILE"));
    let name = chosen.unwrap_or("default");
    // Sections of the second file are called `[profile x]`, but for `[default]`.
    let mut settings = BTreeMap::new();
    let mut found = false;
    for (path, section) in [
        (file("AWS_CONFIG_FILE", "config"), format!("profile {name}")),
        (file("AWS_CONFIG_FILE", "config"), name.to_owned()),
        (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name.to_owned()),
    ] {
        let Some(text) = path.map(|path| text_of(&path)).transpose()?.flatten() else { continue };
        found |= collect(&text, &section, &mut settings);
    }
    match chosen {
        Some(profile) if !found => Err(ProfileError::NoSuchProfile { profile: profile.to_owned() }),
        _ => to_profile(name, settings),
    }
}

fn to_profile(name: &str, mut settings: BTreeMap<String, String>) -> Result<Profile, ProfileError> {
    let profile = name.to_owned();
    let keys = match (settings.remove("aws_access_key_id"), settings.remove("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some((id, secret)),
        (None, None) => None,
        _ => return Err(ProfileError::HalfAKey { profile }),
    };
    if keys.is_none() {
        let others =
            ["role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file"];
        if let Some(setting) = others.into_iter().find(|setting| settings.contains_key(*setting)) {
            return Err(ProfileError::NotSupported { profile, setting });
        }
    }
    Ok(Profile {
        keys,
        token: settings.remove("aws_session_token"),
        region: settings.remove("region"),
        endpoint: settings.remove("endpoint_url"),
    })
}

/// The text of a file; `None` if there is none.
fn text_of(path: &Path) -> Result<Option<String>, ProfileError> {
    let fail = |source| ProfileError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ProfileError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(text))
}

/// Adds the settings of a section, and says whether it is there. Indented lines belong to a nested setting.
fn collect(text: &str, section: &str, settings: &mut BTreeMap<String, String>) -> bool {
    let mut inside = false;
    let mut found = false;
    for line in text.lines() {
        let nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or(name);
            inside = name.split_whitespace().eq(section.split_whitespace());
            found |= inside;
        } else if let (true, false, Some((name, value))) = (inside, nested, line.split_once('=')) {
            settings.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests;
