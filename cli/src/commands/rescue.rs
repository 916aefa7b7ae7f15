//! `rescue`: a session from its repository alone, for the day on which there is neither daemon nor catalog.
//!
//! The only part of the command line that reads repositories and tapes by itself. It needs the address, the password (of
//! a tape: if it is encrypted) and a place to write; the lock it takes, so that nobody removes meanwhile what it reads, it does without
//! where the repository cannot be written.

mod archived;
mod tape;
mod work;

use super::restore::{Manner, Owner, Rule, Sparse};
use super::{absolute, repository};
use crate::context::Context;
use crate::output::{count, path_text};
use crate::progress::Display;
use crate::{Outcome, errors, json, report};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wire::{Exit, Failure, codes, v1};
use work::{Rescue, Rescued, Wanted, Watch};

/// How often progress is shown.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository: file:///DIR, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX; or volumes of tape:
    /// tape:///DIR for all in a directory, tape:///dev/nst0 for the one in a drive
    url: String,
    /// Id of the session or an unambiguous beginning, or `latest`; with --at: the first PATH
    #[arg(required_unless_present = "at")]
    session: Option<OsString>,
    /// Only these absolute paths of the master and what is below them
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The moment to go to, RFC 3339 or lsn:N. Where the journal is archived, exactly this moment; else of each root the
    /// newest session that is not younger. Not from tape
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Directory to restore into: it gets DIR/<the full path on the master>
    #[arg(long, value_name = "DIR")]
    onto: OsString,
    /// File whose first line is the password; without it the password is asked for on a terminal. Of a tape
    /// only where sessions are encrypted: a secret key of age or the passphrase
    #[arg(long, value_name = "FILE", env = "REWIND_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// Do not lock the repository
    #[arg(long)]
    no_lock: bool,
    /// How.
    #[command(flatten)]
    manner: Manner,
}

fn wanted(args: &Args) -> Result<(Wanted, Vec<Vec<u8>>), Failure> {
    let mut paths: Vec<Vec<u8>> = Vec::new();
    let which = match (&args.at, &args.session) {
        (Some(at), first) => {
            paths.extend(first.as_deref().map(absolute).transpose()?);
            let bad = |why: String| Failure::new(&codes::USAGE, format!("--at {at} is no moment: {why}"));
            match at.strip_prefix("lsn:") {
                Some(lsn) => Wanted::Lsn(lsn.parse().map_err(|_| bad("an LSN is a number".to_owned()))?),
                None => {
                    let text = at.strip_prefix("time:").unwrap_or(at);
                    let time: Result<jiff::Timestamp, _> = text.parse();
                    Wanted::At(time.map_err(|error| bad(format!("it is no RFC 3339 time: {error}")))?)
                }
            }
        }
        (None, Some(session)) => match session.to_str() {
            Some("latest") => Wanted::Latest,
            Some(id) => Wanted::Session(id.to_owned()),
            None => return Err(Failure::new(&codes::USAGE, "the session's id is no text")),
        },
        (None, None) => return Err(Failure::new(&codes::USAGE, "neither a session nor a time is given")),
    };
    for path in &args.paths {
        paths.push(absolute(path)?);
    }
    Ok((which, paths))
}

fn options(manner: &Manner) -> restore::session::Options {
    use restore::session::{IfExists, Options};
    Options {
        if_exists: match manner.if_exists {
            Some(Rule::Overwrite) => IfExists::Overwrite,
            Some(Rule::Newer) => IfExists::Newer,
            Some(Rule::Skip) => IfExists::Skip,
            Some(Rule::Rename) => IfExists::Rename,
            Some(Rule::Fail) | None => IfExists::Fail,
        },
        owner: match manner.owner {
            Owner::Keep => restore::session::Owner::Keep,
            Owner::Ignore => restore::session::Owner::Ignore,
        },
        sparse: match manner.sparse {
            Sparse::Auto => restore::session::Sparse::Auto,
            Sparse::Off => restore::session::Sparse::Off,
        },
        verify: manner.verify,
        threads: std::thread::available_parallelism().map_or(2, usize::from).max(2),
        ..Options::default()
    }
}

