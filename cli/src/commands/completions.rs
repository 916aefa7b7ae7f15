//! `completions`.

use crate::Outcome;
use crate::args::Cli;
use crate::output::write_stdout;
use clap::CommandFactory;
use clap_complete::Shell;
use wire::Exit;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints a completion script.
///
/// # Errors
/// None.
pub fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "restorectl", &mut script);
    write_stdout(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
