//! What may be typed. Help, man page and completions are made from this.

use crate::commands::{
    backup, bookmark, catalog, completions, diff, explain, flush, job, journal, log, man, points, repository,
    rescue, restore, rewind, scenario, session, snapshot, tape, tour,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use wire::Endpoint;
use wire::units::parse_duration;

/// Protects directories, keeps every change, goes back to any moment.
///
/// restorectl talks to the daemon rewindd, by default over the Unix socket of this machine
/// (/run/rewind/rewindd.sock). Data is written to stdout, talk to stderr.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but incomplete, 4 no such thing, 5 refused in the present
/// state, 6 not permitted, 7 timed out, 8 data is damaged or differs, 130 cancelled.
#[derive(Debug, Parser)]
#[command(name = "restorectl", version, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// Options every command understands.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Options every command understands.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The daemon: unix:/path, http://host:port or https://host:port
    #[arg(long, global = true, value_name = "URL", env = "REWIND_ENDPOINT", help_heading = "Global options")]
    pub endpoint: Option<Endpoint>,
    /// Authority that signed the daemon's certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub ca: Option<PathBuf>,
    /// Certificate to show to the daemon (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub key: Option<PathBuf>,
    /// How long a call may take [default: 180s; jobs are waited for without limit]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration, help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// Print JSON: an object for an action, an object a line for a list
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    pub color: When,
    /// Progress of jobs: bars on a terminal, or JSON, an object a line on stderr
    #[arg(long, global = true, value_name = "FORM", default_value = "auto", help_heading = "Global options")]
    pub progress: ProgressForm,
}

/// When to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// Bars on a terminal, nothing elsewhere.
    Auto,
    /// Objects.
    Json,
    /// Nothing.
    None,
}

/// Options of commands that start a job.
#[derive(Clone, Debug, Default, Args)]
pub struct JobOptions {
    /// Print the number of the job and do not wait for its end
    #[arg(long)]
    pub detach: bool,
    /// A second start with the same key is the same job
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    pub idempotency_key: String,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is protected, where it goes, and how
    #[command(subcommand)]
    Scenario(scenario::Command),
    /// Wait until all that was done on the master before is applied on the replica
    Flush(flush::Args),
    /// Points with a name
    #[command(subcommand)]
    Bookmark(bookmark::Command),
    /// List what happened, newest first: every line is a point to go back to
    Points(points::Args),
    /// Go back to a point
    Rewind(rewind::Args),
    /// What differs between two points
    Diff(diff::Args),
    /// The journal of a scenario
    #[command(subcommand)]
    Journal(journal::Command),
    /// Points that stay readable until they are released
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Places where backups are kept
    #[command(subcommand)]
    Repository(repository::Command),
    /// Volumes of tape: what they are called and what is on them
    #[command(subcommand)]
    Tape(tape::Command),
    /// Store a point of a scenario in a repository, a session for each root
    Backup(backup::Args),
    /// What backups made
    #[command(subcommand)]
    Session(session::Command),
    /// Bring back what backups hold
    #[command(subcommand)]
    Restore(restore::Command),
    /// Bring back a session from its repository alone: without a daemon
    Rescue(rescue::Args),
    /// Find files and their versions
    #[command(subcommand)]
    Catalog(catalog::Command),
    /// Long operations
    #[command(subcommand)]
    Job(job::Command),
    /// What happened to scenarios and jobs
    Log(log::Args),
    /// See the product at work on a temporary directory
    Tour(tour::Args),
    /// Explain an error code
    Explain(explain::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

#[cfg(test)]
mod tests;
