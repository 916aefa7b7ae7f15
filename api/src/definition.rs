//! What a scenario is made of, and which definitions make sense.
//!
//! Everything here is about texts and paths as written; whether a directory exists or a link leads elsewhere is for
//! the engine to see. Definitions are journaled with bincode, so their layout is frozen ([`Definition`] is version 3;
//! those before are in [`crate::records`]).

mod hooks;

pub use hooks::{HOOK_TIMEOUT_MAX, Hooks};

use crate::engine::EngineError;
use crate::globs::PathGlobs;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use wire::codes;
use wire::units::{parse_duration, parse_size};

/// Longest name of a scenario in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Default of `retention`.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
/// Default of `journal-max` in bytes.
pub const JOURNAL_BYTES_DEFAULT: u64 = 50 << 30;
/// Default of `spool-max` in bytes.
pub const SPOOL_BYTES_DEFAULT: u64 = 5 << 30;
/// Default of `keep-snapshots`.
pub const KEEP_SNAPSHOTS_DEFAULT: u32 = 10;
/// Most `keep-snapshots`: each is a record of the journal and a pin that is looked at when space is given back.
pub const KEEP_SNAPSHOTS_MAX: u32 = 1000;
/// Least `journal-max` in bytes: room for the two segments that are always open, and for one to give back.
pub const JOURNAL_BYTES_MIN: u64 = 256 << 20;
/// Least `spool-max` in bytes.
pub const SPOOL_BYTES_MIN: u64 = 16 << 20;

/// Type of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum ScenarioType {
    /// Directories and what is in them.
    #[default]
    FileServer,
}

/// How changes are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum CaptureMode {
    /// Notifications tell where to look.
    #[default]
    Watch,
}

/// What happens after an error that needs a new synchronization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum AutoResync {
    /// A person decides.
    #[default]
    Ask,
    /// It is done.
    Always,
    /// The scenario stays as it is.
    Never,
}

/// One protected directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// On the master.
    pub master: PathBuf,
    /// On the replica; `None` until the registry has chosen one.
    pub replica: Option<PathBuf>,
}

// bincode would encode a path as text and refuse one that is not UTF-8; here it is its bytes.
impl Encode for Root {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let replica = self.replica.as_ref().map(|path| path.as_os_str().as_bytes());
        self.master.as_os_str().as_bytes().encode(encoder)?;
        replica.encode(encoder)
    }
}

impl<C> Decode<C> for Root {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let master = path(Vec::decode(decoder)?);
        let replica = Option::<Vec<u8>>::decode(decoder)?.map(path);
        Ok(Root { master, replica })
    }
}
bincode::impl_borrow_decode!(Root);

/// What is protected, where it goes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Definition {
    /// Unique name.
    pub name: String,
    /// Its type.
    pub kind: ScenarioType,
    /// Host name of the master; `None`: the only one there is.
    pub master: Option<String>,
    /// At least one.
    pub roots: Vec<Root>,
    /// Globs of what is not protected.
    pub excludes: Vec<String>,
    /// How changes are seen.
    pub capture: CaptureMode,
    /// Whether rewind points are kept.
    pub rewind: bool,
    /// How long points are kept.
    pub retention: Duration,
    /// Most bytes of the journal.
    pub journal_bytes_max: u64,
    /// Most bytes of the master's spool.
    pub spool_bytes_max: u64,
    /// After an error.
    pub auto_resync: AutoResync,
    /// Replica roots may hold something.
    pub adopt: bool,
    /// Commands that the master runs.
    pub hooks: Hooks,
    /// How many of the snapshots that backups made are kept.
    pub keep_snapshots: u32,
    /// From this age on one point a minute stays; zero: all stay.
    pub thin_after: Duration,
    /// From this age on only points stay that have a name or are held; zero: never.
    pub thin_minutes: Duration,
}

/// One `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As in the options of `scenario create`.
    pub key: String,
    /// As typed.
    pub value: String,
}

/// Whether master and replica paths lie on one machine, so that they can overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One machine.
    Together,
    /// Two machines.
    Apart,
}

