//! Trees as the texts of their nodes, for those who compare or edit trees and need few of the nodes.
//!
//! Telling where a node's text ends is several times cheaper than reading what is in it. Two nodes of the same text are
//! the same node, whatever they say; so what was not read is never judged here, and whoever reads the tree later judges it
//! as [`read_tree`](super::read_tree) does. A node's text is one value of JSON: copied into another list of nodes it cannot
//! become anything else.

use super::go_text::unquote;
use super::read::{NodeJson, UNQUOTED};
use super::{Node, TREE_BYTES_MAX, name_refusal};
use crate::repository::error::RepositoryError;
use crate::repository::id::Id;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// A tree, node by node in ascending order of names, whatever their order in the tree; some 50 bytes each.
pub struct RawTree<'j> {
    nodes: Vec<RawNode<'j>>,
}

/// A node of which only the name has been read.
#[derive(Clone, Debug)]
pub struct RawNode<'j> {
    tree: Id,
    index: usize,
    name: Cow<'j, [u8]>,
    text: &'j str,
}

impl<'j> RawTree<'j> {
    /// Finds the nodes of a tree. `id` is the tree's, for messages.
    ///
    /// # Errors
    /// `Json`; `Node` for a name that is not acceptable, or there twice; `TooLarge`.
    pub fn new(id: &Id, json: &'j [u8]) -> Result<Self, RepositoryError> {
        #[derive(Deserialize)]
        struct Tree<'a> {
            // May be null, as Go writes an empty list, and must be there.
            #[serde(borrow, deserialize_with = "Option::deserialize")]
            nodes: Option<Vec<&'a RawValue>>,
        }
        let size = json.len() as u64;
        if size > TREE_BYTES_MAX {
            let limit = TREE_BYTES_MAX;
            return Err(RepositoryError::TooLarge { what: "a directory's tree", size, limit });
        }
        let parsed: Tree<'_> = serde_json::from_slice(json)
            .map_err(|source| RepositoryError::Json { object: format!("tree {id}"), source })?;
        let found = parsed.nodes.unwrap_or_default().into_iter().enumerate();
        let mut nodes =
            found.map(|(index, raw)| RawNode::new(*id, index, raw.get())).collect::<Result<Vec<_>, _>>()?;
        if !nodes.is_sorted_by(|one, next| one.name <= next.name) {
            nodes.sort_by(|one, next| one.name.cmp(&next.name));
        }
        let twice = nodes.iter().zip(nodes.iter().skip(1)).find(|(one, next)| one.name == next.name);
        match twice {
            Some((_, next)) => Err(next.refuse("the tree has a name twice")),
            None => Ok(RawTree { nodes }),
        }
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &RawNode<'j>> {
        self.nodes.iter()
    }
}

/// A tree together with its text, whose nodes have been found: for who looks at it twice. Twelve bytes a node beside the
/// text, of which finding the nodes is the expensive part.
pub struct FoundTree {
    id: Id,
    json: Vec<u8>,
    /// Where the nodes lie in the text, by name, each with its number in the tree.
    places: Vec<(Range<u32>, u32)>,
}

impl FoundTree {
    /// Finds the nodes of a tree.
    ///
    /// # Errors
    /// As [`RawTree::new`].
    pub fn new(id: &Id, json: Vec<u8>) -> Result<Self, RepositoryError> {
        let start = json.as_ptr() as usize;
        let place = |node: &RawNode<'_>| {
            // The text of a node is a part of the tree's, which is shorter than 4 GiB.
            let at = (node.text.as_ptr() as usize - start) as u32;
            (at..at + node.text.len() as u32, node.index as u32)
        };
        let places = RawTree::new(id, &json)?.nodes().map(place).collect();
        Ok(FoundTree { id: *id, json, places })
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// None, in fact: what is read here was read before.
    pub fn nodes(&self) -> impl Iterator<Item = Result<RawNode<'_>, RepositoryError>> {
        self.places.iter().map(|(place, index)| {
            let text = self.json.get(place.start as usize..place.end as usize).unwrap_or_default();
            RawNode::new(self.id, *index as usize, std::str::from_utf8(text).unwrap_or_default())
        })
    }

    /// Bytes of its text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Bytes it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.json.capacity() + self.places.capacity() * size_of::<(Range<u32>, u32)>()
    }
}

impl<'j> RawNode<'j> {
    fn new(tree: Id, index: usize, text: &'j str) -> Result<Self, RepositoryError> {
        let mut node = RawNode { tree, index, name: Cow::Borrowed(&[]), text };
        node.name = match plain_name(text) {
            Some(name) => Cow::Borrowed(name.as_bytes()),
            None => Cow::Owned(
                name_of(text).map_err(|source| node.json(source))?.ok_or_else(|| node.refuse(UNQUOTED))?,
            ),
        };
        match name_refusal(&node.name) {
            Some(what) => Err(node.refuse(what)),
            None => Ok(node),
        }
    }

    /// The node of a text that came out of the tree `id` at `index`.
    ///
    /// # Errors
    /// As [`RawTree::new`] and [`RawNode::read`].
    pub fn read_text(id: Id, index: usize, text: &'j str) -> Result<Node, RepositoryError> {
        Self::new(id, index, text)?.read()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &'j str {
        self.text
    }

    /// What it says.
    ///
    /// # Errors
    /// `Json`, `Node`.
    pub fn read(&self) -> Result<Node, RepositoryError> {
        let read: NodeJson<'_> = serde_json::from_str(self.text).map_err(|source| self.json(source))?;
        read.into_node().map_err(|what| self.refuse(what))
    }

    fn refuse(&self, what: &'static str) -> RepositoryError {
        RepositoryError::Node { tree: self.tree, index: self.index as u64, what }
    }

    fn json(&self, source: serde_json::Error) -> RepositoryError {
        RepositoryError::Json { object: format!("node {} of tree {}", self.index, self.tree), source }
    }
}

/// The name of a node as programs write it: first of all, and mostly with nothing quoted in it.
fn plain_name(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("{\"name\":\"")?;
    let end = memchr::memchr2(b'"', b'\\', rest.as_bytes())?;
    let (name, after) = rest.split_at_checked(end)?;
    after.starts_with('"').then_some(name)
}

/// The name of any node; none if it is not quoted as the format says.
fn name_of(text: &str) -> Result<Option<Vec<u8>>, serde_json::Error> {
    #[derive(Deserialize)]
    struct NameOnly<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let read: NameOnly<'_> = serde_json::from_str(text)?;
    Ok(unquote(&read.name))
}

/// Hands out what two trees do not have in common, by name in ascending order: what the first has there, and what the
/// second has. Ends when `each` returns false.
///
/// # Errors
/// As [`RawTree::new`] and [`RawNode::read`].
pub fn compare_trees(
    old: Option<&RawTree<'_>>,
    new: Option<&RawTree<'_>>,
    each: &mut dyn FnMut(Option<Node>, Option<Node>) -> bool,
) -> Result<(), RepositoryError> {
    let mut old = old.into_iter().flat_map(RawTree::nodes).peekable();
    let mut new = new.into_iter().flat_map(RawTree::nodes).peekable();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.name.cmp(&other.name),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let same = before.zip(after).is_some_and(|(before, after)| before.text == after.text);
        if !same && !each(before.map(RawNode::read).transpose()?, after.map(RawNode::read).transpose()?) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
