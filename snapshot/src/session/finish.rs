//! The end of a session: the directories above its root, and the record.

use super::directory::save_tree;
use super::node::{Held, node};
use super::{Counts, Entity, SessionError, Totals, Work};
use crate::repository::session::path_text;
use crate::repository::{Id, Repository, SessionRecord, Timestamp, TreeBuilder};
use journal::{Attributes, Kind, Meta, NodeId, TreeIo};

/// Directories above a root belong to nobody's session; programs that restore them need something to set.
const ABOVE_MODE: u32 = 0o755;

/// What the record says beside the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordOptions {
    /// The master's clock at the point.
    pub time: Timestamp,
    /// The master's name.
    pub host: String,
    /// Words: scenario, entity, LSN, class, bookmark.
    pub tags: Vec<String>,
    /// Patterns that the scenario leaves out.
    pub excludes: Vec<String>,
    /// When the work began, for the statistics.
    pub begun: Timestamp,
}

/// The record of a session, if it is still there. One that cannot be read is none to go on from.
pub(super) fn recorded(repository: &Repository, session: &Id) -> Option<SessionRecord> {
    repository.load_session(session).ok()
}

/// The directories from the file system's root down to the entity's, the outermost first: name, node, metadata.
pub(crate) fn directories<'e>(
    entity: &'e Entity,
    root: NodeId,
    meta: &Meta,
) -> Vec<(&'e [u8], NodeId, Meta)> {
    let attributes = Attributes { mode: ABOVE_MODE, uid: 0, gid: 0, ..meta.attributes };
    let above = Meta { kind: Kind::Directory, size: 0, attributes, xattrs: Vec::new() };
    let names = entity.path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut found: Vec<_> = names.map(|name| (name, NodeId(0), above.clone())).collect();
    if let Some((_, id, own)) = found.last_mut() {
        (*id, *own) = (root, meta.clone());
    }
    found
}

/// The tree of the file system's root, with the directories down to the entity's.
pub(super) fn above<T: TreeIo>(work: &Work<'_, T>, root: Id) -> Result<Id, SessionError> {
    let id = NodeId::root(work.entity.root);
    let meta = work.view.meta(id).map_err(SessionError::journal("read metadata"))?;
    let meta = meta.ok_or(SessionError::NoRoot { root: work.entity.root.0 })?;
    let mut below = root;
    for (name, inode, meta) in directories(work.entity, id, &meta).iter().rev() {
        let mut tree = TreeBuilder::new();
        tree.add(&node(work.entity, name, *inode, meta, 0, Held::Tree(below)))?;
        below = save_tree(work, tree.finish())?;
    }
    Ok(below)
}

/// The record, which makes the session one.
pub(super) fn record(
    (tree, totals): (Id, Totals),
    options: &RecordOptions,
    entity: &Entity,
    parent: Option<Id>,
    counts: &Counts,
) -> SessionRecord {
    let mut summary = serde_json::json!({
        "backup_start": options.begun,
        "backup_end": Timestamp::now(),
        "data_blobs": counts.data_blobs,
        "tree_blobs": counts.tree_blobs,
        "data_added": counts.bytes_new,
        "data_added_packed": counts.bytes_stored,
        "bytes_read": counts.bytes_read,
        "missed": counts.missed_count,
    });
    totals.write(&mut summary);
    SessionRecord {
        time: options.time,
        parent,
        tree,
        paths: vec![path_text(&entity.path)],
        hostname: options.host.clone(),
        username: "root".to_owned(),
        uid: 0,
        gid: 0,
        excludes: options.excludes.clone(),
        tags: options.tags.clone(),
        original: None,
        program_version: concat!("rewind ", env!("CARGO_PKG_VERSION")).to_owned(),
        summary: Some(summary),
    }
}
