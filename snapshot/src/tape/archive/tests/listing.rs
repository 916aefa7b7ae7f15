//! A repository of trees alone: the same trees and ids as one that holds everything, under the ids of the labels.

use super::repository::{archive, locked, stored};
use super::scratch;
use crate::repository::testing::{Random, fresh};
use crate::repository::{BlobKind, RepositoryErrorKind, Step};
use crate::session::NoMonitor;
use crate::tape::archive::{IntoOptions, Keep, into_repository, take};
use std::sync::Arc;

#[test]
fn trees_alone_say_what_a_session_holds_without_holding_it() {
    let random = Random::from_clock("trees_alone_say_what_a_session_holds");
    let stored = stored(random, false);
    let wrote = archive(&stored);
    let (_, repository) = fresh();
    let repository = Arc::new(Arc::try_unwrap(repository).unwrap().by_original());
    let options = IntoOptions { keep: Keep::Trees, ..IntoOptions::default() };
    let lock = locked(&repository);
    // What is only taken is no session.
    let held = take(wrote.out.as_slice(), &options, &repository, &scratch(), &NoMonitor).unwrap();
    assert_eq!(repository.list_sessions().unwrap(), []);
    let label = held.taken().id;
    let taken = held.record(&lock).unwrap();
    assert_eq!(taken.tree, stored.record.tree, "contents have the ids that they have elsewhere");
    let (mut files, mut blobs) = (0, 0);
    let walked = repository.walk(&taken.tree, &mut |_, node| {
        files += 1;
        let index = repository.index().unwrap();
        blobs += node.content.iter().filter(|id| index.contains(BlobKind::Data, id)).count();
        Step::Into
    });
    walked.unwrap();
    assert!(files > 10 && blobs == 0, "{files} {blobs}");

    // The session is what its label says, however often it is recorded.
    assert_eq!((taken.id, taken.verdict.label.unwrap().id()), (label, label));
    let again = into_repository(wrote.out.as_slice(), &options, (&repository, &lock), &scratch(), &NoMonitor);
    assert_eq!(again.unwrap().id, label);
    assert_eq!(repository.list_sessions().unwrap(), [label]);
    assert_eq!(repository.resolve_session(&label.to_string()[..10]).unwrap(), label);
    assert_eq!(repository.load_session(&label).unwrap().tree, taken.tree);
    repository.remove_session(&label).unwrap();
    assert_eq!(repository.list_sessions().unwrap(), []);
    let gone = repository.load_session(&label).unwrap_err();
    assert_eq!(gone.kind(), RepositoryErrorKind::NotFound);
}
