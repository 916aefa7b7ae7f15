//! A master in the same process.

use super::link::Link;
use crate::engine::{EngineError, EngineResult};
use crate::store::{Layout, make_private};
use journal::disk::OsDisk;
use replication::hooks::HooksAllowed;
use replication::master::{Master, MasterPaths};
use replication::spool::{Spool, SpoolOptions};
use replication::stream::local::{LocalOptions, LocalStream};
use replication::stream::{MasterCommands, ReplicaLink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wire::codes;

/// What one scenario's master needs to know.
pub(crate) struct MasterSettings {
    pub scenario: u64,
    pub name: String,
    pub host: String,
    pub spool: PathBuf,
    pub spool_bytes_max: u64,
    pub spool_free_bytes_min: u64,
    pub hooks: HooksAllowed,
}

/// A master side, not yet connected.
pub(crate) struct MasterSide {
    pub master: Arc<Master>,
    pub spool: Arc<Spool>,
}

fn internal(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::new(&codes::INTERNAL, what.to_owned()).caused_by(error)
}

impl MasterSide {
    /// Opens spool and index.
    pub(crate) fn open(layout: &Layout, settings: &MasterSettings) -> EngineResult<Self> {
        let directory = settings.spool.join(&settings.name);
        let index = layout.index(&settings.name);
        let cookies = layout.cookies(&settings.name);
        let (held, hooks) = (layout.held(), settings.hooks.clone());
        for path in [&directory, &index, &cookies, &held] {
            make_private(path)?;
        }
        let origins = directory.join("roots");
        let options = SpoolOptions {
            disk_bytes_max: settings.spool_bytes_max,
            disk_free_bytes_min: settings.spool_free_bytes_min,
            ..SpoolOptions::new(directory)
        };
        let (spool, _) =
            Spool::open(Arc::new(OsDisk), options).map_err(|error| internal("open the spool", error))?;
        let spool = Arc::new(spool);
        let hold = replication::hooks::note_in(&held, &settings.name);
        let paths = MasterPaths { index, cookies, origins, hold, hooks };
        let master =
            Master::open(Arc::clone(&spool), paths).map_err(|error| internal("open the index", error))?;
        Ok(MasterSide { master, spool })
    }
}

/// A master side connected within the process.
pub(super) struct LocalMaster {
    side: MasterSide,
    stream: LocalStream,
}

impl LocalMaster {
    pub(super) fn start(layout: &Layout, settings: &MasterSettings, link: Link) -> EngineResult<Self> {
        let side = MasterSide::open(layout, settings)?;
        let agent: Arc<dyn MasterCommands> = Arc::new(Arc::clone(&side.master));
        let link: Arc<dyn ReplicaLink> = Arc::new(link);
        let options = LocalOptions::new(settings.scenario, settings.name.clone(), settings.host.clone());
        let stream = LocalStream::start(options, Arc::clone(&side.spool), agent, link)
            .map_err(|error| internal("start the stream", error))?;
        Ok(LocalMaster { side, stream })
    }

    /// Waits until everything spooled is durable, or the time is over; then ends. Capture that waits for room which
    /// nobody makes is cut after the same time. `release` sees to it that nothing on its way waits for the replica.
    pub(super) fn stop(&self, drain: Duration, release: impl FnOnce()) {
        let (ended, end) = std::sync::mpsc::channel();
        let master = Arc::clone(&self.side.master);
        // Nobody may be waiting any more.
        let shut = move || drop(ended.send(master.shut()));
        if let Err(error) = std::thread::Builder::new().name("shut".to_owned()).spawn(shut) {
            tracing::error!(%error, "cannot start a thread");
        }
        let shut = end.recv_timeout(drain).or_else(|_| {
            self.side.spool.shut();
            end.recv_timeout(drain)
        });
        match shut {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = wire::failure::chain(&error);
                tracing::warn!(error, "capture did not end in good order; the index will be rebuilt");
            }
            Err(_) => tracing::warn!("capture did not end in time; the index will be rebuilt"),
        }
        let _ = self.side.spool.wait_empty(drain);
        release();
        if let Err(error) = self.stream.stop() {
            tracing::debug!(%error, "the stream had ended");
        }
        if let Err(error) = self.side.spool.close() {
            tracing::warn!(%error, "the spool could not be kept; a rescan will find what was in it");
        }
    }
}