impl Definition {
    /// A definition with every default.
    #[must_use]
    pub fn new(name: impl Into<String>, roots: Vec<Root>) -> Self {
        Definition {
            name: name.into(),
            kind: ScenarioType::default(),
            master: None,
            roots,
            excludes: Vec::new(),
            capture: CaptureMode::default(),
            rewind: true,
            retention: RETENTION_DEFAULT,
            journal_bytes_max: JOURNAL_BYTES_DEFAULT,
            spool_bytes_max: SPOOL_BYTES_DEFAULT,
            auto_resync: AutoResync::default(),
            adopt: false,
            hooks: Hooks::default(),
            keep_snapshots: KEEP_SNAPSHOTS_DEFAULT,
            thin_after: Duration::ZERO,
            thin_minutes: Duration::ZERO,
        }
    }

    /// Which points are given up as they grow older.
    #[must_use]
    pub fn tiers(&self) -> Option<journal::thin::Tiers> {
        let minutes = if self.thin_minutes.is_zero() { Duration::MAX } else { self.thin_minutes };
        (self.rewind && !self.thin_after.is_zero())
            .then_some(journal::thin::Tiers { every: self.thin_after, minutes })
    }

    /// Checks all that can be known without looking at a disk.
    ///
    /// # Errors
    /// `BAD_NAME`, `BAD_SETTING`, `ROOTS_OVERLAP`.
    pub fn check(&self, placement: Placement) -> Result<(), EngineError> {
        check_name(&self.name, "scenario")?;
        let limit = usize::from(journal::RootNo::COUNT_MAX);
        if self.roots.is_empty() || self.roots.len() > limit {
            return Err(bad_setting("root", &self.roots.len().to_string(), &format!("1 to {limit} roots")));
        }
        for root in &self.roots {
            check_path("root", &root.master)?;
            if let Some(replica) = &root.replica {
                check_path("root", replica)?;
            }
        }
        PathGlobs::new(self.excludes.iter().map(String::as_str))?;
        if self.journal_bytes_max < JOURNAL_BYTES_MIN {
            return Err(bad_setting("journal-max", &self.journal_bytes_max.to_string(), "at least 256MiB"));
        }
        if self.spool_bytes_max < SPOOL_BYTES_MIN {
            return Err(bad_setting("spool-max", &self.spool_bytes_max.to_string(), "at least 16MiB"));
        }
        if self.keep_snapshots > KEEP_SNAPSHOTS_MAX {
            return Err(bad_setting("keep-snapshots", &self.keep_snapshots.to_string(), "at most 1000"));
        }
        if !self.thin_minutes.is_zero() && (self.thin_after.is_zero() || self.thin_minutes < self.thin_after)
        {
            let value = wire::units::format_duration(self.thin_minutes);
            return Err(bad_setting(
                "thin-minutes",
                &value,
                "off, or no less than thin-after, which must not be off",
            ));
        }
        self.hooks.check()?;
        self.check_roots(placement)
    }

