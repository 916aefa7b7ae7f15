//! Is an archive of a point what a session of that point is?
//!
//! Random histories, archives of random points straight from the view and by way of a repository. Read into a new
//! repository, both must give the very tree, by its hash, that a session made of the view has; and GNU tar lists them without a word.

use crate::history::seeds;
use crate::sessions::{repository_in, session};
use journal::{Lsn, RootNo};
use snapshot::repository::Id;
use snapshot::session::{Entity, NoMonitor};
use snapshot::store::MemoryStore;
use snapshot::tape::archive::{
    IntoOptions, LabelFields, SessionLabel, from_repository, from_view, into_repository,
};
use std::process::Command;
use std::sync::Arc;
use tests::lab::Lab;
use tests::model::{Generator, Options};
use tests::rng::Rng;

/// The tree of an archive, read into a new repository.
fn tree_of(archive: &[u8], context: &str) -> Id {
    let (repository, lock) = repository_in(Arc::new(MemoryStore::new()));
    let (options, scratch) = (IntoOptions::default(), std::env::temp_dir());
    let taken = into_repository(archive, &options, (&repository, &lock), &scratch, &NoMonitor);
    let taken = taken.unwrap_or_else(|error| panic!("{context}: {error:?}"));
    assert_eq!(taken.missed, [], "{context}");
    taken.tree
}

fn listed_by_tar(archive: &[u8], context: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive).unwrap();
    let output = Command::new("tar").arg("-tf").arg(file.path()).env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Names that are no text are marked by a word that it does not know.
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("hdrcharset")).collect();
    assert!(output.status.success() && said.is_empty(), "{context}: {said:?}");
}

fn one_history(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x7a9e);
    let file_bytes_max = if seed.is_multiple_of(3) { 3_000_000 } else { 30_000 };
    let mut generator = Generator::new(seed, Options { file_bytes_max, ..Options::default() });
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let entity = Entity { root: RootNo(0), path: b"/srv/docs".to_vec(), device: 77 };
    for _ in 0..4 {
        let batch: Vec<_> = (0..rng.below(30) + 1).map(|_| generator.next()).collect();
        let placed = lab.journal_them(&batch).unwrap();
        lab.apply(&placed).unwrap();
        let newest = lab.journal.applied();
        let at = Lsn::captured(1 + rng.below(newest.captured));
        let context = format!("seed {seed}, archive of {at}");
        let to = repository_in(Arc::new(MemoryStore::new()));
        let whole = session(&lab, at, None, &to);
        let scratch = std::env::temp_dir();
        let label = SessionLabel::new(LabelFields::now()).unwrap();
        let direct = from_view(&lab.view(at), (&label, &entity), Vec::new(), &scratch, &NoMonitor).unwrap();
        assert_eq!(direct.listed, [], "{context}");
        assert_eq!(direct.totals.files, whole.totals.files, "{context}");
        assert_eq!(tree_of(&direct.out, &context), whole.tree, "{context}: from the view");
        listed_by_tar(&direct.out, &context);
        let record = to.0.load_session(&whole.id).unwrap();
        let label = SessionLabel::new(LabelFields::of_record(&whole.id, &record)).unwrap();
        let copied = from_repository(&to.0, (&label, &whole.tree), Vec::new(), &scratch, &NoMonitor).unwrap();
        assert_eq!(copied.listed, [], "{context}");
        assert_eq!(tree_of(&copied.out, &context), whole.tree, "{context}: by way of a repository");
    }
}

#[test]
fn an_archive_is_what_the_session_is() {
    for seed in seeds(12) {
        one_history(seed);
    }
}
