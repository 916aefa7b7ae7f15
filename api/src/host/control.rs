//! A replica as the crate `restore` wants it.

use journal::{Class, JournalError, Lsn};
use replication::os_tree::OsTree;
use replication::replica::{LeasedView, Replica};
use restore::{EventSink, LocalGroup, ReplicaControl};
use std::sync::Arc;

pub(super) struct Control(pub Arc<Replica<OsTree>>);

impl EventSink for Control {
    fn apply_local(
        &self,
        reading: Option<Lsn>,
        groups: &mut dyn Iterator<Item = LocalGroup>,
    ) -> Result<Lsn, JournalError> {
        self.0.apply_local(reading, groups)
    }
}

impl ReplicaControl for Control {
    type Tree = OsTree;
    type Leased = LeasedView<OsTree>;

    fn applied(&self) -> Lsn {
        self.0.journal().applied()
    }

    fn is_detached(&self) -> bool {
        self.0.status().detached.is_some()
    }

    fn detach(&self, why: &str) -> Result<(), JournalError> {
        self.0.detach(why)
    }

    fn attach(&self) -> Result<(), JournalError> {
        self.0.attach()
    }

    fn view(&self, lsn: Lsn) -> Result<LeasedView<OsTree>, JournalError> {
        self.0.view(lsn)
    }

    fn set_bookmark(&self, name: &str, lsn: Lsn) -> Result<(), JournalError> {
        let time = self.0.journal().journaled_time();
        self.0.journal().set_bookmark(name, lsn, Class::Fuzzy, true, time).map(drop)
    }
}
