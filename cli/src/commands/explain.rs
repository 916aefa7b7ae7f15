//! `explain`: works without a daemon.

use crate::Outcome;
use crate::context::Context;
use crate::output::{Align, Table};
use serde_json::{Value, json};
use wire::codes::{self, CATALOGUE, Code};
use wire::{Exit, Failure};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Code such as RW0465; all of them are listed without
    code: Option<String>,
}

fn object(code: &Code) -> Value {
    json!({
        "code": code.id,
        "title": code.title,
        "reason": code.reason,
        "action": code.action,
        "module": code.module,
        "exit": code.exit.number(),
    })
}

/// Explains a code.
///
/// # Errors
/// `NO_SUCH_CODE`.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(id) = &args.code else {
        let mut table =
            Table::new(&[("CODE", Align::Left), ("EXIT", Align::Right), ("MEANING", Align::Left)]);
        for code in CATALOGUE.iter() {
            context.out.object(&object(code));
            table.row(vec![code.id.to_owned(), code.exit.number().to_string(), code.title.to_owned()]);
        }
        context.out.data(&table.render());
        return Ok(Exit::Done);
    };
    let code = codes::find(id)
        .ok_or_else(|| Failure::new(&codes::NO_SUCH_CODE, format!("there is no error code {id:?}")))?;
    context.out.object(&object(code));
    context.out.data(&format!(
        "{}: {}\n  reason: {}\n  action: {}\n  exit status {}, module {}",
        code.id,
        code.title,
        code.reason,
        code.action,
        code.exit.number(),
        code.module
    ));
    Ok(Exit::Done)
}
