//! `repository add`.

use crate::context::Context;
use crate::{Outcome, json};
use clap::ValueEnum;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use wire::{Exit, Failure, codes, v1};

/// Longest password file, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name for it
    name: String,
    /// Where it lies: file:///DIR, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX, or
    /// tape:///dev/nst0 and tape:///DIR for a tape drive, as the daemon sees it
    url: String,
    /// File whose first line is the password; without it the one that REWIND_PASSWORD_FILE names is read, or the password
    /// is asked for on a terminal. What is on tape is encrypted if this is given, and only then: with a secret key of age
    /// (AGE-SECRET-KEY-1..., as age-keygen writes it), or with the passphrase in the first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How sessions on tape are compressed; without it not at all, so that tar alone reads them
    #[arg(long, value_enum)]
    compression: Option<Compression>,
}

/// How sessions on tape are compressed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Compression {
    /// As they are
    None,
    /// `zstd -d` reads them
    Zstd,
}

/// Where the password lies unless it is said; not of a tape, which is encrypted by nobody's default.
const PASSWORD_FILE: &str = "REWIND_PASSWORD_FILE";

/// Adds a repository.
///
/// # Errors
/// Those of the daemon; `USAGE` without a password, `IO` for a file that cannot be read.
pub async fn run(args: Args, context: &Context) -> Outcome {
    let is_tape = args.url.starts_with("tape://");
    let usual = std::env::var_os(PASSWORD_FILE).filter(|file| !file.is_empty()).map(PathBuf::from);
    let password = match (args.password_file, usual) {
        (Some(file), _) if is_tape => read_key(&file)?,
        (None, _) if is_tape => String::new(),
        (Some(file), _) | (None, Some(file)) => read_password(&file)?,
        (None, None) => ask(true).await?,
    };
    let compression = match args.compression {
        None => "",
        Some(Compression::None) => "none",
        Some(Compression::Zstd) => "zstd",
    };
    let compression = compression.to_owned();
    let request = v1::AddRepositoryRequest { name: args.name, url: args.url, password, compression };
    let mut client = context.client().await?;
    let added = context.call(client.repositories.add(request)).await?;
    context.out.object(&json::repository(&added));
    let made = if added.created { "made and added" } else { "added" };
    context.out.data(&format!("repository \"{}\" ({}) was {made}", added.name, added.url));
    if added.encryption == "age" {
        context.out.talk(
            "its sessions are encrypted; keep the password somewhere else too: without it nobody can read what is on the volumes",
        );
    }
    if added.created && !is_tape {
        context.out.talk(
            "keep its password somewhere else too: without it nobody can read what is stored there, not even restic",
        );
    }
    Ok(Exit::Done)
}

/// The first line of a file, as restic reads it.
///
/// # Errors
/// `IO`, `USAGE` for an empty one.
pub fn read_password(path: &Path) -> Result<String, Failure> {
    let text = read_file(path)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Failure::new(&codes::USAGE, format!("the password file {} is empty", path.display()))),
    }
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(&codes::IO, format!("read the password file {}: {error}", path.display()))
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
        .map_err(failed)?;
    Ok(text)
}

/// What opens a tape: the secret key of age in a file that `age-keygen` wrote, else the first line.
///
/// # Errors
/// As [`read_password`].
pub fn read_key(path: &Path) -> Result<String, Failure> {
    let first = read_password(path)?;
    if !first.starts_with('#') {
        return Ok(first);
    }
    let text = read_file(path)?;
    let key = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-"));
    Ok(key.map_or(first, str::to_owned))
}

/// Asks on a terminal; twice where it may be that of a new repository, since one that is mistyped then is lost.
///
/// # Errors
/// `USAGE` where there is no terminal, `NOT_CONFIRMED`.
pub async fn ask(new: bool) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let message = "there is no terminal to ask for the password; give --password-file";
        return Err(Failure::new(&codes::USAGE, message));
    }
    let asked = tokio::task::spawn_blocking(move || {
        let asked = dialoguer::Password::new().with_prompt("Password of the repository");
        if new { asked.with_confirmation("Again", "They differ").interact() } else { asked.interact() }
    });
    match asked.await {
        Ok(Ok(password)) => Ok(password),
        _ => Err(Failure::new(&codes::NOT_CONFIRMED, "no password was given")),
    }
}
