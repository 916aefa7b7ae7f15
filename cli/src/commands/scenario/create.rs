//! `scenario create`.

use super::render;
use crate::commands::absolute;
use crate::context::Context;
use crate::{Outcome, json};
use clap::ValueEnum;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use wire::convert::duration_to_wire;
use wire::units::{parse_duration, parse_size};
use wire::{Exit, Failure, v1};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario
    name: String,
    /// Directory to protect, and where its replica goes; may be repeated
    #[arg(long = "root", value_name = "MASTER_DIR[=REPLICA_DIR]", required = true)]
    roots: Vec<OsString>,
    /// What kind of data it is
    #[arg(long = "type", value_name = "TYPE", default_value = "file-server")]
    kind: Kind,
    /// Host name of the master, where there is more than one
    #[arg(long, value_name = "HOST", default_value = "", hide_default_value = true)]
    master: String,
    /// Leave out what matches; on the whole path if it begins with `/`, else on the path below the root
    #[arg(long = "exclude", value_name = "GLOB")]
    excludes: Vec<String>,
    /// How changes are seen
    #[arg(long, value_name = "MODE", default_value = "watch")]
    capture: Capture,
    /// Keep rewind points
    #[arg(long, value_name = "on|off", default_value = "on")]
    rewind: Switch,
    /// How long points are kept
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "7d")]
    retention: Duration,
    /// Most bytes of the journal
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "50GiB")]
    journal_max: u64,
    /// Most bytes that wait on the master
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "5GiB")]
    spool_max: u64,
    /// What happens after an error that needs a new synchronization
    #[arg(long, value_name = "WHEN", default_value = "ask")]
    auto_resync: AutoResync,
    /// Take over a replica directory that holds something: it becomes the first rewind point, with a bookmark, and undo
    /// is recorded for all that is changed
    #[arg(long)]
    adopt: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    FileServer,
    Postgresql,
    Sqlite,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Capture {
    Watch,
    Mount,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AutoResync {
    Ask,
    Always,
    Never,
}

/// `MASTER` or `MASTER=REPLICA`; the first `=` divides them.
fn parse_root(text: &OsStr) -> Result<v1::Root, Failure> {
    let bytes = text.as_bytes();
    let divided = bytes.iter().position(|byte| *byte == b'=').and_then(|at| bytes.split_at_checked(at));
    let (master, replica) = match divided {
        Some((master, rest)) => (master, absolute(OsStr::from_bytes(rest.get(1..).unwrap_or_default()))?),
        None => (bytes, Vec::new()),
    };
    Ok(v1::Root { master_path: absolute(OsStr::from_bytes(master))?.into(), replica_path: replica.into() })
}

impl Args {
    fn definition(self) -> Result<v1::Definition, Failure> {
        let kind = match self.kind {
            Kind::FileServer => v1::ScenarioType::FileServer,
            Kind::Postgresql => v1::ScenarioType::Postgresql,
            Kind::Sqlite => v1::ScenarioType::Sqlite,
        };
        let capture = match self.capture {
            Capture::Watch => v1::CaptureMode::Watch,
            Capture::Mount => v1::CaptureMode::Mount,
        };
        let auto_resync = match self.auto_resync {
            AutoResync::Ask => v1::AutoResync::Ask,
            AutoResync::Always => v1::AutoResync::Always,
            AutoResync::Never => v1::AutoResync::Never,
        };
        Ok(v1::Definition {
            name: self.name,
            r#type: kind.into(),
            master: self.master,
            roots: self.roots.iter().map(|root| parse_root(root)).collect::<Result<_, _>>()?,
            excludes: self.excludes,
            capture: capture.into(),
            rewind: Some(self.rewind == Switch::On),
            retention: Some(duration_to_wire(self.retention)),
            journal_max_bytes: Some(self.journal_max),
            spool_max_bytes: Some(self.spool_max),
            auto_resync: auto_resync.into(),
            adopt: self.adopt,
        })
    }
}

/// Defines a scenario.
///
/// # Errors
/// Those of the daemon.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let request = v1::CreateScenarioRequest { definition: Some(args.definition()?) };
    let mut client = context.client().await?;
    let scenario = context.call(client.scenarios.create(request)).await?;
    context.out.object(&json::scenario(&scenario));
    context.out.data(&render(&scenario));
    let name = scenario.definition.unwrap_or_default().name;
    context.out.talk(&format!("created; `restorectl scenario run {name}` starts it"));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;
