//! `repository list`.

use crate::context::Context;
use crate::output::{Align, Table, local_time};
use crate::{Outcome, json};
use wire::{Exit, v1};

/// Lists repositories, by name.
///
/// # Errors
/// Those of the daemon.
pub async fn run(context: &Context) -> Outcome {
    let mut client = context.client().await?;
    let mut stream = context.call(client.repositories.list(v1::ListRepositoriesRequest {})).await?;
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("URL", Align::Left),
        ("ID", Align::Left),
        ("ADDED", Align::Left),
    ]);
    while let Some(repository) = context.next(&mut stream).await? {
        if !context.out.object(&json::repository(&repository)) {
            break;
        }
        table.row(vec![
            repository.name.clone(),
            repository.url.clone(),
            repository.id.chars().take(8).collect(),
            local_time(repository.added.as_ref()),
        ]);
    }
    let text = table.render();
    if text.is_empty() {
        context.out.talk("there is no repository");
    } else {
        context.out.data(&text);
    }
    Ok(Exit::Done)
}
