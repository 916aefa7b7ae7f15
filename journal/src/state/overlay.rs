//! A batch under way on top of the tables.

use super::rows::{self, NodeRow};
use crate::error::JournalError;
use crate::id::{Edge, NodeId};
use crate::tables::{Put, Space, Tables, prefix_end};
use std::collections::BTreeMap;

/// The present state: what stands where, and what it is.
pub trait State {
    /// The value of a key.
    ///
    /// # Errors
    /// As the tables below.
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError>;

    /// All keys that begin with `prefix`; for short lists only.
    ///
    /// # Errors
    /// As the tables below.
    fn keys(&self, space: Space, prefix: &[u8]) -> Result<Vec<Vec<u8>>, JournalError>;

    /// The node at a name.
    ///
    /// # Errors
    /// As the tables below.
    fn name(&self, edge: &Edge) -> Result<Option<NodeId>, JournalError> {
        let value = self.value(Space::Names, &rows::name_key(edge))?;
        let parse = |value: Vec<u8>| {
            NodeId::from_key(&value).ok_or(JournalError::BadRow { space: Space::Names.name() })
        };
        value.map(parse).transpose()
    }

    /// The row of a node.
    ///
    /// # Errors
    /// As the tables below.
    fn node(&self, node: NodeId) -> Result<Option<NodeRow>, JournalError> {
        let value = self.value(Space::Nodes, &node.to_key())?;
        value.map(|value| rows::read(Space::Nodes, &value)).transpose()
    }

    /// The names of a node, in the order of their parents' ids.
    ///
    /// # Errors
    /// As the tables below.
    fn links(&self, node: NodeId) -> Result<Vec<Edge>, JournalError> {
        self.keys(Space::Links, &node.to_key())?
            .iter()
            .map(|key| rows::edge_of_name_key(key.get(8..).unwrap_or_default()))
            .collect()
    }
}

impl State for dyn Tables + '_ {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.get(space, key)
    }

    fn keys(&self, space: Space, prefix: &[u8]) -> Result<Vec<Vec<u8>>, JournalError> {
        self.range(space, prefix, &prefix_end(prefix)).map(|row| row.map(|(key, _)| key)).collect()
    }
}

/// The names of a node as applied last.
///
/// # Errors
/// As the tables.
pub fn links_of(tables: &dyn Tables, node: NodeId) -> Result<Vec<Edge>, JournalError> {
    State::links(tables, node)
}

/// Puts on top of tables, not yet committed.
pub struct Overlay<'t> {
    base: &'t dyn Tables,
    puts: BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>,
}

impl<'t> Overlay<'t> {
    /// An empty batch on `base`.
    #[must_use]
    pub fn new(base: &'t dyn Tables) -> Self {
        Overlay { base, puts: BTreeMap::new() }
    }

    /// Sets a key, or removes it.
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.puts.insert((space, key), value);
    }

    /// Sets the row of a node.
    pub fn put_node(&mut self, node: NodeId, row: &NodeRow) {
        self.put(Space::Nodes, node.to_key().to_vec(), Some(rows::write(row)));
    }

    /// Binds a name to a node.
    pub fn bind(&mut self, edge: &Edge, node: NodeId) {
        self.put(Space::Names, rows::name_key(edge), Some(node.to_key().to_vec()));
        self.put(Space::Links, rows::link_key(node, edge), Some(Vec::new()));
    }

    /// Frees a name that is bound to `node`.
    pub fn unbind(&mut self, edge: &Edge, node: NodeId) {
        self.put(Space::Names, rows::name_key(edge), None);
        self.put(Space::Links, rows::link_key(node, edge), None);
    }

    /// The batch, to be committed.
    #[must_use]
    pub fn into_puts(self) -> Vec<Put> {
        self.puts.into_iter().map(|((space, key), value)| (space, key, value)).collect()
    }
}

impl State for Overlay<'_> {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        match self.puts.get(&(space, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(space, key),
        }
    }

    fn keys(&self, space: Space, prefix: &[u8]) -> Result<Vec<Vec<u8>>, JournalError> {
        let below = State::keys(self.base, space, prefix)?;
        let mut keys: std::collections::BTreeSet<Vec<u8>> = below.into_iter().collect();
        let range = (space, prefix.to_vec())..(space, prefix_end(prefix));
        for ((_, key), value) in self.puts.range(range) {
            if value.is_some() {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().collect())
    }
}
