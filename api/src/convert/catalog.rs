//! Answers of the catalog as messages.

use super::{lsn, time};
use crate::engine::{CatalogEnd, CatalogEntry, CatalogRebuilt, FileVersion, NotCatalogued, Part, Source};
use prost_types::Timestamp;
use snapshot::catalog::{EntryKind, Modified};
use wire::convert::duration_to_wire;
use wire::v1;

fn modified(modified: Modified) -> Timestamp {
    Timestamp { seconds: modified.seconds, nanos: i32::try_from(modified.nanoseconds).unwrap_or_default() }
}

fn kind(kind: EntryKind) -> v1::EntryKind {
    match kind {
        EntryKind::File => v1::EntryKind::File,
        EntryKind::Directory => v1::EntryKind::Directory,
        EntryKind::Symlink => v1::EntryKind::Symlink,
        EntryKind::Fifo => v1::EntryKind::Fifo,
        EntryKind::Socket => v1::EntryKind::Socket,
        EntryKind::CharDevice => v1::EntryKind::CharDevice,
        EntryKind::BlockDevice => v1::EntryKind::BlockDevice,
        EntryKind::Other => v1::EntryKind::Other,
    }
}

impl From<CatalogEntry> for v1::CatalogEntry {
    fn from(entry: CatalogEntry) -> Self {
        let source = match entry.source {
            Source::Catalog => v1::CatalogSource::Catalog,
            Source::Repository => v1::CatalogSource::Repository,
            Source::Journal => v1::CatalogSource::Journal,
        };
        v1::CatalogEntry {
            path: entry.path.into(),
            kind: entry.row.map_or(v1::EntryKind::Unspecified, |row| kind(row.kind)).into(),
            bytes: entry.row.map_or(0, |row| row.size),
            modified: entry.row.map(|row| modified(row.modified)),
            scenario: entry.scenario,
            master: entry.master,
            sessions: entry.sessions,
            first_session: entry.first_session.unwrap_or_default(),
            last_session: entry.last_session.unwrap_or_default(),
            last_lsn: entry.last_lsn.and_then(lsn),
            source: source.into(),
        }
    }
}

impl From<NotCatalogued> for v1::NotCatalogued {
    fn from(session: NotCatalogued) -> Self {
        v1::NotCatalogued {
            session: session.session,
            repository: session.repository,
            scenario: session.scenario,
            time: time(session.time),
        }
    }
}

impl From<CatalogEnd> for v1::CatalogEnd {
    fn from(end: CatalogEnd) -> Self {
        v1::CatalogEnd { next_page_token: end.next.unwrap_or_default().into(), notes: end.notes }
    }
}

impl From<Part<CatalogEntry>> for v1::CatalogPart {
    fn from(part: Part<CatalogEntry>) -> Self {
        let part = match part {
            Part::Found(entry) => v1::catalog_part::Part::Entry(entry.into()),
            Part::NotCatalogued(session) => v1::catalog_part::Part::NotCatalogued(session.into()),
        };
        v1::CatalogPart { part: Some(part) }
    }
}

impl From<Part<FileVersion>> for v1::VersionPart {
    fn from(part: Part<FileVersion>) -> Self {
        let part = match part {
            Part::Found(version) => v1::version_part::Part::Version(version.into()),
            Part::NotCatalogued(session) => v1::version_part::Part::NotCatalogued(session.into()),
        };
        v1::VersionPart { part: Some(part) }
    }
}

impl From<FileVersion> for v1::FileVersion {
    fn from(version: FileVersion) -> Self {
        let provenance = version.provenance.map_or(v1::Provenance::Unspecified, v1::Provenance::from);
        v1::FileVersion {
            path: version.path.into(),
            lsn: version.lsn.and_then(lsn),
            time: version.time.and_then(time),
            bytes: version.bytes,
            change: version.change.word().to_owned(),
            session: version.session.unwrap_or_default(),
            provenance: provenance.into(),
            scenario: version.scenario,
            master: version.master,
            kind: kind(version.kind).into(),
            modified: Some(modified(version.modified)),
        }
    }
}

impl From<CatalogRebuilt> for v1::CatalogRebuildReport {
    fn from(report: CatalogRebuilt) -> Self {
        v1::CatalogRebuildReport {
            sessions: report.sessions,
            entries: report.entries,
            forgotten: report.forgotten,
            left_out: report.left_out,
            elapsed: Some(duration_to_wire(report.elapsed)),
            failed: report.failed.into_iter().map(v1::Skipped::from).collect(),
        }
    }
}
