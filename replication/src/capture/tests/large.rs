//! Files that do not go into the model.

use super::Bench;
use crate::capture::{Agent, CaptureSink, Draft, Index, SinkError, Start};
use journal::{Event, Lsn, Payload};
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Keeps events only: a file of this size does not go into the model.
struct Recorder(Arc<parking_lot::Mutex<Vec<Event>>>);

impl CaptureSink for Recorder {
    fn emit(&mut self, draft: Draft) -> Result<Lsn, SinkError> {
        self.0.lock().extend(draft.events);
        Ok(Lsn::captured(1))
    }
}

#[test]
fn sparse_file_of_more_than_four_gibibytes() {
    const LENGTH: u64 = (5 << 30) + 12_345;
    let mut bench = Bench::prepare();
    let file = fs::File::create(bench.path("f")).unwrap();
    file.set_len(LENGTH).unwrap();
    file.write_all_at(b"end", LENGTH - 3).unwrap();
    let events = Arc::default();
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    let sink = Box::new(Recorder(Arc::clone(&events)));
    bench.agent = Some(Agent::spawn(bench.config.clone(), index, sink, Start::First).unwrap());
    bench.barrier();
    let about_bytes = |events: &[Event]| -> Vec<(u64, u64)> {
        let ranges = events.iter().filter_map(|event| match event {
            Event::Resize { size, .. } => Some((*size, 0)),
            Event::Write { offset, data: Payload::Inline(data), .. } => Some((*offset, data.len() as u64)),
            _ => None,
        });
        ranges.collect()
    };
    let block = 65_536;
    let last = LENGTH / block * block;
    assert_eq!(about_bytes(&std::mem::take(&mut *events.lock())), [(LENGTH, 0), (last, LENGTH - last)]);
    file.write_all_at(b"middle", 3 << 30).unwrap();
    bench.barrier();
    assert_eq!(about_bytes(&std::mem::take(&mut *events.lock())), [(3 << 30, block)]);
}
