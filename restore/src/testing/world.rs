//! A replica without a journal.

use super::tree::{MemFile, MemTree, Snapshot, error};
use crate::rewind::{EventSink, LocalGroup, ReplicaControl};
use bytes::Bytes;
use journal::record::{DataUndo, UndoSource};
use journal::state::{ContentUndo, Finished, OldBytes, Transition, UndoSink, history_puts, point_put, rows};
use journal::tables::MemoryTables;
use journal::view::{UndoBytes, View};
use journal::{
    Capture, Event, JournalError, Lsn, NodeId, Payload, PayloadAt, Provenance, RootNo, Space, Tables,
    Timestamp, TreeFile,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Payloads of both streams: undo in segment 1, redo in segment 2.
#[derive(Default)]
struct Payloads(Mutex<Vec<Bytes>>);

impl Payloads {
    fn add(&self, bytes: Bytes) -> PayloadAt {
        let mut all = self.0.lock();
        all.push(bytes);
        let bytes = all.last().unwrap().len() as u32;
        PayloadAt { segment: 1, offset: all.len() as u64 - 1, bytes, ..PayloadAt::default() }
    }

    fn get(&self, at: PayloadAt) -> Bytes {
        self.0.lock()[at.offset as usize].clone()
    }

    /// What is written, from where it is said to lie: not from memory.
    fn written(&self, data: &Payload) -> Bytes {
        match data {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Undone { at, skip, bytes, known } => {
                let lies = self.get(*at).slice(*skip as usize..(*skip + *bytes) as usize);
                assert_eq!(known.as_ref(), Some(&lies), "what is known is not what lies there");
                lies
            }
            other => panic!("{other:?}"),
        }
    }
}

impl UndoBytes for Payloads {
    fn undo_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        Ok(self.get(at))
    }

    fn redo_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        Ok(self.get(at))
    }
}

struct Sink<'p>(&'p Payloads, Vec<DataUndo>);

impl UndoSink for Sink<'_> {
    fn bytes(&mut self, node: NodeId, offset: u64, bytes: Bytes) -> Result<(), JournalError> {
        let length = bytes.len() as u32;
        let at = self.0.add(bytes);
        self.1.push(DataUndo { node, offset, bytes: length, source: UndoSource::Undo { at, skip: 0 } });
        Ok(())
    }

    fn delta(
        &mut self,
        node: NodeId,
        offset: u64,
        differs: Bytes,
        redo: PayloadAt,
        from: u32,
    ) -> Result<(), JournalError> {
        let bytes = differs.len() as u32;
        let source = UndoSource::Delta { at: self.0.add(differs), skip: 0, redo, from };
        self.1.push(DataUndo { node, offset, bytes, source });
        Ok(())
    }

    fn reference(&mut self, data: DataUndo) -> Result<(), JournalError> {
        self.1.push(data);
        Ok(())
    }
}

struct Old<'w>(&'w MemTree, &'w HashMap<NodeId, u64>, &'w Payloads);

impl OldBytes for Old<'_> {
    fn undone(&mut self, at: PayloadAt) -> Result<Bytes, JournalError> {
        Ok(self.2.get(at))
    }

    fn read(&mut self, node: NodeId, offset: u64, length: usize) -> Result<Bytes, JournalError> {
        let file = MemFile(Arc::clone(&self.0.state), self.1[&node]);
        let mut buffer = vec![0; length];
        file.read_at(&mut buffer, offset).unwrap();
        Ok(buffer.into())
    }

    fn next_data(&mut self, node: NodeId, offset: u64) -> Result<Option<u64>, JournalError> {
        let file = MemFile(Arc::clone(&self.0.state), self.1[&node]);
        Ok(file.next_data(offset).unwrap().map(|(start, _)| start))
    }
}

/// A replica.
pub(crate) struct World {
    pub tables: Arc<MemoryTables>,
    pub tree: Arc<MemTree>,
    payloads: Arc<Payloads>,
    state: Mutex<Head>,
}

struct Head {
    lsn: Lsn,
    inodes: HashMap<NodeId, u64>,
    snapshots: BTreeMap<Lsn, Vec<Snapshot>>,
    roots: u16,
    detached: bool,
    bookmarks: BTreeMap<String, Lsn>,
    /// Local changes that go well before one fails.
    fuse: Option<u64>,
}

