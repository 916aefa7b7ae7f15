//! `scenario verify`.

use super::Name;
use crate::context::Context;
use crate::output::{Align, Table, path_text};
use crate::{Outcome, json};
use console::style;
use wire::{Exit, v1};

/// Checks both sides; refused when a finding is an error.
///
/// # Errors
/// Those of the daemon.
pub async fn run(name: Name, context: &Context) -> Outcome {
    let scenario = name.name.clone();
    let mut client = context.client().await?;
    let preflight = context.call(client.scenarios.verify(name.message())).await?;
    context.out.object(&json::preflight(&scenario, &preflight));
    let columns = ["LEVEL", "SIDE", "CHECK", "FINDING"].map(|heading| (heading, Align::Left));
    let mut table = Table::new(&columns);
    for finding in &preflight.findings {
        let level = match finding.level() {
            v1::Level::Error => style("error").red().to_string(),
            v1::Level::Warning => style("warning").yellow().to_string(),
            other => other.word().to_owned(),
        };
        let mut text = finding.text.clone();
        if !finding.path.is_empty() {
            text.push_str(&format!(" ({})", path_text(&finding.path)));
        }
        table.row(vec![level, finding.side.clone(), finding.check.clone(), text]);
    }
    if !preflight.findings.is_empty() {
        context.out.data(&table.render());
    }
    if preflight.passed {
        context.out.data(&format!("scenario \"{scenario}\" may run"));
        Ok(Exit::Done)
    } else {
        context.out.data(&format!("scenario \"{scenario}\" may not run before the errors are resolved"));
        Ok(Exit::Refused)
    }
}
