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
    /// How long points are kept; while the master is not heard none grows older
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "7d")]
    retention: Duration,
    /// Most bytes of the journal
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "50GiB")]
    journal_max: u64,
    /// Most bytes that wait on the master
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "5GiB")]
    spool_max: u64,
    /// How many of the snapshots that backups make are kept; each keeps its point readable beyond the retention
    #[arg(long, value_name = "N", default_value = "10")]
    keep_snapshots: u32,
    /// From this age on, one point a minute is kept; points with a name or in use are always kept, others are refused, and
    /// the space that only they need is given back
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    thin_after: Option<Duration>,
    /// From this age on, only points with a name or in use are kept
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "thin_after")]
    thin_minutes: Option<Duration>,
    /// What happens after an error that needs a new synchronization
    #[arg(long, value_name = "WHEN", default_value = "ask")]
    auto_resync: AutoResync,
    /// Take over a replica directory that holds something: it becomes the first rewind point, with a bookmark, and undo
    /// is recorded for all that is changed
    #[arg(long)]
    adopt: bool,
    /// Command for a shell of the master; NAME is `quiesce` (bring the application to rest and hold it there, for
    /// `--consistent`), `thaw` (let it go on: run whatever happens, twice perhaps), `stop` or `start` (kept; this version
    /// does not run them). A master on another host runs only what its own configuration allows
    #[arg(long = "hook", value_name = "NAME=CMD", value_parser = parse_hook)]
    hooks: Vec<(Hook, String)>,
    /// The thaw hook begins at the latest so long after the quiesce hook began, and may take as long again
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    hook_timeout: Duration,
}

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Quiesce,
    Thaw,
    Stop,
    Start,
}

/// `NAME=CMD`; the first `=` divides them.
fn parse_hook(text: &str) -> Result<(Hook, String), String> {
    let (name, command) = text.split_once('=').ok_or("expected NAME=CMD")?;
    let hook = match name {
        "quiesce" => Hook::Quiesce,
        "thaw" => Hook::Thaw,
        "stop" => Hook::Stop,
        "start" => Hook::Start,
        _ => return Err("the name of a hook is quiesce, thaw, stop or start".to_owned()),
    };
    if command.trim().is_empty() {
        return Err("the command is empty".to_owned());
    }
    Ok((hook, command.to_owned()))
}

/// The last one of a name counts.
fn hooks(given: Vec<(Hook, String)>, timeout: Duration) -> v1::Hooks {
    let mut hooks = v1::Hooks { timeout: Some(duration_to_wire(timeout)), ..v1::Hooks::default() };
    for (hook, command) in given {
        match hook {
            Hook::Quiesce => hooks.quiesce = command,
            Hook::Thaw => hooks.thaw = command,
            Hook::Stop => hooks.stop = command,
            Hook::Start => hooks.start = command,
        }
    }
    hooks
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
            hooks: Some(hooks(self.hooks, self.hook_timeout)),
            keep_snapshots: Some(self.keep_snapshots),
            thin_after: self.thin_after.map(duration_to_wire),
            thin_minutes: self.thin_minutes.map(duration_to_wire),
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
