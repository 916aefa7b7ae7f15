//! `scenario list`.

use crate::context::Context;
use crate::output::{Align, Table, path_text};
use crate::{Outcome, json};
use wire::{Exit, v1};

/// Lists scenarios by name.
///
/// # Errors
/// Those of the daemon.
pub async fn run(context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let mut stream = context.call(client.scenarios.list(v1::ListScenariosRequest {})).await?;
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("ID", Align::Right),
        ("STATE", Align::Left),
        ("ROOTS", Align::Left),
    ]);
    while let Some(scenario) = context.next(&mut stream).await? {
        if !context.out.object(&json::scenario(&scenario)) {
            break;
        }
        let definition = scenario.definition.clone().unwrap_or_default();
        let roots: Vec<_> = definition.roots.iter().map(|root| path_text(&root.master_path)).collect();
        table.row(vec![
            definition.name,
            scenario.id.clone(),
            scenario.state().word().to_owned(),
            roots.join(" "),
        ]);
    }
    let text = table.render();
    if text.is_empty() {
        context.out.talk("there is no scenario");
    } else {
        context.out.data(&text);
    }
    Ok(Exit::Done)
}
