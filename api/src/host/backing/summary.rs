//! What a backup came to, in one line of its job's log: what an operator looks for the next morning.

use crate::engine::BackupReport;
use crate::records::{SessionOnTape, TapePart};
use wire::units::format_size;

/// Elapsed time, throughput, sessions, objects, what is missing, result; of sessions on tape their volumes.
pub(super) fn summary(report: &BackupReport) -> String {
    let sessions = &report.sessions;
    let (mut files, mut directories, mut read, mut stored, mut missed) = (0, 0, 0, 0, 0);
    for session in sessions {
        files += session.files;
        directories += session.directories;
        read += session.bytes_read;
        stored += session.bytes_stored;
        missed += session.missed;
    }
    let incomplete = sessions.iter().filter(|session| session.missed > 0).count();
    let milliseconds = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let a_minute = u64::try_from(u128::from(read) * 60_000 / u128::from(milliseconds)).unwrap_or(u64::MAX);
    let result = if missed > 0 { "incomplete" } else { "done" };
    let mut text = format!(
        "summary: {result}; elapsed {}.{:03} s; {} read, {}/min; {} stored; {} sessions, {incomplete} of them incomplete; \
         {files} files, {directories} directories, {missed} missed",
        milliseconds / 1000,
        milliseconds % 1000,
        format_size(read),
        format_size(a_minute),
        format_size(stored),
        sessions.len(),
    );
    let mut told: Vec<&str> = Vec::new();
    for place in sessions.iter().filter_map(|session| session.tape.as_ref()) {
        for part in &place.parts {
            if !told.contains(&part.volume.as_str()) {
                told.push(&part.volume);
                volume(&mut text, place, part);
            }
        }
    }
    text
}

fn volume(text: &mut String, place: &SessionOnTape, part: &TapePart) {
    let serial = if part.serial.is_empty() { "not known" } else { &part.serial };
    text.push_str(&format!(
        "; volume {} (id {}, serial {serial}, pool {})",
        part.media, part.volume, place.pool
    ));
}