impl World {
    pub fn new(roots: u16) -> Self {
        let tree = Arc::new(MemTree::new(roots));
        let inodes = (2..2 * u64::from(roots) + 2).map(|n| (NodeId(n), n)).collect();
        let head = Head {
            lsn: Lsn::ZERO,
            inodes,
            snapshots: BTreeMap::new(),
            roots,
            detached: false,
            bookmarks: BTreeMap::new(),
            fuse: None,
        };
        World { tables: Arc::default(), tree, payloads: Arc::default(), state: Mutex::new(head) }
    }

    /// Applies a captured change.
    pub fn capture(&self, root: RootNo, events: Vec<Event>) -> Lsn {
        let lsn = Lsn::captured(self.applied().captured + 1);
        let shown = format!("{events:?}");
        self.apply(lsn, root, Provenance::Derived, events)
            .unwrap_or_else(|error| panic!("{error:?}: {shown}"));
        lsn
    }

    fn apply(
        &self,
        lsn: Lsn,
        root: RootNo,
        provenance: Provenance,
        events: Vec<Event>,
    ) -> Result<(), JournalError> {
        let mut state = self.state.lock();
        let time = Timestamp(lsn.captured as i64 * 1000);
        let capture = Capture { lsn, time, provenance, root, path: Vec::new(), events };
        let places = capture.events.iter().filter_map(|event| match event {
            Event::Write { data: Payload::Inline(bytes), .. } => Some(self.payloads.add(bytes.clone())),
            _ => None,
        });
        let places: Vec<PayloadAt> = places.collect();
        let tables: &dyn Tables = &*self.tables;
        let mut transition = Transition::new(tables);
        let mut sink = Sink(&self.payloads, Vec::new());
        let mut old = Old(&self.tree, &state.inodes, &self.payloads);
        let mut load = |data: &Payload| Ok(self.payloads.written(data));
        let undo = ContentUndo { old: &mut old, load: &mut load, sink: &mut sink };
        let replaced = transition.capture(&capture, &places, Some(undo))?;
        for put in history_puts(lsn, &replaced, &sink.1).into_iter().chain(point_put(&capture)) {
            transition.put(put.0, put.1, put.2);
        }
        let Finished { puts, touched, .. } = transition.finish()?;
        self.tables.commit(puts)?;
        for event in &capture.events {
            self.touch(&mut state.inodes, root, event);
        }
        for (node, mut row) in touched {
            let inode = state.inodes[&node];
            self.tree.with(inode, |object| object.attributes = Some(row.meta.attributes));
            if row.inode == 0 {
                row.inode = inode;
                self.tables.commit(vec![(Space::Nodes, node.to_key().to_vec(), Some(rows::write(&row)))])?;
            }
        }
        state.lsn = lsn;
        let snapshots = (0..state.roots).map(|root| self.tree.snapshot(RootNo(root))).collect();
        state.snapshots.insert(lsn, snapshots);
        Ok(())
    }

    fn touch(&self, inodes: &mut HashMap<NodeId, u64>, root: RootNo, event: &Event) {
        let file = |inodes: &HashMap<NodeId, u64>, node| MemFile(Arc::clone(&self.tree.state), inodes[node]);
        match event {
            Event::Create { node, at, meta, .. } => {
                let inode = self.tree.add(inodes[&at.parent], &at.name, &meta.kind).unwrap();
                self.tree.with(inode, |object| object.xattrs.clone_from(&meta.xattrs));
                inodes.insert(*node, inode);
            }
            Event::Link { node, at, .. } => {
                let _ = self.tree.bind(inodes[&at.parent], &at.name, Some(inodes[node])).unwrap();
            }
            Event::Remove { node, at, .. } => {
                let _ = self.tree.bind(inodes[&at.parent], &at.name, None).unwrap();
                let tables: &dyn Tables = &*self.tables;
                let links = journal::state::links_of(tables, *node).unwrap();
                if links.iter().any(|edge| edge.parent.is_kept_area()) {
                    // A later event of the same capture may have moved it on: then it is bound there already.
                    drop(self.tree.bind(NodeId::kept(root).0, &node.kept_name(), Some(inodes[node])));
                }
            }
            Event::Rename { node, from, to, .. } => {
                let _ = self.tree.bind(inodes[&from.parent], &from.name, None).unwrap();
                // It may have its name in the kept area already.
                if self.tree.entry(inodes[&to.parent], &to.name) != Some(inodes[node]) {
                    let _ = self.tree.bind(inodes[&to.parent], &to.name, Some(inodes[node])).unwrap();
                }
            }
            Event::Write { node, offset, data, .. } => {
                file(inodes, node).write_at(&self.payloads.written(data), *offset).unwrap();
            }
            Event::Punch { node, offset, bytes } => file(inodes, node).punch(*offset, *bytes).unwrap(),
            Event::Resize { node, size } => file(inodes, node).set_len(*size).unwrap(),
            Event::SetXattrs { node, xattrs } => {
                self.tree.with(inodes[node], |object| object.xattrs.clone_from(xattrs));
            }
            Event::SetAttributes { .. } | Event::Mark(_) => {}
        }
    }

