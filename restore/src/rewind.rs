//! Making the present tree equal to a point: deciding (`plan`) and doing (`execute`).

mod captures;
mod exact;
mod execute;
mod listing;
mod names;
mod onto_master;
mod plan;
mod steps;
#[cfg(test)]
mod tests;

pub use captures::{Captures, LocalCapture};
pub(crate) use execute::set_before;
pub use execute::{
    EventSink, LocalGroup, ReplicaControl, ReturnReport, RewindOptions, RewindReport, before_name,
    return_to_capture, rewind_replica,
};
pub use names::{Note, NoteKind};
pub use onto_master::{MasterReport, rewind_master};
pub use plan::{RewindPlan, Statistics};
