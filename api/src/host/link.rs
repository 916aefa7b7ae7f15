//! The replica side of a scenario as streams see it.

use super::scene::Scene;
use super::told::Told;
use crate::definition::{AutoResync, Definition};
use crate::engine::Level;
use crate::records::Wanted;
use journal::controls::Synchronized;
use journal::{Lsn, Timestamp};
use replication::ingest::Ingest;
use replication::os_tree::OsTree;
use replication::replica::{Namespace, Replica, block_hashes};
use replication::stream::{MasterHandle, ReplicaLink, Terms};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tokio::sync::watch;
use wire::stream::{
    AgentState, BlockHashes, BlocksWanted, Definition as WireDefinition, Failed, Hello, MasterStatus,
    NamespacePage, Reason, Refused, RootDefinition, Synchronization,
};

/// The link of one scene.
pub(crate) struct Link {
    scene: Arc<Scene>,
    replica: Arc<Replica<OsTree>>,
    namespace: Namespace<OsTree>,
}

impl Link {
    pub(super) fn new(scene: Arc<Scene>, replica: Arc<Replica<OsTree>>) -> Self {
        let roots = scene.definition().roots.len() as u16;
        let namespace = Namespace::new(Arc::clone(&replica), roots);
        Link { scene, replica, namespace }
    }
}

/// A definition as a master needs it.
pub(super) fn to_wire(id: u64, definition: &Definition) -> WireDefinition {
    let roots = definition.roots.iter().enumerate().map(|(number, root)| RootDefinition {
        root: journal::RootNo(number as u16),
        path: root.master.as_os_str().as_bytes().to_vec(),
    });
    WireDefinition {
        scenario: id,
        name: definition.name.clone(),
        roots: roots.collect(),
        excludes: definition.excludes.clone(),
        auto_resync: match definition.auto_resync {
            AutoResync::Ask => wire::stream::AutoResync::Ask,
            AutoResync::Always => wire::stream::AutoResync::Always,
            AutoResync::Never => wire::stream::AutoResync::Never,
        },
        spool_bytes_max: Some(definition.spool_bytes_max),
        settings: Vec::new(),
    }
}

/// How far a master that captures had captured, and when, by its own clock; `None` if it does not, so that nobody knows what
/// has changed since. One that compares after a gap counts, since a gap may be open for as long as a directory cannot be
/// watched; one that synchronizes will come to its end.
fn captured(status: &MasterStatus) -> Option<(Lsn, Timestamp)> {
    match status.agent {
        AgentState::Capturing | AgentState::Rescanning => Some((status.captured, status.time)),
        AgentState::Stopped | AgentState::Starting | AgentState::Synchronizing | AgentState::Problem => None,
    }
}

impl ReplicaLink for Link {
    fn ingest(&self) -> Arc<dyn Ingest> {
        Arc::new(Told::new(Arc::clone(&self.scene), Arc::clone(&self.replica)))
    }

    fn terms(&self, hello: &Hello) -> Result<Terms, Refused> {
        let definition = self.scene.definition();
        if let Some(master) = &definition.master
            && *master != hello.host
        {
            let text =
                format!("the master of scenario \"{}\" is {master}, not {}", definition.name, hello.host);
            return Err(Refused { reason: Reason::NotAuthorized, text });
        }
        self.scene.features.store(hello.features, std::sync::atomic::Ordering::SeqCst);
        let wanted = self.scene.wanted();
        Ok(Terms {
            synchronization: match self.replica.journal().synchronized() {
                Synchronized::Never => Synchronization::Never,
                Synchronized::First => Synchronization::Begun,
                Synchronized::Again => Synchronization::Again,
                Synchronized::Completed => Synchronization::Completed,
            },
            suspended: wanted == Wanted::Suspended,
            running: wanted != Wanted::Stopped,
            definition: to_wire(self.scene.id(), &definition),
        })
    }

    fn attached(&self, host: &str, master: Arc<dyn MasterHandle>) {
        self.scene.note(Level::Info, &format!("master {host} is connected"));
        self.scene.set_master(Some(master));
    }

    fn detached(&self, why: &str) {
        self.scene.set_master(None);
        self.scene.note(Level::Warning, &format!("connection to the master ended: {why}"));
    }

    fn status(&self, status: &MasterStatus) {
        if let Some((captured, time)) = captured(status) {
            self.replica.heard(captured, time);
        }
        self.scene.set_master_status(status.clone());
    }

    fn refused(&self, refused: &Refused) {
        self.scene.set_refused(refused);
        self.scene.note(Level::Error, &format!("a master was refused: {}", refused.text));
    }

    fn applied(&self) -> Lsn {
        self.replica.journal().applied()
    }

    fn revoked(&self) -> watch::Receiver<bool> {
        self.scene.closing()
    }

    fn namespace(&self, after: &[u8]) -> Result<NamespacePage, Failed> {
        self.namespace.page(after)
    }

    fn blocks(&self, wanted: &BlocksWanted) -> Result<BlockHashes, Failed> {
        block_hashes(&self.replica, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::stream::SpoolState;

    #[test]
    fn only_a_master_that_captures_makes_history_older() {
        let status = |agent| MasterStatus {
            captured: Lsn::captured(7),
            acknowledged: Lsn::captured(5),
            spool_memory_bytes: 0,
            spool_disk_bytes: 0,
            spool: SpoolState::Memory,
            agent,
            gaps_open: 0,
            time: Timestamp(70),
            cause: String::new(),
            files: (0, 0),
            bytes: (0, 0),
        };
        for agent in [AgentState::Capturing, AgentState::Rescanning] {
            assert_eq!(captured(&status(agent)), Some((Lsn::captured(7), Timestamp(70))), "{agent:?}");
        }
        for agent in
            [AgentState::Stopped, AgentState::Starting, AgentState::Synchronizing, AgentState::Problem]
        {
            assert_eq!(captured(&status(agent)), None, "{agent:?}");
        }
    }
}
