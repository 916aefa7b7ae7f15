//! Where the next page of an answer begins.
//!
//! A stretch (1 catalog, 2 sessions, 3 window) and a place in it, if it has begun. Tokens come back from clients, so
//! everything in them is checked: a wrong one gives another page, or is refused, and nothing worse.

use crate::engine::{EngineError, EngineResult};
use snapshot::catalog::PageToken;
use snapshot::repository::Id;
use wire::codes;

/// A place in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// In what the catalog holds.
    Catalog(Option<PageToken>),
    /// In sessions that it lacks: one of them, and its entries looked at.
    Session(Option<(Id, u64)>),
    /// In the window: behind this scenario and path.
    Window(Option<(String, Vec<u8>)>),
}

impl Token {
    pub(super) fn start() -> Self {
        Token::Catalog(None)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Token::Catalog(after) => {
                [&[1][..], &after.as_ref().map(PageToken::to_bytes).unwrap_or_default()].concat()
            }
            Token::Session(None) => vec![2],
            Token::Session(Some((id, seen))) => [&[2][..], &id.0, &seen.to_le_bytes()].concat(),
            Token::Window(None) => vec![3],
            Token::Window(Some((scenario, path))) => [&[3][..], scenario.as_bytes(), &[0], path].concat(),
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> EngineResult<Self> {
        let bad =
            || EngineError::new(&codes::BAD_PARAMETERS, "the page token is none that this server gave out");
        let (stretch, rest) = bytes.split_first().ok_or_else(bad)?;
        match (stretch, rest) {
            (1, []) => Ok(Token::Catalog(None)),
            (1, rest) => {
                PageToken::from_bytes(rest).map(|token| Token::Catalog(Some(token))).map_err(|_| bad())
            }
            (2, []) => Ok(Token::Session(None)),
            (2, rest) => {
                let (id, seen) = rest.split_first_chunk::<32>().ok_or_else(bad)?;
                let seen = u64::from_le_bytes(seen.try_into().map_err(|_| bad())?);
                Ok(Token::Session(Some((Id(*id), seen))))
            }
            (3, []) => Ok(Token::Window(None)),
            (3, rest) => {
                let end = rest.iter().position(|byte| *byte == 0).ok_or_else(bad)?;
                let (scenario, path) = rest.split_at_checked(end).ok_or_else(bad)?;
                let scenario = std::str::from_utf8(scenario).map_err(|_| bad())?.to_owned();
                Ok(Token::Window(Some((scenario, path.get(1..).unwrap_or_default().to_vec()))))
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests;
