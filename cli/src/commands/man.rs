//! `man`: one page for the whole program, with a section a verb.

use crate::Outcome;
use crate::args::Cli;
use crate::output::write_stdout;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use std::io::{self, Write};
use wire::{Exit, Failure, codes};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the manual page.
///
/// # Errors
/// None in practice: it is written to memory first.
pub fn run(_: &Args) -> Outcome {
    let mut page = Vec::new();
    render(&mut page).map_err(|error| Failure::new(&codes::INTERNAL, error.to_string()))?;
    write_stdout(String::from_utf8_lossy(&page).trim_end());
    Ok(Exit::Done)
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone()).title("RESTORECTL").section("1");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    writeln!(page, ".SH COMMANDS")?;
    verbs(&command, "restorectl", page)?;
    man.render_version_section(page)
}

/// A paragraph for every verb, in the order of the help.
fn verbs(command: &Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for verb in command.get_subcommands() {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &path, page)?;
            continue;
        }
        let usage = verb.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        writeln!(page, ".SS {}", escape(usage))?;
        if let Some(about) = verb.get_long_about().or_else(|| verb.get_about()) {
            writeln!(page, "{}", escape(&about.to_string()))?;
        }
        for argument in verb.get_arguments().filter(|argument| !argument.is_hide_set() && own(argument)) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(&argument.to_string()), escape(&help))?;
        }
    }
    Ok(())
}

/// Options every verb has are described once.
fn own(argument: &clap::Arg) -> bool {
    argument.get_help_heading() != Some("Global options")
        && argument.get_id() != "help"
        && argument.get_id() != "version"
}

/// Backslashes, leading dots and hyphens mean something to roff.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text
        .lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}
