//! A rebuild of tables that ends in the middle is begun anew: whatever was in the tables by then, every point reads as
//! before.

use journal::journal::{Journal, TablesFactory};
use journal::tables::Frozen;
use journal::tables::MemoryTables;
use journal::{JournalError, Lsn, Put, Row, Space, Tables};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::lab::{Lab, StillClock, small_segments};
use tests::model::{Generator, Options};

/// Tables that take so many batches and no more, as if the process ended there.
struct Ending {
    tables: Arc<MemoryTables>,
    left: AtomicUsize,
}

impl Tables for Ending {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.tables.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Space,
        from: &[u8],
        to: &[u8],
    ) -> Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 'a> {
        self.tables.range(space, from, to)
    }

    fn commit(&self, batch: Vec<Put>) -> Result<(), JournalError> {
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(JournalError::NotFound { what: "process", name: "it ended here".to_owned() });
        }
        self.tables.commit(batch)
    }

    fn frozen(&self) -> Box<dyn Frozen> {
        self.tables.frozen()
    }

    fn persist(&self) -> Result<(), JournalError> {
        self.tables.persist()
    }

    fn settle(&self) -> Result<bool, JournalError> {
        self.tables.settle()
    }
}

struct Factory(Arc<Ending>);

impl TablesFactory for Factory {
    fn tables(&self, _: bool) -> Result<Arc<dyn Tables>, JournalError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Tables>)
    }
}

#[test]
fn a_rebuild_that_ends_in_the_middle_is_begun_anew() {
    let seed = 0x4eb1;
    eprintln!("seed {seed:#x}");
    let mut generator = Generator::new(seed, Options::default());
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    for _ in 0..40 {
        let batch: Vec<_> = (0..20).map(|_| generator.next()).collect();
        let placed = lab.journal_them(&batch).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
        lab.move_cursor().expect("the cursor moves");
    }
    // There is a checkpoint from here on.
    lab.retain(1 << 20).expect("retention runs");
    let (oldest, newest) = lab.journal.window();
    assert!(oldest > Lsn::captured(1) && lab.journal.set().files().len() == 1, "{oldest}");
    let points: Vec<Lsn> = (oldest.captured..=newest.captured).step_by(7).map(Lsn::captured).collect();
    let before: Vec<_> = points.iter().map(|point| lab.canonical(*point)).collect();
    let (disk, mut tree, _) = lab.stop();
    let mut ends = 0;
    for commits in 0.. {
        let tables = Arc::<MemoryTables>::default();
        let ending = Ending { tables: Arc::clone(&tables), left: AtomicUsize::new(commits) };
        let shared = Arc::new(disk.clone());
        let factory = Factory(Arc::new(ending));
        let opened = Journal::open(shared, Path::new("/j"), small_segments(), &factory, Arc::new(StillClock));
        let whole = opened.is_ok();
        drop(opened);
        let lab = Lab::open(disk.clone(), tree, tables).expect("the next start opens it");
        for (point, before) in points.iter().zip(&before) {
            assert!(lab.canonical(*point) == *before, "point {point} after {commits} batches");
        }
        tree = lab.stop().1;
        if whole {
            break;
        }
        ends += 1;
    }
    assert!(ends > 5, "the rebuild was cut {ends} times only");
}
