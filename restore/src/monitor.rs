//! How long operations tell how far they are, and learn that they are no longer wanted.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Finding what differs; counts rows.
    Compare,
    /// Putting names, bytes and metadata back; counts changes.
    Rewind,
    /// Writing into a directory; counts objects.
    Extract,
}

/// Receives progress. Cheap: called often.
pub trait Monitor: Sync {
    /// `done` of `total` units of a phase, where the total is known.
    fn progress(&self, phase: Phase, done: u64, total: Option<u64>);

    /// Whether to stop. What was done stays; the same call later goes on from there.
    fn cancelled(&self) -> bool;
}

/// Nobody listens and nobody cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {
    fn progress(&self, _: Phase, _: u64, _: Option<u64>) {}

    fn cancelled(&self) -> bool {
        false
    }
}
