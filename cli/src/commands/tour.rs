//! `tour`: the product at work, on a temporary directory and before the user's eyes.
//!
//! A standalone daemon runs in this process. Every command shown is run as it stands, by the code that runs it when a
//! user types it; only `--endpoint` is added, in place of the environment variable shown at the start. What comes out
//! is not believed: after each rewind and each restore every byte and all metadata are compared with copies the tour made itself, and
//! one difference fails it.

mod compare;
mod copy;
mod edits;
mod sample;
mod sessions;

use crate::Outcome;
use crate::args::Cli;
use crate::context::Context;
use crate::output::{count, write_stdout};
use api::config::Options;
use api::daemon::Daemon;
use api::wiring::ProductWiring;
use clap::Parser;
use compare::{Comparison, compare};
use console::style;
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wire::units::format_size;
use wire::{Client, Exit, Failure, codes, v1};

/// Copies of the tree a tour keeps at once, its own and the product's, for the check of free space.
const COPIES: u64 = 10;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Use a copy of this directory; without, a small tree is made. The directory itself is only read
    directory: Option<PathBuf>,
    /// Leave the temporary directory for a look around
    #[arg(long)]
    keep: bool,
}

/// Runs the tour.
///
/// # Errors
/// `DIFFERS` if a comparison fails, and those of the commands.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let failed =
        |error: std::io::Error| Failure::new(&codes::IO, format!("make a temporary directory: {error}"));
    let mut place = tempfile::Builder::new().prefix("rewind-tour-").tempdir().map_err(failed)?;
    place.disable_cleanup(args.keep);
    let tour = Tour::new(place.path(), context);
    let toured = tokio::select! {
        toured = tour.run(args.directory.as_deref()) => toured,
        _ = tokio::signal::ctrl_c() => return Ok(Exit::Cancelled),
    };
    match toured {
        Ok(()) => {
            if args.keep {
                context.out.talk(&format!("the tour is left in {}", place.path().display()));
            }
            Ok(Exit::Done)
        }
        Err(failure) => {
            place.disable_cleanup(true);
            context.out.talk(&format!("the tour is left in {}", place.path().display()));
            Err(failure)
        }
    }
}

struct Tour<'a> {
    context: &'a Context,
    master: PathBuf,
    replica: PathBuf,
    data: PathBuf,
    /// Copies of the tour's own, a moment each.
    kept: PathBuf,
    target: PathBuf,
    endpoint: String,
}

/// What was compared so far.
#[derive(Default)]
struct Tally {
    comparisons: u64,
    objects: u64,
    bytes: u64,
}

impl<'a> Tour<'a> {
    fn new(place: &Path, context: &'a Context) -> Self {
        let data = place.join("data");
        Tour {
            context,
            master: place.join("master"),
            replica: place.join("replica").join("tree"),
            kept: place.join("kept"),
            target: place.join("recovered"),
            endpoint: format!("unix:{}", data.join("rewindd.sock").display()),
            data,
        }
    }

    async fn run(&self, directory: Option<&Path>) -> Result<(), Failure> {
        let begun = Instant::now();
        self.make_master(directory).await?;
        self.say("A daemon, master and replica in one process:");
        self.show(&format!("rewindd --standalone --data {} &", self.data.display()));
        let options = Options::standalone(self.data.clone(), None);
        let daemon = Daemon::start(options, Arc::new(ProductWiring)).await.map_err(Failure::from)?;
        self.print(&daemon.ready_line());
        self.show(&format!("export REWIND_ENDPOINT={}", self.endpoint));
        let toured = self.steps().await;
        daemon.stop().await;
        let (mut tally, backed_up) = toured?;
        self.rescue(&mut tally, &backed_up).await?;
        let elapsed = begun.elapsed().as_secs_f64();
        self.context.out.object(&json!({
            "equal": true,
            "comparisons": tally.comparisons,
            "objects": tally.objects,
            "bytes": tally.bytes,
            "elapsed_seconds": elapsed,
        }));
        let verdict = style("Everything came back exactly:").green().bold();
        self.print(&format!(
            "\n{verdict} {}, {} and {} compared, no difference, in {elapsed:.1} s",
            count(tally.comparisons, "comparison"),
            count(tally.objects, "object"),
            format_size(tally.bytes)
        ));
        Ok(())
    }

