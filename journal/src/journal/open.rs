//! Opening: from what is on disk to a journal whose tables are right.
//!
//! The tables say how far they got (their head row). From there, undo rows come from the undo stream and present rows
//! from taking the captures of the redo stream through the same [`Transition`] that apply uses. Without usable tables
//! the same is done from the beginning (or from the newest checkpoint): a rebuild is a long catch-up.
//!
//! `published` after opening is W, the last LSN whose undo is durable and complete: apply published nothing beyond it
//! and touched nothing beyond it. The tree is somewhere between the durable cursor and W; whoever owns the tree
//! reconciles it ([`Opened::window`]) before anything else is applied.
//!
//! Local captures behind W are given up. A rewind journals what it is going to do, and dies before undo of it is
//! durable: then the tree was not touched for it, nobody was told that it happened, and the plan it was part of died
//! with it; whoever goes on plans anew from where the tree stands. So it never happened, which a control record says
//! before anything else may be applied ([`Ordered`] leaves such captures out for ever). Those up to W stay: the tree may
//! hold them, and recovery sees to it that it does. The alternative, applying them now, would change the tree at a start
//! that nobody asked for, and would leave it half way all the same where the rewind had more to journal. Their LSNs are
//! not given again ([`Journal::next_local`]). Captured changes behind W are not touched by this: they did happen.

