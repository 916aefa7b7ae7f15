//! A batch under way on top of the tables.

#[cfg(test)]
mod tests;

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
        let Some((edge, more)) = self.own_link(node)? else { return Ok(Vec::new()) };
        if !more {
            return Ok(vec![edge]);
        }
        // While another batch is committed, row by row, a name may move from the others into the node's own row, never
        // back, and it stands there before it is gone from here: looked for in this order it is found.
        let mut links = self.other_links(node)?;
        links.extend(self.own_link(node)?.map(|(edge, _)| edge));
        links.sort();
        links.dedup();
        Ok(links)
    }

    /// The name in a node's own row, and whether it has others.
    ///
    /// # Errors
    /// As the tables below.
    fn own_link(&self, node: NodeId) -> Result<Option<(Edge, bool)>, JournalError> {
        let row = self.value(Space::Links, &node.to_key())?;
        row.map(|row| rows::parse_link_row(&row)).transpose()
    }

    /// The names of a node beside the one in its own row.
    ///
    /// # Errors
    /// As the tables below.
    fn other_links(&self, node: NodeId) -> Result<Vec<Edge>, JournalError> {
        let own = node.to_key();
        let keys = self.keys(Space::Links, &own)?;
        let others = keys.iter().filter_map(|key| key.strip_prefix(&own[..])).filter(|edge| !edge.is_empty());
        others.map(rows::edge_of_name_key).collect()
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
    ///
    /// # Errors
    /// As the tables below.
    pub fn bind(&mut self, edge: &Edge, node: NodeId) -> Result<(), JournalError> {
        self.put(Space::Names, rows::name_key(edge), Some(node.to_key().to_vec()));
        match self.own_link(node)? {
            None => self.put_link_row(node, edge, false),
            Some((first, _)) if first == *edge => {}
            Some((first, more)) => {
                if !more {
                    self.put_link_row(node, &first, true);
                }
                self.put(Space::Links, rows::link_key(node, edge), Some(Vec::new()));
            }
        }
        Ok(())
    }

    /// Frees a name that is bound to `node`.
    ///
    /// # Errors
    /// As the tables below.
    pub fn unbind(&mut self, edge: &Edge, node: NodeId) -> Result<(), JournalError> {
        self.put(Space::Names, rows::name_key(edge), None);
        let Some((first, more)) = self.own_link(node)? else { return Ok(()) };
        if !more {
            if first == *edge {
                self.put(Space::Links, node.to_key().to_vec(), None);
            }
            return Ok(());
        }
        self.put(Space::Links, rows::link_key(node, edge), None);
        let mut others = self.other_links(node)?;
        if first != *edge {
            if others.is_empty() {
                self.put_link_row(node, &first, false);
            }
            return Ok(());
        }
        match others.pop() {
            Some(other) => {
                self.put_link_row(node, &other, !others.is_empty());
                self.put(Space::Links, rows::link_key(node, &other), None);
            }
            None => self.put(Space::Links, node.to_key().to_vec(), None),
        }
        Ok(())
    }

    fn put_link_row(&mut self, node: NodeId, edge: &Edge, more: bool) {
        self.put(Space::Links, node.to_key().to_vec(), Some(rows::link_row(edge, more)));
    }

    /// What is below the batch.
    pub(super) fn base(&self) -> &'t dyn Tables {
        self.base
    }

    /// Keys of a space that the batch sets or removes, ascending.
    pub(super) fn keys_put(&self, space: Space) -> impl Iterator<Item = &[u8]> {
        let from = (space, Vec::new());
        let of_space = self.puts.range(from..).take_while(move |((of, _), _)| *of == space);
        of_space.map(|((_, key), _)| key.as_slice())
    }

    /// Whether the batch sets or removes a key.
    pub(super) fn has_put(&self, space: Space, key: &[u8]) -> bool {
        self.puts.contains_key(&(space, key.to_vec()))
    }

    /// Rows put so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.puts.len()
    }

    /// Whether nothing was put.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty()
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
