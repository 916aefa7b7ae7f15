//! The one place where errors are shown.

use crate::output::write_stdout;
use console::style;
use serde_json::{Value, json};
use wire::{Exit, Failure, codes};

/// An error as JSON.
pub fn to_json(failure: &Failure) -> Value {
    json!({
        "code": failure.code,
        "message": failure.message,
        "reason": failure.reason,
        "action": failure.action,
        "module": failure.module,
    })
}

/// An error for people.
pub fn render(failure: &Failure) -> String {
    let head = style(format!("error[{}]", failure.code)).for_stderr().red().bold();
    let mut text = format!("{head}: {}", failure.message);
    for (label, value) in [("reason", &failure.reason), ("action", &failure.action)] {
        if !value.is_empty() {
            text.push_str(&format!("\n  {}: {value}", style(label).for_stderr().bold()));
        }
    }
    text
}

/// Shows an error and says what to exit with.
pub fn show(failure: &Failure, json: bool) -> Exit {
    if json {
        write_stdout(&json!({ "error": to_json(failure) }).to_string());
    } else {
        eprintln!("{}", render(failure));
    }
    failure.exit
}

/// Shows what is wrong with a command line, or the help that was asked for.
pub fn show_usage(error: &clap::Error, json: bool) -> Exit {
    if error.use_stderr() && json {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        return show(&Failure::new(&codes::USAGE, message), true);
    }
    // Help goes to stdout; a closed one is nobody's fault.
    drop(error.print());
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
