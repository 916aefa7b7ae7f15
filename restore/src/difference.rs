//! What differs between two points, for people and for plans.
//!
//! Finding it is the journal's business ([`Difference`]); here it is told how far it is, and cut to what was asked for.

pub(crate) mod list;
#[cfg(test)]
mod tests;

pub use list::{Entry, Totals, list};

use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use journal::TreeIo;
use journal::view::{Difference, View};

/// Finds what differs between two views of one replica.
///
/// # Errors
/// As the tables; `Cancelled`.
pub fn between<'v, T: TreeIo>(
    from: &'v View<T>,
    to: &'v View<T>,
    monitor: &dyn Monitor,
) -> Result<Difference<'v, T>, RestoreError> {
    let mut go_on = |rows| {
        monitor.progress(Phase::Compare, rows, None);
        !monitor.cancelled()
    };
    Difference::between(from, to, &mut go_on)
        .map_err(RestoreError::journal("find what differs"))?
        .ok_or(RestoreError::Cancelled)
}
