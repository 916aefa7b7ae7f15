//! From what is known of a scenario to the word that people see.

use crate::definition::Definition;
use crate::engine::{EngineError, EngineResult, Scenario, State};
use crate::records::Wanted;
use crate::registry::Entry;
use replication::replica::Halt;
use wire::codes;
use wire::stream::AgentState;

/// What decides the state of a scenario.
pub(super) struct Facts<'a> {
    pub wanted: Wanted,
    pub detached: bool,
    pub halt: Option<&'a Halt>,
    /// Why the replica side could not be opened, or the stream has ended.
    pub broken: Option<&'a str>,
    /// `NotAuthorized`, if the stream was refused for that.
    pub refused: bool,
    pub attached: bool,
    pub agent: Option<AgentState>,
    pub agent_cause: Option<&'a str>,
    pub first_synchronization: bool,
    /// A `run` is under way.
    pub running: bool,
}

/// State and cause.
pub(super) fn decide(facts: &Facts<'_>) -> (State, Option<String>) {
    if facts.refused {
        return (State::NotAuthorized, facts.broken.map(str::to_owned));
    }
    if let Some(cause) = facts.broken {
        return (State::Problem, Some(cause.to_owned()));
    }
    if let Some(Halt::Stopped(cause)) = facts.halt {
        return (State::Problem, Some(cause.clone()));
    }
    if facts.detached {
        // Capture is to go on meanwhile: if it does not, that must not wait until somebody resumes.
        let broken = (facts.agent == Some(AgentState::Problem)).then_some(facts.agent_cause).flatten();
        let capture = broken.map(|cause| format!("capture does not run: {cause}"));
        return (State::Detached, capture.or_else(|| halt_text(facts.halt)));
    }
    if facts.wanted == Wanted::Stopped && !facts.running {
        return (State::Stopped, None);
    }
    match facts.agent {
        Some(AgentState::Problem) => return (State::Problem, facts.agent_cause.map(str::to_owned)),
        Some(AgentState::Starting | AgentState::Synchronizing) => {
            return (State::Synchronizing, halt_text(facts.halt));
        }
        _ => {}
    }
    if facts.running || facts.first_synchronization {
        return (State::Synchronizing, halt_text(facts.halt));
    }
    if facts.wanted == Wanted::Suspended {
        return (State::Suspended, None);
    }
    match (facts.attached, facts.agent) {
        (false, _) => (State::Problem, Some("the master is not connected".to_owned())),
        (true, Some(AgentState::Stopped)) => {
            (State::Problem, Some("capture does not run on the master".to_owned()))
        }
        (true, None) => (State::Synchronizing, None),
        (true, _) => (State::Replicating, halt_text(facts.halt)),
    }
}

fn halt_text(halt: Option<&Halt>) -> Option<String> {
    match halt {
        Some(Halt::Full(cause)) => Some(format!("apply pauses until there is room: {cause}")),
        Some(Halt::Failing(cause)) => Some(format!("apply is tried again: {cause}")),
        Some(Halt::Stopped(cause)) => Some(cause.clone()),
        None => None,
    }
}

/// A scenario for people.
pub(super) fn scenario(entry: &Entry, state: State) -> Scenario {
    Scenario { id: entry.id, definition: entry.definition.clone(), created: entry.created, state }
}

/// What needs the disks: roots are there, replica roots are empty or adopted, nothing overlaps behind links.
pub(super) fn check_new(definition: &Definition, master_here: bool) -> EngineResult<()> {
    let mut places = Vec::new();
    for root in &definition.roots {
        if master_here {
            let real = std::fs::canonicalize(&root.master).map_err(|error| {
                EngineError::new(
                    &codes::NO_SUCH_ROOT,
                    format!("root {} cannot be used", root.master.display()),
                )
                .caused_by(error)
            })?;
            if !real.is_dir() {
                let message = format!("root {} is not a directory", root.master.display());
                return Err(EngineError::new(&codes::NO_SUCH_ROOT, message));
            }
            places.push((root.master.clone(), real));
        }
        let Some(replica) = &root.replica else { continue };
        match std::fs::read_dir(replica) {
            Ok(mut entries) => {
                if entries.next().is_some() && !definition.adopt {
                    let message = format!("replica root {} is not empty", replica.display());
                    return Err(EngineError::new(&codes::REPLICA_NOT_EMPTY, message));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(EngineError::io("read the replica root", replica, error)),
        }
        // What is not there yet has no links; what is above it may.
        let above = replica.ancestors().find(|above| above.exists()).unwrap_or(replica);
        if let (Ok(real), Ok(rest)) = (std::fs::canonicalize(above), replica.strip_prefix(above)) {
            places.push((replica.clone(), real.join(rest)));
        }
    }
    for (number, (path, real)) in places.iter().enumerate() {
        for (other, other_real) in places.iter().skip(number + 1) {
            if real.starts_with(other_real) || other_real.starts_with(real) {
                let message = format!("{} and {} overlap", path.display(), other.display());
                return Err(EngineError::new(&codes::ROOTS_OVERLAP, message));
            }
        }
    }
    Ok(())
}
