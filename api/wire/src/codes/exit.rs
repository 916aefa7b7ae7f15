//! Exit status of the command line: frozen numbers, and nothing else.

/// Exit status of the command line (the table in the documentation of `restorectl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Done, but something was skipped and is listed.
    Incomplete = 3,
    /// No such scenario, bookmark, path ...
    NotFound = 4,
    /// Refused in the present state.
    Refused = 5,
    /// Not authenticated or not permitted.
    NotPermitted = 6,
    /// Timed out.
    TimedOut = 7,
    /// Data is damaged or differs.
    Differs = 8,
    /// Cancelled.
    Cancelled = 130,
}

impl Exit {
    /// Every exit status there is.
    pub const ALL: [Exit; 10] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Incomplete,
        Exit::NotFound,
        Exit::Refused,
        Exit::NotPermitted,
        Exit::TimedOut,
        Exit::Differs,
        Exit::Cancelled,
    ];

    /// The number a process exits with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Inverse of [`Exit::number`].
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Exit::ALL.into_iter().find(|exit| exit.number() == number)
    }
}