use super::order::Assembler;
use super::{
    CONTROLS_KEY, Clock, HEAD_KEY, Heads, Journal, Ordered, PROOFS_KEY, TablesHead, counts_in_parts,
    redo_record, remembered, undo_record,
};
use crate::checkpoint;
use crate::controls::Controls;
use crate::disk::Disk;
use crate::error::JournalError;
use crate::id::NodeId;
use crate::log::{GroupCommit, GroupOptions, LogOptions, LogSet, RecordAt, Stream};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::proofs::Proofs;
use crate::record::{Control, RedoRecord, UndoPart, UndoRecord};
use crate::state::{Replaced, State, Transition, history_puts, point_put, rows};
use crate::tables::{Put, Space, Tables};
use parking_lot::{Condvar, Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;

/// Gives tables: those that are there, or (`fresh`) empty ones in their place.
pub trait TablesFactory {
    /// Opens the tables; `fresh` deletes what is there first.
    ///
    /// # Errors
    /// As the tables; an error for tables that are not fresh leads to a call for fresh ones.
    fn tables(&self, fresh: bool) -> Result<Arc<dyn Tables>, JournalError>;
}

/// An open journal and what its tree must be reconciled with.
pub struct Opened {
    /// The journal.
    pub journal: Arc<Journal>,
    /// The durable cursor: the tree surely holds everything up to here.
    pub cursor: Lsn,
    /// W: the tree may hold changes up to here, and the tables are those after it.
    pub published: Lsn,
    /// Whether the tables were rebuilt from the streams.
    pub rebuilt: bool,
}

impl Opened {
    /// Captures the tree may hold in part: those behind the cursor up to W.
    #[must_use]
    pub fn window(&self) -> Ordered {
        self.journal.captures(self.journal.cursor_redo(), self.cursor, self.published)
    }
}

/// Rows committed at a time while catching up.
const BATCH_ROWS: usize = 20_000;

impl Journal {
    /// Opens the journal in `directory`, creating it if there is none.
    ///
    /// # Errors
    /// `InUse`, `Damaged`, `NewerVersion`, `File`, and errors of the tables.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: LogOptions,
        factory: &dyn TablesFactory,
        clock: Arc<dyn Clock>,
    ) -> Result<Opened, JournalError> {
        let mut kept = None;
        let set = LogSet::open_held_to(disk, directory, options, |journal| {
            kept = factory.tables(false).ok();
            remembered::held_to(options, journal, kept.as_deref())
        })?;
        let redo = Arc::clone(set.log(Stream::Redo));
        let undo = Arc::clone(set.log(Stream::Undo));
        let (tables, head) = usable_tables(kept, factory, &set)?;
        let rebuilt = head.is_none();
        // The newest checkpoint is the last one named; without any the streams begin at the beginning.
        let loaded = match set.files().last().filter(|_| rebuilt) {
            Some(entry) => Some(checkpoint::load(&**set.disk(), directory, entry, &*tables)?),
            None => None,
        };
        let (head, known) = match loaded {
            Some(loaded) => (Some(loaded.head), Some((loaded.controls, loaded.proofs))),
            None => (head, None),
        };
        let head = head.unwrap_or_else(|| nothing_yet(&set));
        let mut catch_up = CatchUp::new(directory, &tables, &head);
        catch_up.fresh = rebuilt;
        match known {
            Some((controls, proofs)) => (catch_up.controls, catch_up.proofs) = (controls, proofs),
            None if !rebuilt => catch_up.saved_controls()?,
            None => {}
        }
        // After a rebuild history comes from all that is kept, not only from what is behind the checkpoint.
        let controls_from = catch_up.controls.upto().max(redo.first());
        catch_up.redo(
            redo.read(if rebuilt { redo.first() } else { head.redo.min(controls_from) }),
            controls_from,
        )?;
        catch_up.undo(undo.read(if rebuilt { undo.first() } else { head.undo }))?;
        catch_up.captures(&redo, &head)?;
        catch_up.inodes()?;
        let CatchUp { controls, proofs, journaled, parts, time, cursor, cursor_redo, published, .. } =
            catch_up;
        let heads = Heads { journaled, parts, time, applied: cursor, cursor, cursor_redo };
        let group = GroupCommit::start(Arc::clone(&redo), GroupOptions::default())?;
        let journal = Arc::new(Journal {
            directory: directory.to_path_buf(),
            set,
            redo,
            undo,
            group,
            tables,
            clock,
            controls: Arc::new(RwLock::new(controls)),
            proofs: Arc::new(RwLock::new(proofs)),
            heads: Mutex::new(heads),
            moved: Condvar::new(),
            motion: Arc::default(),
            undo_turn: Mutex::new(()),
            leases: Mutex::default(),
            pinning: Mutex::default(),
            thinning: Mutex::default(),
            summarizer: Mutex::default(),
        });
        journal.drop_unapplied_locals(published)?;
        Ok(Opened { journal, cursor, published, rebuilt })
    }

    /// Gives up local captures that were journaled and of which nothing else is durable.
    fn drop_unapplied_locals(&self, published: Lsn) -> Result<(), JournalError> {
        let minted = self.with_controls(Controls::minted);
        if minted <= published || self.with_controls(|controls| controls.is_dropped(minted)) {
            return Ok(());
        }
        let Lsn { captured, local: upto } = minted;
        let after = if published.captured == captured { published.local } else { 0 };
        tracing::warn!(
            captured,
            after,
            upto,
            "changes of an interrupted rewind that were not begun are given up"
        );
        self.control(Control::LocalsDropped { captured, after, upto })
    }
}

/// The head of tables that hold nothing: everything is to be read.
fn nothing_yet(set: &LogSet) -> TablesHead {
    let (redo, undo) = (set.log(Stream::Redo).first(), set.log(Stream::Undo).first());
    TablesHead {
        version: rows::TABLES_VERSION,
        journal: set.journal_id(),
        published: (0, 0),
        redo,
        undo,
        cursor: (0, 0),
        cursor_redo: redo,
    }
}

/// Tables with a head row that fits this journal, or fresh ones.
fn usable_tables(
    kept: Option<Arc<dyn Tables>>,
    factory: &dyn TablesFactory,
    set: &LogSet,
) -> Result<(Arc<dyn Tables>, Option<TablesHead>), JournalError> {
    if let Some(tables) = kept
        && let Ok(Some(value)) = tables.get(Space::Heads, HEAD_KEY)
        && let Ok(head) = rows::read::<TablesHead>(Space::Heads, &value)
    {
        // Behind the streams: another journal's tables. In front of them: retention went on without these tables.
        let within = |stream: Stream, at: RecordAt| {
            let log = set.log(stream);
            at.segment >= log.first().segment && at <= log.end()
        };
        let in_streams = within(Stream::Undo, head.undo) && within(Stream::Redo, head.redo);
        if head.version == rows::TABLES_VERSION && head.journal == set.journal_id() && in_streams {
            return Ok((tables, Some(head)));
        }
    }
    Ok((factory.tables(true)?, None))
}