    /// The tree that is protected.
    async fn make_master(&self, directory: Option<&Path>) -> Result<(), Failure> {
        let master = self.master.clone();
        match directory {
            None => {
                self.say("A directory to protect, with some hundred files:");
                self.show(&format!("ls {}", master.display()));
                let names = blocking(move || sample::make(&master)).await?;
                self.print(&names.join("  "));
            }
            Some(directory) => {
                let directory = directory.to_owned();
                self.say("A copy of your directory, to protect:");
                self.show(&format!("cp -a {} {}", directory.display(), master.display()));
                blocking(move || {
                    copy::check_room(&directory, master.parent().unwrap_or(&master), COPIES)?;
                    copy::copy(&directory, &master)
                })
                .await?;
            }
        }
        Ok(())
    }

    /// The steps that need the daemon; also a copy of what the last backup was made of.
    async fn steps(&self) -> Result<(Tally, PathBuf), Failure> {
        let mut tally = Tally::default();
        self.say("It is named as a scenario and synchronized; from then on every change is journaled:");
        self.command(&[
            "scenario".into(),
            "create".into(),
            "tour".into(),
            "--root".into(),
            path_pair(&self.master, &self.replica),
        ])
        .await?;
        self.line("scenario run tour").await?;

        self.say("Somebody works, and sets a bookmark before something risky:");
        self.edit(edits::work).await?;
        self.line("bookmark set tour before-upgrade").await?;
        let at_bookmark = self.keep("at-bookmark").await?;

        self.say("Work goes on; nobody sets a bookmark, every change is a point all the same:");
        self.edit(edits::more_work).await?;
        self.line("flush tour").await?;
        let unnamed = self.applied().await?;
        let at_unnamed = self.keep("unnamed").await?;
        self.back_up().await?;

        self.say("Then everything is ruined, and the ruin is replicated faithfully:");
        self.edit(edits::ruin).await?;
        self.line("flush tour").await?;
        self.compare(&mut tally, "replica and master", &self.master, &self.replica).await?;
        self.line("points tour --limit 8").await?;

        self.say("Back to the bookmark, on the replica:");
        self.line("rewind tour --to before-upgrade --yes").await?;
        self.compare(&mut tally, "replica and bookmark", &at_bookmark, &self.replica).await?;

        self.say("Forward again, to a moment without a name; a rewind can be rewound:");
        self.line(&format!("rewind tour --to lsn:{unnamed} --yes")).await?;
        self.compare(&mut tally, "replica and that moment", &at_unnamed, &self.replica).await?;
        self.line("scenario status tour").await?;

        self.say("The replica follows the master again, ruined as it is:");
        self.line("scenario resume tour").await?;
        self.line("flush tour").await?;
        self.compare(&mut tally, "replica and master", &self.master, &self.replica).await?;

        self.say("The bookmark is still there, and can be had beside, while replication goes on:");
        self.command(&[
            "rewind".into(),
            "tour".into(),
            "--to".into(),
            "before-upgrade".into(),
            "--onto".into(),
            self.target.clone().into_os_string(),
        ])
        .await?;
        let landed = landed(&self.target, &self.master);
        self.compare(&mut tally, "directory and bookmark", &at_bookmark, &landed).await?;
        self.line("bookmark list tour").await?;
        self.restore(&mut tally, &at_bookmark, &at_unnamed).await?;
        self.line("journal verify tour").await?;
        Ok((tally, at_unnamed))
    }

    /// Runs a command line without anything to quote.
    async fn line(&self, line: &str) -> Result<(), Failure> {
        self.command(&line.split(' ').map(OsString::from).collect::<Vec<_>>()).await
    }

