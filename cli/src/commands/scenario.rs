//! Verbs of scenarios.

pub mod create;
pub mod delete;
pub mod list;
pub mod resume;
pub mod run;
pub mod scrub;
pub mod set;
pub mod show;
pub mod status;
pub mod stop;
pub mod suspend;
pub mod verify;

use crate::Outcome;
use crate::context::Context;
use crate::output::{local_time, lsn_text, properties, window_text};
use clap::{Args, Subcommand};
use wire::units::{format_duration, format_size};
use wire::v1;

/// Verbs of scenarios.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Define what is protected; it does not run yet
    Create(create::Args),
    /// List scenarios
    List,
    /// Show a definition
    Show(Name),
    /// Forget a stopped scenario and its journal; the replica directory stays
    Delete(delete::Args),
    /// Change properties of a stopped scenario
    Set(set::Args),
    /// Check both sides, as is done before every start
    Verify(Name),
    /// Synchronize and replicate; returns when synchronization has completed
    Run(run::Args),
    /// End capture; the next run synchronizes
    Stop(Name),
    /// Pause delivery; changes wait on the master
    Suspend(Name),
    /// Go on after suspend or rewind
    Resume(resume::Args),
    /// Show how it stands
    Status(Name),
    /// Read both sides again and compare them; exits 8 if they differ
    Scrub(scrub::Args),
}

/// A scenario.
#[derive(Clone, Debug, Args)]
pub struct Name {
    /// Name of the scenario
    pub name: String,
}

impl Name {
    fn message(self) -> v1::ScenarioRef {
        v1::ScenarioRef { name: self.name }
    }
}

/// Runs a verb.
///
/// # Errors
/// The verb's.
pub async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Create(args) => create::run(args, context).await,
        Command::List => list::run(context).await,
        Command::Show(name) => show::run(name, context).await,
        Command::Delete(args) => delete::run(args, context).await,
        Command::Set(args) => set::run(args, context).await,
        Command::Verify(name) => verify::run(name, context).await,
        Command::Run(args) => run::run(args, context).await,
        Command::Stop(name) => stop::run(name, context).await,
        Command::Suspend(name) => suspend::run(name, context).await,
        Command::Resume(args) => resume::run(args, context).await,
        Command::Status(name) => status::run(name, context).await,
        Command::Scrub(args) => scrub::run(args, context).await,
    }
}

fn or_off(time: Option<&prost_types::Duration>) -> String {
    let time = time.and_then(wire::convert::duration_from_wire).filter(|time| !time.is_zero());
    time.map_or_else(|| "off".to_owned(), format_duration)
}

/// A definition for people.
fn render(scenario: &v1::Scenario) -> String {
    let definition = scenario.definition.clone().unwrap_or_default();
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    let retention =
        definition.retention.as_ref().and_then(wire::convert::duration_from_wire).unwrap_or_default();
    let mut pairs = vec![
        ("name", definition.name.clone()),
        ("id", scenario.id.clone()),
        ("state", scenario.state().word().to_owned()),
        ("type", definition.r#type().word().to_owned()),
    ];
    if !definition.master.is_empty() {
        pairs.push(("master", definition.master.clone()));
    }
    for root in &definition.roots {
        let (master, replica) =
            (crate::output::path_text(&root.master_path), crate::output::path_text(&root.replica_path));
        pairs.push(("root", format!("{master} -> {replica}")));
    }
    for exclude in &definition.excludes {
        pairs.push(("exclude", exclude.clone()));
    }
    pairs.extend([
        ("capture", definition.capture().word().to_owned()),
        ("rewind", switch(definition.rewind())),
        ("retention", format_duration(retention)),
        ("journal-max", format_size(definition.journal_max_bytes())),
        ("keep-snapshots", definition.keep_snapshots().to_string()),
        ("thin-after", or_off(definition.thin_after.as_ref())),
        ("thin-minutes", or_off(definition.thin_minutes.as_ref())),
        ("spool-max", format_size(definition.spool_max_bytes())),
        ("auto-resync", definition.auto_resync().word().to_owned()),
        ("adopt", switch(definition.adopt)),
    ]);
    let hooks = definition.hooks.clone().unwrap_or_default();
    let timeout = hooks.timeout.as_ref().and_then(wire::convert::duration_from_wire).unwrap_or_default();
    let commands =
        [("quiesce", hooks.quiesce), ("thaw", hooks.thaw), ("stop", hooks.stop), ("start", hooks.start)];
    for (name, command) in commands.into_iter().filter(|(_, command)| !command.is_empty()) {
        pairs.push(("hook", format!("{name}: {command}")));
    }
    pairs.extend([
        ("hook-timeout", format_duration(timeout)),
        ("created", local_time(scenario.created.as_ref())),
    ]);
    properties(&pairs)
}

/// A state for people.
fn render_status(status: &v1::Status) -> String {
    let lag = status.lag.as_ref().and_then(wire::convert::duration_from_wire).unwrap_or_default();
    let mut pairs = vec![
        ("name", status.name.clone()),
        ("id", status.id.clone()),
        ("state", status.state().word().to_owned()),
    ];
    if !status.cause.is_empty() {
        pairs.push(("cause", status.cause.clone()));
    }
    pairs.extend([
        ("captured", lsn_text(status.captured.as_ref())),
        ("journaled", lsn_text(status.journaled.as_ref())),
        ("applied", lsn_text(status.applied.as_ref())),
        ("lag", format!("{:.1} s", lag.as_secs_f64())),
        ("spool", format_size(status.spool_bytes)),
        ("gaps open", status.gaps_open.to_string()),
    ]);
    if status.skipped > 0 {
        pairs.push(("skipped", status.skipped.to_string()));
    }
    if let Some(window) = &status.window {
        pairs.push(("window", window_text(window)));
    }
    if let Some(proof) = &status.last_proof {
        let verdict = if proof.equal { "equal" } else { "DIFFERENT" };
        let (lsn, at) = (lsn_text(proof.lsn.as_ref()), local_time(proof.at.as_ref()));
        pairs.push(("last proof", format!("{verdict} at LSN {lsn}, {at}")));
    }
    if let Some(scrub) = &status.last_scrub {
        let verdict = if scrub.equal { "equal" } else { "DIFFERENT" };
        let (files, at) = (scrub.files, local_time(scrub.ended.as_ref()));
        let passed =
            if scrub.passed > 0 { format!(", {} not compared", scrub.passed) } else { String::new() };
        pairs.push(("last scrub", format!("{verdict}, {files} files read{passed}, {at}")));
    }
    if let Some(every) = status.scrub_every.as_ref().and_then(wire::convert::duration_from_wire) {
        pairs.push(("scrub every", format_duration(every)));
    }
    if let Some(archive) = &status.archive {
        let seconds = |duration: Option<&prost_types::Duration>| {
            duration.and_then(wire::convert::duration_from_wire).unwrap_or_default().as_secs_f64()
        };
        let upto = format!("LSN {}, {}", archive.lsn, local_time(archive.time.as_ref()));
        pairs.push(("archive", format!("{}: {upto}", archive.repository)));
        pairs.push(("archive rpo", format!("{:.1} s", seconds(archive.rpo.as_ref()))));
        if archive.gaps > 0 {
            pairs.push(("archive gaps", archive.gaps.to_string()));
        }
        if !archive.problem.is_empty() {
            pairs.push(("archive problem", archive.problem.clone()));
        }
    }
    properties(&pairs)
}