struct CatchUp<'a> {
    directory: &'a Path,
    tables: &'a Arc<dyn Tables>,
    controls: Controls,
    proofs: Proofs,
    journaled: Lsn,
    parts: u32,
    time: Timestamp,
    cursor: Lsn,
    cursor_redo: RecordAt,
    /// LSN the tables had when opened.
    had: Lsn,
    published: Lsn,
    inodes: Vec<(NodeId, u64)>,
    /// The tables were empty, or come from a checkpoint: history is taken from all that is kept of the streams.
    fresh: bool,
}

impl<'a> CatchUp<'a> {
    fn new(directory: &'a Path, tables: &'a Arc<dyn Tables>, head: &TablesHead) -> Self {
        let had = Lsn { captured: head.published.0, local: head.published.1 };
        CatchUp {
            directory,
            tables,
            controls: Controls::default(),
            proofs: Proofs::default(),
            journaled: Lsn::captured(had.captured),
            parts: 0,
            time: Timestamp(0),
            cursor: Lsn { captured: head.cursor.0, local: head.cursor.1 },
            cursor_redo: head.cursor_redo,
            had,
            published: had,
            inodes: Vec::new(),
            fresh: false,
        }
    }

    /// Rows of history the tables lack, and the newest cursor.
    fn undo(&mut self, reader: crate::log::LogReader) -> Result<(), JournalError> {
        let mut puts: Vec<Put> = Vec::new();
        let mut open: Vec<UndoPart> = Vec::new();
        for record in reader {
            let record = record?;
            match undo_record(self.directory, &record)? {
                UndoRecord::Applied(applied) => {
                    self.inodes.extend_from_slice(&applied.inodes);
                    if !applied.more && applied.lsn() >= self.cursor {
                        self.cursor = applied.lsn();
                        self.cursor_redo = applied.redo;
                    }
                }
                UndoRecord::Undo(part) => {
                    // An unfinished capture before this one was never published nor touched; neither was one whose
                    // undo was written again after a failure.
                    if open.first().is_some_and(|first| first.lsn != part.lsn) {
                        open.clear();
                    }
                    let (last, lsn) = (part.last, part.lsn);
                    open.push(part);
                    if last {
                        let wanted = lsn > self.had || (self.fresh && lsn > self.controls.horizon());
                        if wanted {
                            puts.extend(parts_puts(lsn, std::mem::take(&mut open)));
                        }
                        self.published = self.published.max(lsn);
                        open.clear();
                    }
                }
            }
            if puts.len() > BATCH_ROWS {
                self.tables.commit(std::mem::take(&mut puts))?;
            }
        }
        self.tables.commit(puts)
    }

    /// The controls and proofs saved beside the tables.
    fn saved_controls(&mut self) -> Result<(), JournalError> {
        if let Some(row) = self.tables.get(Space::Heads, CONTROLS_KEY)? {
            self.controls = rows::read(Space::Heads, &row)?;
        }
        if let Some(row) = self.tables.get(Space::Heads, PROOFS_KEY)? {
            self.proofs = rows::read(Space::Heads, &row)?;
        }
        Ok(())
    }

