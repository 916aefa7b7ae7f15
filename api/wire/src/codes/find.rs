//! Looking a code up by what a person typed. Nothing but the catalogue is known here.

use super::{CATALOGUE, Code};

/// The entry with this id, in any case, with or without `RW`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    let upper = id.trim().to_ascii_uppercase();
    let digits = upper.strip_prefix("RW").unwrap_or(&upper);
    CATALOGUE.iter().copied().find(|code| code.id.strip_prefix("RW") == Some(digits))
}
