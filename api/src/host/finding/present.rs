//! What the newest points hold: is a path still there?
//!
//! Rows come in the order of directories, so of each scenario the last directory is remembered; asking for another file
//! in it costs one lookup.

use super::super::Host;
use crate::engine::EngineResult;
use journal::{Edge, Name, NodeId, RootNo};
use replication::os_tree::OsTree;
use replication::replica::LeasedView;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

/// The newest points of all scenarios that were asked for.
pub(in crate::host) struct Present<'h> {
    host: &'h Host,
    scenarios: HashMap<String, Option<Scenario>>,
}

struct Scenario {
    view: LeasedView<OsTree>,
    roots: Vec<Vec<u8>>,
    /// A directory's path and node; `None`: it is not there.
    last: Option<(Vec<u8>, Option<NodeId>)>,
}

impl<'h> Present<'h> {
    pub(in crate::host) fn new(host: &'h Host) -> Self {
        Present { host, scenarios: HashMap::new() }
    }

    /// Whether the newest point of a scenario holds a path; `None` if it has no point to ask, or does not protect it.
    pub(in crate::host) fn holds(&mut self, scenario: &str, path: &[u8]) -> EngineResult<Option<bool>> {
        if !self.scenarios.contains_key(scenario) {
            let opened = open(self.host, scenario);
            self.scenarios.insert(scenario.to_owned(), opened);
        }
        match self.scenarios.get_mut(scenario) {
            Some(Some(open)) => open.holds(path),
            _ => Ok(None),
        }
    }
}

/// A scenario that is not here, not synchronized or not to be opened has no newest point.
fn open(host: &Host, name: &str) -> Option<Scenario> {
    let scene = host.scene(name).ok()?;
    let newest = scene.resolve(&crate::points::PointSpec::Now).ok()?;
    let view = scene.replica().ok()?.view(newest.lsn).ok()?;
    let roots = scene.definition().roots;
    let roots = roots.iter().map(|root| root.master.as_os_str().as_bytes().to_vec()).collect();
    Some(Scenario { view, roots, last: None })
}

/// The root that holds a path, and what is left of the path below it.
pub(super) fn below_root<'p>(roots: &[Vec<u8>], path: &'p [u8]) -> Option<(RootNo, &'p [u8])> {
    roots.iter().enumerate().find_map(|(number, root)| {
        let rest = path.strip_prefix(root.as_slice())?;
        let rest = if rest.is_empty() || root.ends_with(b"/") { rest } else { rest.strip_prefix(b"/")? };
        Some((RootNo(number as u16), rest))
    })
}

impl Scenario {
    fn holds(&mut self, path: &[u8]) -> EngineResult<Option<bool>> {
        let Some((root, below)) = below_root(&self.roots, path) else { return Ok(None) };
        if below.is_empty() {
            return Ok(Some(true));
        }
        let slash = below.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = match slash {
            Some(at) => (below.get(..at).unwrap_or_default(), below.get(at + 1..).unwrap_or_default()),
            None => (&b""[..], below),
        };
        let whole = path.get(..path.len() - name.len()).unwrap_or_default();
        let parent = match &self.last {
            Some((last, node)) if last == whole => *node,
            _ => {
                let node = self.view.resolve(root, directory)?;
                self.last = Some((whole.to_vec(), node));
                node
            }
        };
        let (Some(parent), Some(name)) = (parent, Name::new(name)) else { return Ok(Some(false)) };
        Ok(Some(self.view.lookup(&Edge::new(parent, name))?.is_some()))
    }
}
