//! Repositories, sessions and backups as messages.

use super::{lsn, path_to_wire, time};
use crate::engine::{BackupReport, Repository, Session};
use crate::records::{SessionOnTape, TapePart};
use wire::convert::duration_to_wire;
use wire::v1;

impl From<Repository> for v1::Repository {
    fn from(repository: Repository) -> Self {
        v1::Repository {
            name: repository.name,
            url: repository.url,
            id: repository.id,
            added: time(repository.added),
            created: repository.created,
            conditional_put: repository.conditional_put.to_owned(),
            compression: repository.compression.to_owned(),
            encryption: repository.encryption.to_owned(),
        }
    }
}

impl From<Session> for v1::Session {
    fn from(session: Session) -> Self {
        v1::Session {
            id: session.id,
            scenario: session.scenario,
            entity: path_to_wire(&session.entity),
            master: session.master,
            repository: session.repository,
            time: time(session.time),
            lsn: lsn(session.lsn),
            class: v1::Class::from(session.class).into(),
            files: session.files,
            directories: session.directories,
            bytes: session.bytes,
            bytes_read: session.bytes_read,
            bytes_stored: session.bytes_stored,
            missed: session.missed,
            incremental: session.incremental,
            verified: session.verified.and_then(time),
            tree: session.tree,
            tape: session.tape.map(v1::SessionOnTape::from),
        }
    }
}

impl From<SessionOnTape> for v1::SessionOnTape {
    fn from(place: SessionOnTape) -> Self {
        let part = |part: TapePart| v1::TapeSessionPart {
            media: part.media,
            volume: part.volume,
            serial: part.serial,
            file: part.file,
            blocks: part.blocks,
        };
        let parts = place.parts.into_iter().map(part).collect();
        v1::SessionOnTape { pool: place.pool, bytes: place.bytes, parts }
    }
}

impl From<BackupReport> for v1::BackupReport {
    fn from(report: BackupReport) -> Self {
        v1::BackupReport {
            lsn: lsn(report.lsn),
            time: time(report.time),
            elapsed: Some(duration_to_wire(report.elapsed)),
            sessions: report.sessions.into_iter().map(v1::Session::from).collect(),
            missed: report.missed.into_iter().map(v1::Skipped::from).collect(),
            notes: report.notes,
            snapshot: report.snapshot.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}
