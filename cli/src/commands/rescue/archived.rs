//! The part of a rescue that replays archived redo.
//!
//! Beside the tour the only place of the command line that uses the server's library: the tree is built by the code that
//! applies captures on a replica, and that code is not written twice.

use super::work::{Records, Rescue, Rescued, Wanted, Watch};
use api::archive::rebuild::{self, Candidate, Chosen, Entity, Moment};
use restore::session::{IfExists, Owner};
use serde_json::json;
use snapshot::repository::Repository;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wire::{Failure, codes};

impl rebuild::Watch for Watch {
    fn progress(&self, files: u64, bytes: u64) {
        self.done(files, bytes);
    }

    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }
}

/// Rebuilds what is archived of a moment; the roots that are done with.
///
/// # Errors
/// Those of the archive, the repository and the target.
pub(super) fn rescue(
    rescue: &Rescue,
    repository: &Repository,
    records: &Records,
    watch: &Watch,
    rescued: &mut Rescued,
) -> Result<BTreeSet<Entity>, Failure> {
    let moment = match &rescue.which {
        Wanted::Session(_) | Wanted::Latest => return Ok(BTreeSet::new()),
        Wanted::At(at) => Moment::Time(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)),
        Wanted::Lsn(lsn) => Moment::Lsn(*lsn),
    };
    let candidates: Vec<Candidate> =
        records.iter().map(|(id, record)| Candidate { id: *id, record: record.clone() }).collect();
    let choice =
        rebuild::choose(repository, &candidates, moment).map_err(rebuild::RebuildError::to_failure)?;
    if !choice.chosen.is_empty() {
        check_options(rescue)?;
    }
    rescued.warnings.extend(choice.warnings);
    let mut done = BTreeSet::new();
    for mut one in choice.chosen {
        left_out(rescue, &mut one, rescued);
        let held = if rescue.dry_run {
            plan(&one, rescued)?
        } else {
            carry_out(rescue, repository, &one, watch, rescued)?
        };
        rescued.warnings.extend(one.warnings);
        if held {
            done.extend(one.entities);
        }
    }
    Ok(done)
}

/// Says which roots are not in the moment, if they are wanted. Then what is rebuilt is not all that was asked for.
fn left_out(rescue: &Rescue, chosen: &mut Chosen, rescued: &mut Rescued) {
    let below = |path: &[u8], of: &[u8]| {
        path == of || path.strip_prefix(of).is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    for root in &chosen.missing {
        let wanted = |path: &Vec<u8>| below(path, root) || below(root, path);
        if rescue.paths.is_empty() || rescue.paths.iter().any(wanted) {
            chosen.warnings.push(format!(
                "no session of {} is as old as that moment: it is left out",
                String::from_utf8_lossy(root)
            ));
            rescued.report.warned += 1;
        }
    }
}

/// A moment is built anew; there is nothing to be merged with.
fn check_options(rescue: &Rescue) -> Result<(), Failure> {
    let options = &rescue.options;
    let merges = options.if_exists != IfExists::Fail || options.owner != Owner::Keep;
    if merges {
        let text = "--if-exists and --owner have no meaning for an archived moment: it is built anew";
        return Err(Failure::new(&codes::USAGE, text));
    }
    if options.verify {
        let text = "--verify compares files with a session, and an archived moment is none; what it is built of is \
                    checked as it is read";
        return Err(Failure::new(&codes::USAGE, text));
    }
    Ok(())
}

fn time(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default().to_string()
}

fn plan(chosen: &Chosen, rescued: &mut Rescued) -> Result<bool, Failure> {
    let bytes = chosen.redo_bytes().map_err(rebuild::RebuildError::to_failure)?;
    let sessions: Vec<String> = chosen.sessions().iter().map(ToString::to_string).collect();
    rescued.archived.push(json!({
        "scenario": chosen.manifest.scenario,
        "sessions": sessions,
        "redo_bytes": bytes,
        "archived_lsn": chosen.manifest.upto.lsn.to_string(),
        "archived_time": time(chosen.manifest.upto.time),
    }));
    rescued.sessions.extend(sessions);
    Ok(true)
}

fn carry_out(
    rescue: &Rescue,
    repository: &Repository,
    chosen: &Chosen,
    watch: &Watch,
    rescued: &mut Rescued,
) -> Result<bool, Failure> {
    let target = Path::new(std::ffi::OsStr::from_bytes(&rescue.onto));
    let rebuilt = match rebuild::rebuild(repository, chosen, (&rescue.paths, target), watch) {
        // Of several journals only some hold the paths.
        Err(rebuild::RebuildError::NoSuchPath) => return Ok(true),
        outcome => outcome.map_err(rebuild::RebuildError::to_failure)?,
    };
    let sessions: Vec<String> = rebuilt.sessions.iter().map(ToString::to_string).collect();
    let paths: Vec<String> =
        rebuilt.paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    rescued.archived.push(json!({
        "scenario": chosen.manifest.scenario,
        "lsn": rebuilt.upto.lsn.to_string(),
        "time": time(rebuilt.upto.time),
        "sessions": sessions,
        "events": rebuilt.events,
        "paths": paths,
        "archived_lsn": chosen.manifest.upto.lsn.to_string(),
        "archived_time": time(chosen.manifest.upto.time),
    }));
    if rebuilt.degraded > 0 {
        let text =
            format!("of {} objects owner, mode, times or attributes could not be set", rebuilt.degraded);
        rescued.warnings.push(text);
        rescued.report.warned += rebuilt.degraded;
    }
    let (files, bytes) = watch.counted();
    rescued.report.files = files;
    rescued.report.bytes = bytes;
    rescued.sessions.extend(sessions);
    Ok(true)
}
