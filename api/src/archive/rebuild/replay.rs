//! Redo out of the archive: fetched, checked as a whole, then handed over.
//!
//! Pieces are laid out as segment files and read twice. The first reading changes nothing and checks everything but the
//! bytes of payloads: checksums, the chain over all segments, that captures follow one another without a hole, that each
//! is whole, and where the moment that is wanted ends. Parts that a later part 0 discards are found too. The second
//! hands the events over, checking payloads.

use super::feed::Feeder;
use super::{Moment, RebuildError, Watch};
use journal::disk::OsDisk;
use journal::log::{Part, RecordAt, ShippedSegment, StoredRecord};
use journal::record::RedoRecord;
use journal::{Event, JournalError, Payload, RootNo, Timestamp};
use snapshot::archive::{Archive, Piece, Upto};
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Segments on the disk.
pub(super) struct Redo {
    journal: [u8; 16],
    files: Vec<(u64, PathBuf)>,
    /// Parts that do not count.
    discarded: HashSet<RecordAt>,
    /// The last capture that is wanted.
    pub(super) upto: Upto,
}

impl Redo {
    /// Fetches pieces and checks them. `start` is where the oldest session is.
    pub(super) fn fetch(
        archive: &Archive<'_>,
        journal: [u8; 16],
        pieces: &[Piece],
        (start, moment): (Upto, Moment),
        stage: &Path,
        watch: &dyn Watch,
    ) -> Result<Self, RebuildError> {
        let directory = stage.join("redo");
        let failed = |operation: &'static str| {
            let path = directory.clone();
            move |source| RebuildError::Target { operation, path, source }
        };
        std::fs::create_dir_all(&directory).map_err(failed("create"))?;
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        for piece in pieces {
            if watch.cancelled() {
                return Err(RebuildError::Cancelled);
            }
            let segment = piece.place.segment;
            let path = directory.join(format!("{segment}.seg"));
            if files.last().is_none_or(|(last, _)| *last != segment) {
                files.push((segment, path.clone()));
            }
            let bytes = archive.load_piece(piece)?;
            let file = std::fs::File::options().create(true).append(true).open(&path);
            file.and_then(|mut file| file.write_all(&bytes)).map_err(failed("write"))?;
        }
        let mut redo = Redo { journal, files, discarded: HashSet::new(), upto: start };
        redo.check(moment)?;
        Ok(redo)
    }

    /// Goes through all parts of captures in order.
    fn each(
        &self,
        each: &mut dyn FnMut(&ShippedSegment, &StoredRecord, Part) -> Result<bool, RebuildError>,
    ) -> Result<(), RebuildError> {
        let mut chain = None;
        for (number, path) in &self.files {
            let mut segment = ShippedSegment::open(&OsDisk, path, self.journal, *number, chain)?;
            while let Some(record) = segment.next_record()? {
                let Some(lsn) = record.lsn.filter(|lsn| !lsn.is_local()) else { continue };
                let body = |what| JournalError::Inconsistent { lsn, what };
                let read = RedoRecord::from_stored(&record)
                    .map_err(|_| body("an archived record does not decode"))?;
                let RedoRecord::Part(part) = read else { continue };
                if part.capture.lsn != lsn {
                    return Err(body("an archived record is not of the LSN it says").into());
                }
                if !each(&segment, &record, part)? {
                    return Ok(());
                }
            }
            chain = segment.chain();
        }
        Ok(())
    }

    fn check(&mut self, moment: Moment) -> Result<(), RebuildError> {
        let mut upto = self.upto;
        let mut discarded = HashSet::new();
        let mut open: Vec<RecordAt> = Vec::new();
        let after = upto.lsn;
        self.each(&mut |_, record, part| {
            let lsn = part.capture.lsn.captured;
            if lsn <= after {
                return Ok(true);
            }
            if moment.is_behind(lsn, part.capture.time) {
                return Ok(false);
            }
            if part.number == 0 {
                discarded.extend(open.drain(..));
            }
            let follows = lsn == upto.lsn + 1 && part.number as usize == open.len();
            if !follows || part.capture.time.0 < upto.time {
                let (lsn, what) = (part.capture.lsn, "an archived capture does not follow the one before");
                return Err(JournalError::Inconsistent { lsn, what }.into());
            }
            open.push(record.at);
            if part.last {
                open.clear();
                upto = Upto { lsn, time: part.capture.time.0 };
            }
            Ok(true)
        })?;
        discarded.extend(open);
        (self.upto, self.discarded) = (upto, discarded);
        Ok(())
    }

    /// Hands over what lies behind each root's session. How many events.
    pub(super) fn replay(
        &self,
        bases: &BTreeMap<RootNo, u64>,
        feeder: &mut Feeder,
        watch: &dyn Watch,
    ) -> Result<u64, RebuildError> {
        let mut events = 0;
        self.each(&mut |segment, record, part| {
            let (lsn, root) = (part.capture.lsn.captured, part.capture.root);
            if lsn > self.upto.lsn {
                return Ok(false);
            }
            let wanted = bases.get(&root).is_some_and(|base| lsn > *base);
            if !wanted || self.discarded.contains(&record.at) {
                return Ok(true);
            }
            if watch.cancelled() {
                return Err(RebuildError::Cancelled);
            }
            for event in part.capture.events {
                let event = match event {
                    Event::Mark(_) => continue,
                    Event::Write { node, offset, data: Payload::Stored(at), before } => {
                        Event::Write { node, offset, data: Payload::Inline(segment.payload(at)?), before }
                    }
                    other => other,
                };
                events += 1;
                feeder.push(root, event)?;
            }
            Ok(true)
        })?;
        Ok(events)
    }
}

impl Moment {
    /// Whether a capture is not in it any more.
    fn is_behind(self, lsn: u64, time: Timestamp) -> bool {
        match self {
            Moment::Time(wanted) => time.0 > wanted,
            Moment::Lsn(wanted) => lsn > wanted,
        }
    }
}