    /// Changes a byte of a file under the journal's feet.
    pub fn rot(&self, node: NodeId) {
        let inode = self.state.lock().inodes[&node];
        MemFile(Arc::clone(&self.tree.state), inode).write_at(b"#", 0).unwrap();
    }

    /// The tree as it was after an LSN.
    pub fn snapshot(&self, lsn: Lsn, root: RootNo) -> Snapshot {
        self.state.lock().snapshots[&lsn][usize::from(root.0)].clone()
    }

    /// All LSNs so far.
    pub fn lsns(&self) -> Vec<Lsn> {
        self.state.lock().snapshots.keys().copied().collect()
    }

    pub fn bookmarks(&self) -> BTreeMap<String, Lsn> {
        self.state.lock().bookmarks.clone()
    }

    /// The `calls`-th local change from now, counted from 0, fails.
    pub fn fail_after(&self, calls: Option<u64>) {
        self.state.lock().fuse = calls;
    }

    pub fn view_at(&self, lsn: Lsn) -> View<MemTree> {
        let tables: Arc<dyn Tables> = Arc::<MemoryTables>::clone(&self.tables);
        View::new(lsn, tables, Arc::<Payloads>::clone(&self.payloads), Arc::clone(&self.tree))
    }

    /// The nodes below a root in a view, by path.
    pub fn nodes(&self, view: &View<MemTree>, root: RootNo) -> BTreeMap<Vec<u8>, NodeId> {
        let mut found = BTreeMap::new();
        let mut rest = vec![(Vec::new(), NodeId::root(root))];
        while let Some((path, node)) = rest.pop() {
            let directory = node.as_root_or_kept().is_some()
                || view.meta(node).unwrap().is_some_and(|meta| meta.kind.is_directory());
            if directory {
                for entry in view.list(node) {
                    let (name, below) = entry.unwrap();
                    rest.push((journal::view::join(&path, name.as_bytes()), below));
                }
            }
            found.insert(path, node);
        }
        found
    }
}

impl EventSink for World {
    fn apply_local(
        &self,
        reading: Option<Lsn>,
        groups: &mut dyn Iterator<Item = LocalGroup>,
    ) -> Result<Lsn, JournalError> {
        assert!(reading.is_none_or(|point| point <= self.applied()));
        assert!(self.state.lock().detached, "a local change of a replica that follows the capture");
        for (root, _, events) in groups {
            match &mut self.state.lock().fuse {
                Some(0) => {
                    let source = error(5);
                    return Err(JournalError::Tree { operation: "test", object: String::new(), source });
                }
                Some(left) => *left -= 1,
                None => {}
            }
            let bytes: u64 =
                events.iter().map(|e| if let Event::Write { data, .. } = e { data.len() } else { 0 }).sum();
            assert!(bytes <= 4 << 20, "a capture of {bytes} bytes");
            assert!(!events.is_empty(), "a capture of nothing");
            let lsn = self.applied().successor();
            self.apply(lsn, root, Provenance::Local, events)?;
        }
        Ok(self.applied())
    }
}

/// A view that nobody needs to lease.
pub(crate) struct Leased(View<MemTree>);

impl std::ops::Deref for Leased {
    type Target = View<MemTree>;

    fn deref(&self) -> &View<MemTree> {
        &self.0
    }
}

impl ReplicaControl for World {
    type Tree = MemTree;
    type Leased = Leased;

    fn applied(&self) -> Lsn {
        self.state.lock().lsn
    }

    fn is_detached(&self) -> bool {
        self.state.lock().detached
    }

    fn detach(&self, _: &str) -> Result<(), JournalError> {
        self.state.lock().detached = true;
        Ok(())
    }

    fn attach(&self) -> Result<(), JournalError> {
        self.state.lock().detached = false;
        Ok(())
    }

    fn view(&self, lsn: Lsn) -> Result<Leased, JournalError> {
        Ok(Leased(self.view_at(lsn)))
    }

    fn set_bookmark(&self, name: &str, lsn: Lsn) -> Result<(), JournalError> {
        let mut state = self.state.lock();
        if state.bookmarks.contains_key(name) {
            return Err(JournalError::Exists { what: "bookmark", name: name.to_owned() });
        }
        state.bookmarks.insert(name.to_owned(), lsn);
        Ok(())
    }
}
