//! Where the replica side of a scenario lives on disk, and opening it.
//!
//! `DIR/journal/NAME` holds the truth, `DIR/projections/tables/NAME` what can be thrown away. Roots are made with
//! everything above them private (mode 0700) where nothing is there yet.

use crate::definition::Definition;
use crate::engine::EngineError;
use journal::disk::OsDisk;
use journal::journal::{Journal, SystemClock, TablesFactory};
use journal::log::LogOptions;
use journal::retention::RetentionPolicy;
use journal::tables::LsmFactory;
use journal::{JournalError, Tables};
use replication::os_tree::OsTree;
use replication::replica::{Replica, ReplicaOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::codes;

/// Directories of a daemon.
#[derive(Clone, Debug)]
pub struct Layout {
    data: PathBuf,
}

impl Layout {
    /// Everything below `data`.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Layout { data }
    }

    /// The directory itself.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The server journal.
    #[must_use]
    pub fn server_journal(&self) -> PathBuf {
        self.data.join("journal").join("server")
    }

    /// The journal of a scenario.
    #[must_use]
    pub fn journal(&self, scenario: &str) -> PathBuf {
        self.data.join("journal").join(scenario)
    }

    /// A directory for files that nobody looks for after a restart.
    ///
    /// # Errors
    /// `IO`.
    pub fn scratch(&self) -> Result<PathBuf, EngineError> {
        let scratch = self.data.join("projections").join("scratch");
        make_private(&scratch)?;
        Ok(scratch)
    }

    /// What sessions of a tape repository hold: a repository of trees without contents.
    #[must_use]
    pub fn stage(&self, repository: u64) -> PathBuf {
        self.data.join("projections").join("tape").join(repository.to_string())
    }

    /// Tables of a scenario.
    #[must_use]
    pub fn tables(&self, scenario: &str) -> PathBuf {
        self.data.join("projections").join("tables").join(scenario)
    }

    /// Scratch tables of a scenario, while its tables are verified.
    #[must_use]
    pub fn verify_tables(&self, scenario: &str) -> PathBuf {
        self.data.join("projections").join("verify").join(scenario)
    }

    /// Projections of jobs.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.data.join("projections").join("jobs")
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> PathBuf {
        self.data.join("projections").join("catalog")
    }

    /// The master's index of a scenario.
    #[must_use]
    pub fn index(&self, scenario: &str) -> PathBuf {
        self.data.join("projections").join("index").join(scenario)
    }

    /// How far a scrub of a scenario is.
    #[must_use]
    pub fn scrub(&self, scenario: &str) -> PathBuf {
        self.data.join("projections").join("scrub").join(scenario)
    }

    /// The master's spool of a scenario.
    #[must_use]
    pub fn spool(&self, scenario: &str) -> PathBuf {
        self.data.join("spool").join(scenario)
    }

    /// Where barrier cookies of a scenario are made.
    #[must_use]
    pub fn cookies(&self, scenario: &str) -> PathBuf {
        self.data.join("cookies").join(scenario)
    }

    /// Passwords of repositories.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    /// What says how to thaw applications that are held, a file a scenario.
    #[must_use]
    pub fn held(&self) -> PathBuf {
        self.data.join("held")
    }

    /// Replica roots nobody named.
    #[must_use]
    pub fn replicas(&self) -> PathBuf {
        self.data.join("replica")
    }
}

/// Makes a directory and what is missing above it, private.
///
/// # Errors
/// `IO`.
pub fn make_private(path: &Path) -> Result<(), EngineError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| EngineError::io("create", path, error))
}

/// Empty tables at a place of their own; what is there goes.
///
/// # Errors
/// `File`, `Tables`.
pub fn scratch_tables(place: &Path) -> Result<Arc<dyn Tables>, JournalError> {
    LsmFactory(place.to_path_buf()).tables(true)
}

/// The word beside a replica root that says whose it is: a root whose disk is not mounted, or that belongs to another
/// journal, must not be written to.
struct Claim {
    path: PathBuf,
    text: String,
}

impl Claim {
    /// Checks what is there. `Some`: there is nothing, which is right for a journal that has not been used.
    fn check(root: &Path, id: &[u8; 16], used: bool) -> Result<Option<Self>, EngineError> {
        let text = id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut beside = std::ffi::OsString::from(".");
        beside.push(root.file_name().unwrap_or_default());
        beside.push(".rewind");
        let path = root.with_file_name(beside).join("journal");
        match std::fs::read_to_string(&path) {
            Ok(found) if found.trim() == text && root.is_dir() => Ok(None),
            Ok(found) if found.trim() == text => Err(Self::missing(root)),
            Ok(_) => {
                let message = format!("replica root {} belongs to another journal", root.display());
                Err(EngineError::new(&codes::REPLICA_NOT_EMPTY, message)
                    .because(format!("{} names it.", path.display()))
                    .advise("Choose another replica directory."))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !used => {
                Ok(Some(Claim { path, text }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Self::missing(root)),
            Err(error) => Err(EngineError::io("read", &path, error)),
        }
    }

    fn missing(root: &Path) -> EngineError {
        let message = format!("replica root {} is not there any more", root.display());
        EngineError::new(&codes::NO_SUCH_ROOT, message)
            .because("The journal has been applied to it; perhaps its file system is not mounted.")
            .advise(
                "Mount it, or bring the directory and what lies beside it back, and start the daemon again.",
            )
    }

    /// Makes it durable.
    fn make(self) -> Result<(), EngineError> {
        let write = || {
            let file = std::fs::File::create(&self.path)?;
            std::io::Write::write_all(&mut &file, self.text.as_bytes())?;
            file.sync_all()?;
            std::fs::File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| EngineError::io("write", &self.path, error))
    }
}

/// Opens journal, tables and tree of a scenario and brings them together.
///
/// # Errors
/// `DATA_IN_USE`, `DAMAGED`, `DRIFT`, `NO_SUCH_ROOT`, `REPLICA_NOT_EMPTY`, `IO`.
pub fn open_replica(
    layout: &Layout,
    definition: &Definition,
    free_bytes_min: u64,
) -> Result<Arc<Replica<OsTree>>, EngineError> {
    let directory = layout.journal(&definition.name);
    make_private(&directory)?;
    let factory = LsmFactory(layout.tables(&definition.name));
    let clock = Arc::new(SystemClock);
    let opened = Journal::open(Arc::new(OsDisk), &directory, LogOptions::default(), &factory, clock)?;
    let roots: Vec<PathBuf> =
        definition.roots.iter().map(|root| root.replica.clone().unwrap_or_default()).collect();
    let (id, used) = (opened.journal.id(), opened.journal.journaled() != journal::Lsn::ZERO);
    let claims = roots.iter().map(|root| Claim::check(root, &id, used)).collect::<Result<Vec<_>, _>>()?;
    for root in &roots {
        make_private(root)?;
    }
    let tree = OsTree::open(roots)
        .map_err(|error| EngineError::io("open the replica roots of", &directory, error))?;
    for claim in claims.into_iter().flatten() {
        claim.make()?;
    }
    let retention = RetentionPolicy { keep: definition.retention, bytes_max: definition.journal_bytes_max };
    let (retention, thinning) = (Some(retention), definition.tiers());
    let options = ReplicaOptions { free_bytes_min, retention, thinning, ..ReplicaOptions::default() };
    Ok(Replica::start(opened, Arc::new(tree), options)?)
}
