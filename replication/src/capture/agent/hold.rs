//! Whether an application is still held when a barrier stands.
//!
//! A barrier of class application says that what is in the stream before it is what an application at rest had on its
//! disk. The capture thread decides that at the moment it marks the barrier, when all that the barrier covers has been
//! read already: if nobody has ended the hold by then, everything was read while it lasted. Whoever ends it does so
//! *before* the application goes on. So there is no lock, and a barrier that comes late is never called more than fuzzy.

use journal::Class;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const HELD: u8 = 0;
/// It ended before the barrier stood.
const OVER: u8 = 1;
/// The barrier stood first, and has class application.
const MARKED: u8 = 2;
/// The barrier stood first, but something may have been missed.
const DOUBTFUL: u8 = 3;

/// An application that is held still for one barrier.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<AtomicU8>);

impl Hold {
    /// Says that the application goes on from now. Whether the barrier has got class application before.
    pub fn end(&self) -> bool {
        let ended = self.0.compare_exchange(HELD, OVER, Ordering::SeqCst, Ordering::SeqCst);
        ended == Err(MARKED)
    }

    /// The barrier stood in time, but in a gap that is open.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.0.load(Ordering::SeqCst) == DOUBTFUL
    }

    fn mark(&self, exact: bool) -> Class {
        let to = if exact { MARKED } else { DOUBTFUL };
        match self.0.compare_exchange(HELD, to, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) if exact => Class::Application,
            _ => Class::Fuzzy,
        }
    }
}

/// What a barrier that waits is to be called.
pub(super) enum Standing {
    /// What the caller vouches for.
    Class(Class),
    /// As the hold stands then.
    Held(Hold),
}

impl Standing {
    /// `exact`: no gap is open.
    pub(super) fn class(&self, exact: bool) -> Class {
        match self {
            Standing::Class(class) => *class,
            Standing::Held(hold) => hold.mark(exact),
        }
    }
}

#[cfg(test)]
mod tests;
