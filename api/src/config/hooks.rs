//! The key `hooks` of a master: a word, or a list of commands.

use replication::hooks::HooksAllowed;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;

/// See [`HooksAllowed`].
pub(super) struct Hooks(pub(super) HooksAllowed);

impl<'de> Deserialize<'de> for Hooks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

const EXPECTED: &str = "\"allow\", \"owner\", \"refuse\" or a list of commands";

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Hooks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Hooks, E> {
        match word {
            "allow" => Ok(Hooks(HooksAllowed::Any)),
            "owner" => Ok(Hooks(HooksAllowed::Owner)),
            "refuse" => Ok(Hooks(HooksAllowed::None)),
            other => Err(E::custom(format!("{other:?} is not {EXPECTED}"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hooks, A::Error> {
        let mut commands = BTreeSet::new();
        while let Some(command) = list.next_element::<String>()? {
            commands.insert(command);
        }
        Ok(Hooks(HooksAllowed::Listed(commands)))
    }
}
