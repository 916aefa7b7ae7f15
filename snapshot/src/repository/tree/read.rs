//! Reading trees that anybody may have written.
//!
//! Nodes are handed out one at a time while the JSON is parsed, so memory is that of one node. A tree in ascending order
//! of names cannot hold a name twice. Other orders are of old programs: there the names are looked at first, at the cost
//! of a second pass.

use super::go_text::unquote;
use super::node_json::{kind_named, permissions_of};
use super::{Node, NodeKind, Xattr, refusal};
use crate::repository::base64;
use crate::repository::error::RepositoryError;
use crate::repository::id::Id;
use crate::repository::time::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

pub(super) const UNQUOTED: &str = "the name is not quoted as the format says";

/// A node as it is written. Go writes `null` for what is absent in lists.
#[derive(Deserialize)]
pub(super) struct NodeJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    mtime: Timestamp,
    #[serde(default)]
    atime: Timestamp,
    #[serde(default)]
    ctime: Timestamp,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(borrow, default)]
    linktarget: Cow<'a, str>,
    #[serde(borrow, default)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    #[serde(borrow)]
    extended_attributes: Option<Vec<XattrJson<'a>>>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct XattrJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
}

impl NodeJson<'_> {
    pub(super) fn into_node(self) -> Result<Node, &'static str> {
        const XATTR: &str = "an extended attribute is not base64";
        let link_target = match self.linktarget_raw {
            Some(raw) => base64::decode(&raw).ok_or("the link target is not base64")?.to_vec(),
            None => self.linktarget.into_owned().into_bytes(),
        };
        let mut xattrs = Vec::new();
        for xattr in self.extended_attributes.unwrap_or_default() {
            let value = base64::decode(xattr.value.as_deref().unwrap_or_default()).ok_or(XATTR)?;
            xattrs.push(Xattr { name: xattr.name.into_owned().into_bytes(), value: value.to_vec() });
        }
        let kind = kind_named(&self.kind);
        let node = Node {
            name: unquote(&self.name).ok_or(UNQUOTED)?,
            kind,
            permissions: permissions_of(self.mode),
            modified: self.mtime,
            accessed: self.atime,
            changed: self.ctime,
            uid: self.uid,
            gid: self.gid,
            user: self.user,
            group: self.group,
            inode: self.inode,
            device_id: self.device_id,
            size: self.size,
            links: self.links,
            link_target,
            xattrs,
            device: self.device,
            content: if kind == NodeKind::File { self.content.unwrap_or_default() } else { Vec::new() },
            subtree: self.subtree,
        };
        refusal(&node).map_or(Ok(node), Err)
    }
}

/// Hands out the nodes of a tree in their order until `each` returns false. `id` is the tree's, for messages.
///
/// # Errors
/// `Json`; `Node` for one that is not acceptable; `TooLarge`. Nodes before it were handed out by then.
pub fn read_tree(id: &Id, json: &[u8], each: &mut dyn FnMut(Node) -> bool) -> Result<(), RepositoryError> {
    let size = json.len() as u64;
    if size > super::TREE_BYTES_MAX {
        let limit = super::TREE_BYTES_MAX;
        return Err(RepositoryError::TooLarge { what: "a directory's tree", size, limit });
    }
    let mut state =
        Reading { id, json, each, index: 0, last: Vec::new(), distinct: false, outcome: Ok(true) };
    let mut parser = serde_json::Deserializer::from_slice(json);
    let parsed = parser.deserialize_map(&mut state).and_then(|()| parser.end());
    match (state.outcome, parsed) {
        (Err(error), _) => Err(error),
        (Ok(false), _) | (Ok(true), Ok(())) => Ok(()),
        (Ok(true), Err(source)) => Err(RepositoryError::Json { object: format!("tree {id}"), source }),
    }
}

struct Reading<'a> {
    id: &'a Id,
    json: &'a [u8],
    each: &'a mut dyn FnMut(Node) -> bool,
    index: u64,
    last: Vec<u8>,
    /// The names were looked at and all differ.
    distinct: bool,
    /// Whether to go on, apart from what the parser says.
    outcome: Result<bool, RepositoryError>,
}

impl Reading<'_> {
    fn node(&mut self, json: NodeJson<'_>) -> Result<bool, RepositoryError> {
        let refuse = |what| RepositoryError::Node { tree: *self.id, index: self.index, what };
        let node = json.into_node().map_err(refuse)?;
        if node.name <= self.last && !self.distinct {
            if !all_names_differ(self.json) {
                return Err(refuse("the tree has a name twice"));
            }
            self.distinct = true;
        }
        self.last.clone_from(&node.name);
        self.index += 1;
        Ok((self.each)(node))
    }
}

impl<'de> Visitor<'de> for &mut Reading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<&str>()? {
            if key == "nodes" && found {
                return Err(serde::de::Error::duplicate_field("nodes"));
            } else if key == "nodes" {
                found = true;
                map.next_value_seed(Nodes(&mut *self))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("nodes")) }
    }
}

struct Nodes<'a, 'b>(&'a mut Reading<'b>);

impl<'de> DeserializeSeed<'de> for Nodes<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Nodes<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<(), A::Error> {
        while let Some(json) = nodes.next_element::<NodeJson<'_>>()? {
            let outcome = self.0.node(json);
            if !matches!(outcome, Ok(true)) {
                self.0.outcome = outcome;
                // The parser is told to stop; the outcome says why.
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

fn all_names_differ(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Names<'a> {
        #[serde(borrow)]
        nodes: Vec<NameOnly<'a>>,
    }
    #[derive(Deserialize)]
    struct NameOnly<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let Ok(names) = serde_json::from_slice::<Names<'_>>(json) else { return false };
    let mut seen = HashSet::with_capacity(names.nodes.len());
    names.nodes.iter().all(|node| unquote(&node.name).is_some_and(|name| seen.insert(name)))
}
