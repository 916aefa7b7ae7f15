//! What a restore did, and what it could not do: for scripts and for the log of a job.

use serde::ser::{Serialize, SerializeMap, Serializer};
use snapshot::repository::base64;

/// Objects listed by name; more are counted.
pub const LISTED_MAX: usize = 1000;

/// A path and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Absolute path in the session.
    pub path: Vec<u8>,
    /// What failed or could not be kept: `owner`, `content`, `device` ...
    pub what: &'static str,
    /// Why, for people; names the damaged object of the repository where it is one.
    pub reason: String,
    /// The system's error number, where it is one.
    pub errno: Option<i32>,
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &String::from_utf8_lossy(&self.path))?;
        if std::str::from_utf8(&self.path).is_err() {
            let mut exact = Vec::new();
            base64::encode(&self.path, &mut exact);
            map.serialize_entry("path_base64", &String::from_utf8_lossy(&exact))?;
        }
        map.serialize_entry("what", self.what)?;
        map.serialize_entry("reason", &self.reason)?;
        map.serialize_entry("errno", &self.errno)?;
        map.end()
    }
}

/// What is listed of a session that is not complete.
pub const LACKING: &str = "session";

/// How it is said that a session is not complete.
#[must_use]
pub fn lacking(missed: u64) -> String {
    let objects = if missed == 1 { "object" } else { "objects" };
    format!("the session lacks {missed} {objects} that could not be read when it was made")
}

/// How a restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All is as the session and the rules want it.
    Done,
    /// Something is listed as failed or could not be kept.
    Incomplete,
    /// Something that was read again is not what was written.
    VerificationFailed,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Receipt {
    /// Regular files that are whole, found so from an earlier run or written.
    pub files: u64,
    /// Directories that were made or entered.
    pub directories: u64,
    /// Links, pipes, sockets, devices.
    pub others: u64,
    /// Further names of files.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes written: without holes and without what an earlier run had written.
    pub bytes_written: u64,
    /// Files and others that an earlier run of the same restore had made.
    pub resumed: u64,
    /// Objects left alone because of what stands there.
    pub skipped: u64,
    /// Objects restored under another name.
    pub renamed: u64,
    /// Names removed because the session does not hold them.
    pub removed: u64,
    /// Objects that are not restored.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Listed>,
    /// Properties that could not be kept.
    pub warned: u64,
    /// The first of them.
    pub warnings: Vec<Listed>,
    /// Whether all files that were read again were what was written; `None` if none was to be read again.
    pub verified: Option<bool>,
    /// Files that were read again.
    pub verified_files: u64,
}

impl Receipt {
    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.verified, self.failed + self.warned) {
            (Some(false), _) => Outcome::VerificationFailed,
            (_, 0) => Outcome::Done,
            _ => Outcome::Incomplete,
        }
    }

    /// Adds what another restore into the same place did.
    pub fn add(&mut self, other: Receipt) {
        self.files += other.files;
        self.directories += other.directories;
        self.others += other.others;
        self.links += other.links;
        self.bytes += other.bytes;
        self.bytes_written += other.bytes_written;
        self.resumed += other.resumed;
        self.skipped += other.skipped;
        self.renamed += other.renamed;
        self.removed += other.removed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(LISTED_MAX);
        self.warned += other.warned;
        self.warnings.extend(other.warnings);
        self.warnings.truncate(LISTED_MAX);
        self.verified = match (self.verified, other.verified) {
            (Some(one), Some(two)) => Some(one && two),
            (one, two) => one.or(two),
        };
        self.verified_files += other.verified_files;
    }

    /// Says of what was restored that it is not all there was. First in the list, which has an end.
    pub(super) fn lack(&mut self, missed: u64, path: &[u8]) {
        if missed == 0 {
            return;
        }
        self.warned += 1;
        self.warnings.truncate(LISTED_MAX - 1);
        let reason = lacking(missed);
        self.warnings.insert(0, Listed { path: path.to_vec(), what: LACKING, reason, errno: None });
    }

    pub(super) fn fail(&mut self, listed: Listed) {
        self.failed += 1;
        if self.failures.len() < LISTED_MAX {
            self.failures.push(listed);
        }
    }

    pub(super) fn warn(&mut self, listed: Listed) {
        self.warned += 1;
        if self.warnings.len() < LISTED_MAX {
            self.warnings.push(listed);
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