    /// Shows a command as a user would type it, runs it, and fails if it fails.
    async fn command(&self, words: &[OsString]) -> Result<(), Failure> {
        let shown: Vec<_> = words.iter().map(|word| quote(&word.to_string_lossy())).collect();
        self.show(&format!("restorectl {}", shown.join(" ")));
        let mut line = vec![OsString::from("restorectl"), "--endpoint".into(), self.endpoint.clone().into()];
        if self.is_silent() {
            line.push("-q".into());
        }
        line.extend_from_slice(words);
        let cli =
            Cli::try_parse_from(&line).map_err(|error| Failure::new(&codes::USAGE, error.to_string()))?;
        let context = Context::new(&cli.global)?;
        // Ends the recursion of types: a tour runs commands, and a tour is a command.
        match Box::pin(super::run(cli.command, &context)).await? {
            Exit::Done => Ok(()),
            exit => {
                let message = format!("`restorectl {}` exits with {}", shown.join(" "), exit.number());
                Err(Failure { exit, ..Failure::new(&codes::INTERNAL, message) })
            }
        }
    }

    async fn applied(&self) -> Result<String, Failure> {
        let endpoint = self.endpoint.parse().map_err(|_| Failure::new(&codes::INTERNAL, "the endpoint"))?;
        let mut client = Client::connect(&endpoint, &wire::TlsFiles::default()).await?;
        let reference = v1::ScenarioRef { name: "tour".to_owned() };
        let status = self.context.call(client.scenarios.get_status(reference)).await?;
        Ok(crate::output::lsn_text(status.applied.as_ref()))
    }

    async fn edit(&self, edit: fn(&Path) -> std::io::Result<Vec<String>>) -> Result<(), Failure> {
        let master = self.master.clone();
        for line in blocking(move || edit(&master)).await? {
            self.show(&line);
        }
        Ok(())
    }

    /// A copy of the master as it is now, made by the tour.
    async fn keep(&self, name: &str) -> Result<PathBuf, Failure> {
        let (from, to) = (self.master.clone(), self.kept.join(name));
        let kept = to.clone();
        blocking(move || copy::copy(&from, &to)).await?;
        Ok(kept)
    }

    async fn compare(&self, tally: &mut Tally, what: &str, a: &Path, b: &Path) -> Result<(), Failure> {
        let (left, right) = (a.to_owned(), b.to_owned());
        let comparison: Comparison = blocking(move || compare(&left, &right)).await?;
        if !comparison.differences.is_empty() {
            let listed = comparison.differences.join("\n  ");
            let message = format!("{what} differ ({} and {}):\n  {listed}", a.display(), b.display());
            return Err(Failure::new(&codes::DIFFERS, message));
        }
        tally.comparisons += 1;
        tally.objects += comparison.objects;
        tally.bytes += comparison.bytes;
        let mark = style("equal").green().bold();
        self.print(&format!(
            "{mark}: {what}: {}, {}",
            count(comparison.objects, "object"),
            format_size(comparison.bytes)
        ));
        Ok(())
    }

    fn is_silent(&self) -> bool {
        self.context.out.json || self.context.out.quiet
    }

    fn print(&self, text: &str) {
        if !self.is_silent() {
            write_stdout(text);
        }
    }

    fn say(&self, text: &str) {
        self.print(&format!("\n{}", style(text).bold()));
    }

    fn show(&self, line: &str) {
        self.print(&style(format!("$ {line}")).cyan().to_string());
    }
}

/// A rewind into a directory puts the whole master path below it, as a restore does; the root of a scenario that has
/// one only is found in either place.
fn landed(target: &Path, master: &Path) -> PathBuf {
    let below = target.join(master.strip_prefix("/").unwrap_or(master));
    if below.symlink_metadata().is_ok() { below } else { target.to_owned() }
}

fn path_pair(master: &Path, replica: &Path) -> OsString {
    let mut pair = master.as_os_str().to_owned();
    pair.push("=");
    pair.push(replica);
    pair
}

/// As a shell wants it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Work on files, off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::new(&codes::IO, error.to_string())),
        Err(error) => Err(Failure::new(&codes::INTERNAL, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
