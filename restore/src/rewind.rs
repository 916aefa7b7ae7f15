//! Making the present tree equal to a point: deciding (`plan`) and doing (`execute`).

mod captures;
mod exact;
mod execute;
mod names;
mod plan;
#[cfg(test)]
mod tests;

pub use captures::{Captures, LocalCapture};
pub use execute::{
    EventSink, LocalGroup, ReplicaControl, ReturnReport, RewindOptions, RewindReport, before_name,
    return_to_capture, rewind_replica,
};
pub use names::{Note, NoteKind};
pub use plan::{RewindPlan, Statistics};
