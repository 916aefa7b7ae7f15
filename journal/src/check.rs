//! Comparing the tables with the segments they are a projection of.
//!
//! Checksums say that segments are what was written. They say nothing of the tables, from which every view is read: a
//! row that a bug or a bad disk lost there shows a wrong past although each segment is sound. So all rows are compared
//! with what the segments say: history row by row with the undo stream, points with the redo stream, and the present
//! with checkpoint and redo replayed into scratch tables.
//!
//! Works beside apply: it reads the tables as they were at one moment, whose head row says which LSN that was, and a
//! lease on the oldest point keeps retention from dropping segments meanwhile. What retention has taken or may take at
//! any moment (history up to the horizon, kept nodes that no promised point shows) is not compared, and neither is what
//! the segments do not hold at every moment: inodes of the replica, and how many bytes of a file are known, which
//! follow the durable cursor.
//!
//! Both directions are covered without holding either side in memory: each row that the segments ask for is looked up,
//! and the rows of each table are counted. If all that are asked for are there and there are as many, there are no
//! others. Blocks of points are made of points at any time and of any size: what counts is that none denies a point.
//! Nothing is repaired here: differing tables are thrown away and rebuilt (`journal rebuild`).

mod history;
mod present;

use crate::error::JournalError;
use crate::id::Edge;
use crate::journal::{HEAD_KEY, Journal, TablesHead};
use crate::lsn::Lsn;
use crate::state::rows;
use crate::tables::{Frozen, Space, Tables};
use std::fmt::Write;
use std::sync::Arc;

/// More differing rows than this are counted, not listed.
const DIFFERENCES_MAX: usize = 200;
/// Rows between two reports of progress.
const STRIDE: u64 = 4096;
/// Times that reading is begun again because retention replaced the checkpoint meanwhile.
const ATTEMPTS: u32 = 3;

/// A row that is not what the segments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDifference {
    /// The table.
    pub table: &'static str,
    /// The key, for people: names and numbers of it, or its bytes in hexadecimal.
    pub key: String,
    /// What is wrong.
    pub what: &'static str,
}

/// What comparing tables with segments found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablesReport {
    /// The LSN at which both were compared.
    pub lsn: Lsn,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ; more than are listed if there are many.
    pub differing: u64,
    /// Some of them.
    pub differences: Vec<RowDifference>,
}

impl TablesReport {
    /// Whether the tables are what the segments say.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.differing == 0
    }

    fn differs(&mut self, table: Space, key: String, what: &'static str) {
        self.differing += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(RowDifference { table: table.name(), key, what });
        }
    }
}

/// Told now and then how many rows were compared; `false` ends it with what was found so far.
pub type GoOn<'a> = &'a mut dyn FnMut(u64) -> bool;

/// A comparison under way.
struct Check<'a> {
    journal: &'a Journal,
    frozen: &'a dyn Frozen,
    /// Nothing at or before this LSN is promised.
    horizon: Lsn,
    /// The tables are those after this LSN.
    published: Lsn,
    report: TablesReport,
    go_on: GoOn<'a>,
    stopped: bool,
}

impl Check<'_> {
    /// Counts a row. False: somebody asked for the end.
    fn step(&mut self) -> bool {
        self.report.rows += 1;
        if self.report.rows.is_multiple_of(STRIDE) && !self.stopped {
            self.stopped = !(self.go_on)(self.report.rows);
        }
        !self.stopped
    }

    /// Looks whether this row is in the tables with just this value; whether there is one at all.
    fn expect(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<bool, JournalError> {
        let found = self.frozen.get(space, key)?;
        match &found {
            Some(found) if found == value => {}
            Some(_) => self.report.differs(space, key_text(space, key), "it is not what the segments say"),
            None => self.report.differs(space, key_text(space, key), "it is missing"),
        }
        Ok(found.is_some())
    }
}

fn edge_text(edge: &Edge) -> String {
    format!("{}/{}", edge.parent, String::from_utf8_lossy(edge.name.as_bytes()))
}

/// The key of a row, for people.
fn key_text(space: Space, key: &[u8]) -> String {
    let parsed = match space {
        Space::Names => rows::edge_of_name_key(key).ok().map(|edge| edge_text(&edge)),
        Space::NameUndo => {
            rows::parse_name_undo_key(key).ok().map(|(edge, lsn)| format!("{} at {lsn}", edge_text(&edge)))
        }
        Space::DataUndo => rows::parse_data_undo_key(key)
            .ok()
            .map(|(node, chunk, lsn, within)| format!("{node} chunk {chunk} offset {within} at {lsn}")),
        Space::Points => Lsn::from_key(key).map(|lsn| lsn.to_string()),
        Space::PointBlocks => key.get(1..).and_then(Lsn::from_key).map(|lsn| format!("from {lsn}")),
        _ => None,
    };
    parsed.unwrap_or_else(|| {
        key.iter().take(64).fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    })
}

impl Journal {
    /// Compares the tables with the segments. `scratch` are empty tables, which are filled and may then be thrown
    /// away; they become as large as the names and nodes of the present. `None`: `go_on` said no.
    ///
    /// # Errors
    /// As log and tables: `Damaged` where the segments themselves cannot be read.
    pub fn check_tables(
        self: &Arc<Self>,
        scratch: &dyn Fn() -> Result<Arc<dyn Tables>, JournalError>,
        go_on: GoOn<'_>,
    ) -> Result<Option<TablesReport>, JournalError> {
        let mut attempt = 1;
        loop {
            let before = (self.set().files(), self.redo().first());
            let tables = scratch()?;
            match self.check_once(&*tables, go_on) {
                // Retention gave up the old checkpoint, or redo only it needed, while they were read.
                Err(_) if attempt < ATTEMPTS && before != (self.set().files(), self.redo().first()) => {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn check_once(
        self: &Arc<Self>,
        scratch: &dyn Tables,
        go_on: GoOn<'_>,
    ) -> Result<Option<TablesReport>, JournalError> {
        let oldest = self.window().0;
        // Before there is a point retention drops nothing.
        let _lease = match self.with_controls(|controls| controls.first_point != 0) {
            true => Some(self.lease(oldest)?),
            false => None,
        };
        // Taken first: a checkpoint that is written later may be newer than the tables as they are looked at.
        let checkpoint = self.set().files().pop();
        let frozen = self.tables().frozen();
        let head = frozen.get(Space::Heads, HEAD_KEY)?;
        let head = head.and_then(|head| rows::read::<TablesHead>(Space::Heads, &head).ok());
        let Some(head) =
            head.filter(|head| head.version == rows::TABLES_VERSION && head.journal == self.id())
        else {
            let mut report = TablesReport::default();
            report.differs(Space::Heads, "head".to_owned(), "it is missing, or that of other tables");
            return Ok(Some(report));
        };
        let published = Lsn { captured: head.published.0, local: head.published.1 };
        let mut check = Check {
            journal: self,
            frozen: &*frozen,
            horizon: oldest,
            published,
            report: TablesReport { lsn: published, ..TablesReport::default() },
            go_on,
            stopped: false,
        };
        check.history()?;
        check.thinned()?;
        check.captures(scratch, checkpoint.as_ref())?;
        check.blocks()?;
        check.present(scratch)?;
        check.links()?;
        Ok((!check.stopped).then_some(check.report))
    }
}