/// Restores.
///
/// # Errors
/// Those of the store, the repository and the target.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let (which, paths) = wanted(&args)?;
    let password = match &args.password_file {
        Some(file) if tape::is_tape(&args.url) => repository::add::read_key(file)?,
        None if tape::is_tape(&args.url) => String::new(),
        Some(file) => repository::add::read_password(file)?,
        None => repository::add::ask(false).await?,
    };
    let rescue = Rescue {
        url: args.url,
        password: password.into(),
        which,
        paths,
        onto: absolute(&args.onto)?,
        options: options(&args.manner),
        lock: !args.no_lock,
        dry_run: args.manner.dry_run,
        list: context.out.json || !context.out.quiet,
        runtime: tokio::runtime::Handle::current(),
    };
    let watch = Arc::new(Watch::default());
    let for_thread = Arc::clone(&watch);
    let mut working = tokio::task::spawn_blocking(move || rescue.run(&for_thread));
    let mut display = Display::new(&context.out);
    let rescued = loop {
        tokio::select! {
            done = &mut working => {
                break done.map_err(|error| Failure::new(&codes::INTERNAL, error.to_string()))??;
            }
            pressed = tokio::signal::ctrl_c() => {
                pressed.map_err(|error| Failure::new(&codes::INTERNAL, error.to_string()))?;
                context.out.talk("stopping; the same command goes on from what is there");
                watch.cancel();
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let progress = Some(watch.progress());
        display.update(&v1::Job { progress, state: v1::JobState::Active.into(), ..v1::Job::default() });
    };
    display.clear();
    for warning in &rescued.warnings {
        context.out.warn(warning);
    }
    if args.manner.dry_run { Ok(show_plan(context, &rescued)) } else { Ok(conclude(context, &rescued)) }
}

/// Prints what would be done.
fn show_plan(context: &Context, rescued: &Rescued) -> Exit {
    for change in &rescued.changes {
        context.out.data(&super::rewind::line(change));
    }
    let mut map = json::restores::plan(&rescued.plan, &[]);
    map.remove("scenario");
    let changes: Value = rescued.changes.iter().map(json::change).collect();
    let mut object = serde_json::Map::new();
    object.insert("dry_run".to_owned(), true.into());
    object.insert("changes".to_owned(), changes);
    object.extend(map);
    object.insert("sessions".to_owned(), rescued.sessions.clone().into());
    object.insert("archived".to_owned(), rescued.archived.clone().into());
    context.out.object(&Value::Object(object));
    context.out.data(&super::rewind::sums(rescued.plan.counts.as_ref()));
    if rescued.plan.conflicts > 0 {
        let text =
            format!("{} in the way: the restore would be refused", count(rescued.plan.conflicts, "object"));
        context.out.warn(&text);
    }
    for path in &rescued.plan.first_conflicts {
        context.out.talk(&format!("  {}", path_text(path)));
    }
    Exit::Done
}

/// Shows what was done, in the terms of a restore by the daemon.
fn conclude(context: &Context, rescued: &Rescued) -> Exit {
    let done = &rescued.report;
    let (exit, state) = match (done.verified, done.failed + done.warned) {
        (Some(false), _) => (Exit::Differs, "failed"),
        (_, 0) => (Exit::Done, "done"),
        _ => (Exit::Incomplete, "incomplete"),
    };
    let mut map = serde_json::Map::new();
    map.insert("job".to_owned(), Value::Null);
    map.insert("state".to_owned(), state.into());
    map.extend(json::restores::report(done));
    map.insert("sessions".to_owned(), rescued.sessions.clone().into());
    map.insert("archived".to_owned(), rescued.archived.clone().into());
    let failure =
        Failure::new(&codes::VERIFICATION_FAILED, "what was restored is not what the session holds");
    if exit == Exit::Differs {
        map.insert(
            "error".to_owned(),
            json!({
                "code": failure.code,
                "message": failure.message,
                "reason": failure.reason,
                "action": failure.action,
                "module": failure.module,
            }),
        );
    }
    context.out.object(&Value::Object(map));
    for one in &rescued.archived {
        let word = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let text = format!("\"{}\" as of LSN {}, {}", word("scenario"), word("lsn"), word("time"));
        context.out.data(&text);
    }
    report::restores::restore(&context.out, "", done);
    if exit == Exit::Differs && !context.out.json {
        eprintln!("{}", errors::render(&failure));
    }
    exit
}
