//! Log sequence numbers: the order of everything.
//!
//! An [`Lsn`] is an ordered pair. `captured` is minted by the master when it captures a change and is never
//! renumbered; `local` is minted by one replica for what it does to its own tree after the last captured change it
//! applied. The lexicographic order of the pair is the order in which a replica tree changes: a local branch
//! `N.1 .. N.k` always ends with the tree back at `N` before `N+1` is applied. Views, undo and retention rely on
//! exactly that: one linear history a replica.

use std::fmt;
use std::str::FromStr;

/// Position in the history of one scenario, printed `N` or `N.k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn {
    /// Number minted by the master; 0 before the first capture.
    pub captured: u64,
    /// Number minted by the replica after `captured`; 0 for a captured LSN.
    pub local: u64,
}

impl Lsn {
    /// The point before anything happened.
    pub const ZERO: Lsn = Lsn { captured: 0, local: 0 };
    /// Greater than every LSN that can be minted.
    pub const MAX: Lsn = Lsn { captured: u64::MAX, local: u64::MAX };

    /// The captured LSN `N`.
    #[must_use]
    pub const fn captured(n: u64) -> Self {
        Lsn { captured: n, local: 0 }
    }

    /// The local LSN `N.k`.
    #[must_use]
    pub const fn local(n: u64, k: u64) -> Self {
        Lsn { captured: n, local: k }
    }

    /// Whether a replica minted it.
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.local != 0
    }

    /// The least LSN greater than this one in the order of the pair.
    #[must_use]
    pub const fn successor(self) -> Self {
        if self.local == u64::MAX {
            Lsn { captured: self.captured.saturating_add(1), local: 0 }
        } else {
            Lsn { captured: self.captured, local: self.local + 1 }
        }
    }

    /// Sixteen bytes whose byte order is the order of LSNs (both halves big-endian).
    #[must_use]
    pub fn to_key(self) -> [u8; 16] {
        let mut key = [0; 16];
        let (high, low) = key.split_at_mut(8);
        high.copy_from_slice(&self.captured.to_be_bytes());
        low.copy_from_slice(&self.local.to_be_bytes());
        key
    }

    /// Inverse of [`Lsn::to_key`]; `None` unless given 16 bytes.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (high, low) = key.split_at_checked(8)?;
        Some(Lsn {
            captured: u64::from_be_bytes(high.try_into().ok()?),
            local: u64::from_be_bytes(low.try_into().ok()?),
        })
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.local == 0 {
            write!(f, "{}", self.captured)
        } else {
            write!(f, "{}.{}", self.captured, self.local)
        }
    }
}

/// A text that is not `N` or `N.k`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an LSN (N or N.k)")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseLsnError(text.to_owned());
        let number = |part: &str| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            part.parse::<u64>().map_err(|_| bad())
        };
        match text.split_once('.') {
            None => Ok(Lsn::captured(number(text)?)),
            Some((n, k)) => {
                let lsn = Lsn::local(number(n)?, number(k)?);
                if lsn.local == 0 { Err(bad()) } else { Ok(lsn) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_keys_is_order_of_lsns() {
        let sorted =
            [Lsn::ZERO, Lsn::captured(1), Lsn::local(1, 1), Lsn::local(1, 300), Lsn::captured(256), Lsn::MAX];
        for pair in sorted.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_key() < pair[1].to_key());
            assert_eq!(Lsn::from_key(&pair[0].to_key()), Some(pair[0]));
        }
    }

    #[test]
    fn texts() {
        for text in ["0", "17", "17.4"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "+1", "1.", ".1", "1.0", "1.2.3", "x", "99999999999999999999"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