    /// No root may contain another, and no replica directory may lie in a root or contain one.
    fn check_roots(&self, placement: Placement) -> Result<(), EngineError> {
        let masters: Vec<&Path> = self.roots.iter().map(|root| root.master.as_path()).collect();
        let replicas: Vec<&Path> = self.roots.iter().filter_map(|root| root.replica.as_deref()).collect();
        disjoint("roots", &masters)?;
        disjoint("replica directories", &replicas)?;
        if placement == Placement::Together {
            for master in &masters {
                for replica in &replicas {
                    if overlap(master, replica) {
                        return Err(EngineError::new(
                            &codes::ROOTS_OVERLAP,
                            format!(
                                "replica directory {} and root {} overlap",
                                replica.display(),
                                master.display()
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks against the definitions that are there already.
    ///
    /// # Errors
    /// `SCENARIO_EXISTS`, `ROOTS_OVERLAP`: two scenarios must not write to one place.
    pub fn check_beside<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Definition>,
        placement: Placement,
    ) -> Result<(), EngineError> {
        for other in others {
            if other.name == self.name {
                let message = format!("a scenario is named \"{}\" already", self.name);
                return Err(EngineError::new(&codes::SCENARIO_EXISTS, message));
            }
            for (mine, theirs) in self.roots.iter().flat_map(|a| other.roots.iter().map(move |b| (a, b))) {
                let clash = |a: Option<&Path>, b: Option<&Path>| matches!((a, b), (Some(a), Some(b)) if overlap(a, b));
                let together = placement == Placement::Together;
                if clash(mine.replica.as_deref(), theirs.replica.as_deref())
                    || (together && clash(Some(&mine.master), theirs.replica.as_deref()))
                    || (together && clash(mine.replica.as_deref(), Some(&theirs.master)))
                {
                    return Err(EngineError::new(
                        &codes::ROOTS_OVERLAP,
                        format!("root {} overlaps with scenario \"{}\"", mine.master.display(), other.name),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Applies settings, all or none.
    ///
    /// # Errors
    /// `BAD_SETTING`.
    pub fn with_settings(&self, settings: &[Setting]) -> Result<Self, EngineError> {
        let mut changed = self.clone();
        let mut excludes = None::<Vec<String>>;
        for Setting { key, value } in settings {
            let bad = |expected: &str| bad_setting(key, value, expected);
            match key.replace('_', "-").as_str() {
                "rewind" => changed.rewind = parse_switch(value).ok_or_else(|| bad("on or off"))?,
                "retention" => {
                    changed.retention = parse_duration(value).map_err(|_| bad("a duration such as 7d"))?
                }
                "journal-max" => changed.journal_bytes_max = parse_size(value).map_err(|_| bad("a size"))?,
                "spool-max" => changed.spool_bytes_max = parse_size(value).map_err(|_| bad("a size"))?,
                "auto-resync" => {
                    changed.auto_resync =
                        AutoResync::from_word(value).ok_or_else(|| bad("ask, always or never"))?;
                }
                "adopt" => changed.adopt = parse_switch(value).ok_or_else(|| bad("on or off"))?,
                "keep-snapshots" => changed.keep_snapshots = value.parse().map_err(|_| bad("a number"))?,
                "thin-after" => {
                    changed.thin_after =
                        parse_thinning(value).ok_or_else(|| bad("off, or a duration such as 24h"))?;
                }
                "thin-minutes" => {
                    changed.thin_minutes =
                        parse_thinning(value).ok_or_else(|| bad("off, or a duration such as 7d"))?;
                }
                "hook" => changed.hooks.set(value)?,
                "hook-timeout" => changed.hooks.set_timeout(value)?,
                // The first one replaces all there were; an empty one leaves none.
                "exclude" => {
                    excludes.get_or_insert_default().extend((!value.is_empty()).then(|| value.clone()))
                }
                "name" | "id" | "root" | "roots" | "type" | "master" | "capture" => {
                    return Err(EngineError::new(
                        &codes::BAD_SETTING,
                        format!("{key} cannot be changed after the scenario was created"),
                    ));
                }
                _ => {
                    return Err(EngineError::new(
                        &codes::BAD_SETTING,
                        format!("there is no setting {key:?}"),
                    ));
                }
            }
        }
        if let Some(excludes) = excludes {
            changed.excludes = excludes;
        }
        Ok(changed)
    }
}

impl AutoResync {
    /// From `ask`, `always`, `never`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "ask" => Some(AutoResync::Ask),
            "always" => Some(AutoResync::Always),
            "never" => Some(AutoResync::Never),
            _ => None,
        }
    }
}

fn parse_thinning(text: &str) -> Option<Duration> {
    if text == "off" { Some(Duration::ZERO) } else { parse_duration(text).ok() }
}

fn parse_switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn bad_setting(key: &str, value: &str, expected: &str) -> EngineError {
    EngineError::new(&codes::BAD_SETTING, format!("{key}={value}: expected {expected}"))
}

/// The name becomes a directory below the data directory, so it is kept to what no file system and no shell minds.
/// `of` says what is named.
pub(crate) fn check_name(name: &str, of: &str) -> Result<(), EngineError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && name != "server";
    if good {
        Ok(())
    } else {
        Err(EngineError::new(&codes::BAD_NAME, format!("{name:?} cannot be the name of a {of}")))
    }
}

fn check_path(key: &str, path: &Path) -> Result<(), EngineError> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path != Path::new("/") {
        Ok(())
    } else {
        Err(bad_setting(key, &path.display().to_string(), "an absolute path without `.` and `..`, not `/`"))
    }
}

/// Whether one path is the other or lies below it.
#[must_use]
pub fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn disjoint(what: &str, paths: &[&Path]) -> Result<(), EngineError> {
    for (at, a) in paths.iter().enumerate() {
        if let Some(b) = paths.iter().skip(at + 1).find(|b| overlap(a, b)) {
            return Err(EngineError::new(
                &codes::ROOTS_OVERLAP,
                format!("{what} {} and {} overlap", a.display(), b.display()),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