    /// Controls, the last journaled LSN, and points in front of what the tables hold. `from` is where the controls
    /// at hand have to be brought up to date from.
    fn redo(&mut self, reader: crate::log::LogReader, from: RecordAt) -> Result<(), JournalError> {
        // Local captures come between the parts of captured ones, so each kind is put together by itself.
        let (mut captured, mut local) = (Assembler::default(), Assembler::default());
        let mut puts = Vec::new();
        for record in reader {
            let record = record?;
            match redo_record(self.directory, &record)? {
                RedoRecord::Control(control) if record.at >= from => {
                    self.controls.control(&control, record.at);
                    self.proofs.control(&control);
                }
                RedoRecord::Control(_) => {}
                RedoRecord::Part(part) => {
                    let is_local = part.capture.lsn.is_local();
                    if !is_local {
                        if record.at >= from {
                            self.controls.heard();
                        }
                        self.parts = if !part.last && counts_in_parts(&part) { part.number + 1 } else { 0 };
                    }
                    let assembler = if is_local { &mut local } else { &mut captured };
                    let Some(placed) = assembler.part(part, record.at, Vec::new()) else { continue };
                    let capture = &placed.capture;
                    if record.at >= from {
                        self.controls.capture(capture, record.at);
                    }
                    if !capture.lsn.is_local() {
                        self.journaled = self.journaled.max(capture.lsn);
                        self.time = self.time.max(capture.time);
                    }
                    // What was given up is known: it was, before anything behind it was taken.
                    let kept =
                        capture.lsn >= self.controls.horizon() && !self.controls.is_dropped(capture.lsn);
                    if self.fresh && capture.lsn <= self.had && kept {
                        puts.extend(point_put(capture));
                    }
                }
            }
            if puts.len() > BATCH_ROWS {
                self.tables.commit(std::mem::take(&mut puts))?;
            }
        }
        self.tables.commit(puts)
    }

    /// Present rows the tables lack. Every commit carries the head row that says how far they are, so that a crash in
    /// between continues here and takes no capture twice.
    fn captures(&mut self, redo: &Arc<crate::log::Log>, head: &TablesHead) -> Result<(), JournalError> {
        let tables = Arc::clone(self.tables);
        let head_row = |lsn: Lsn| {
            let published = (lsn.captured, lsn.local);
            let cursor = (self.cursor.captured, self.cursor.local);
            let head = TablesHead { published, cursor, cursor_redo: self.cursor_redo, ..head.clone() };
            (Space::Heads, HEAD_KEY.to_vec(), Some(rows::write(&head)))
        };
        // Payloads that were never journaled are in the tree up to the cursor, or known to be lost.
        let begin = || Transition::new(&*tables).with_external_known(self.cursor, &self.controls);
        let mut transition = begin();
        let mut count = 0;
        let mut lsn = self.had;
        for placed in Ordered::new(redo, head.redo, self.had, self.published, self.controls.dropped()) {
            let placed = placed?;
            transition.capture(&placed.capture, &placed.places, None)?;
            if let Some((space, key, value)) = point_put(&placed.capture) {
                transition.put(space, key, value);
            }
            count += 1 + placed.capture.events.len();
            lsn = placed.capture.lsn;
            if count > BATCH_ROWS {
                let mut puts = std::mem::replace(&mut transition, begin()).finish()?.puts;
                puts.push(head_row(lsn));
                tables.commit(puts)?;
                count = 0;
            }
        }
        remembered::all_there(self.directory, redo.end(), lsn, self.published)?;
        let mut puts = transition.finish()?.puts;
        puts.push(head_row(lsn));
        tables.commit(puts)
    }

    /// Replica inodes recorded by cursors.
    fn inodes(&mut self) -> Result<(), JournalError> {
        for some in std::mem::take(&mut self.inodes).chunks(BATCH_ROWS) {
            let mut puts = Vec::new();
            for (node, inode) in some {
                if let Some(mut row) = State::node(&**self.tables, *node)? {
                    row.inode = *inode;
                    puts.push((Space::Nodes, node.to_key().to_vec(), Some(rows::write(&row))));
                }
            }
            self.tables.commit(puts)?;
        }
        Ok(())
    }
}

fn parts_puts(lsn: Lsn, parts: Vec<UndoPart>) -> Vec<Put> {
    let mut replaced = Replaced::default();
    let mut data = Vec::new();
    for part in parts {
        replaced.names.extend(part.names);
        replaced.nodes.extend(part.nodes);
        data.extend(part.data);
    }
    history_puts(lsn, &replaced, &data)
}
