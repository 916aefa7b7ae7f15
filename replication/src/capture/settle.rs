//! The end of looking: a picture in which things moved meanwhile becomes a tree.
//!
//! A directory has one name, the one it was seen under last; nothing stands in a directory that is gone; and what was
//! not found is where the index has it. Hints at what had to be left in doubt are kept.

use super::CaptureError;
use super::core::Core;
use super::facts::{Facts, NodeFact, Seen};
use super::look::Sort;
use super::watch::Why;
use journal::Edge;

impl Core {
    /// Directories seen under two names moved while we looked: look again.
    pub(super) fn look_at_doubles(&mut self, facts: &mut Facts) {
        let double = |fact: &&NodeFact| fact.look.sort == Sort::Directory && fact.at.len() > 1;
        let edges: Vec<Edge> = facts.nodes.values().filter(double).flat_map(|fact| fact.at.clone()).collect();
        for edge in edges {
            facts.forget_look(&edge);
            facts.queue.push_back((edge, Why::default()));
        }
    }

    /// A name that could not be looked at, of a node that was found elsewhere: the node has left it if it is a
    /// directory, or if the directory of that name is gone.
    fn settle_waiting(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        for (edge, why) in std::mem::take(&mut facts.waiting) {
            let node = self.index.child(&edge)?;
            let found = node.and_then(|node| facts.nodes.get(&node)).filter(|fact| !fact.at.is_empty());
            let left = match found.map(|fact| fact.look.sort) {
                Some(Sort::Directory) => true,
                Some(_) => facts.is_gone(self, edge.parent)?,
                None => false,
            };
            if left {
                facts.see(&edge, Seen::Absent);
                facts.unattributed |= why.content || why.attributes;
                if why.content {
                    self.owed.extend(node);
                }
            }
            // Who left is known; what stands there now was not looked at.
            facts.wait(edge, why);
        }
        Ok(())
    }

    /// Makes the picture a tree: a directory has the name it was seen under last, and nothing stands in a directory
    /// that is gone.
    pub(super) fn settle(&mut self, facts: &mut Facts) -> Result<(), CaptureError> {
        self.settle_waiting(facts)?;
        let double = |fact: &&NodeFact| fact.look.sort == Sort::Directory && fact.at.len() > 1;
        let old: Vec<Edge> = facts
            .nodes
            .values()
            .filter(double)
            .flat_map(|fact| fact.at.iter().take(fact.at.len() - 1).cloned())
            .collect();
        for edge in old {
            // Where two directories have one identity, this comes up again and again: it counts as a look in vain.
            self.again(facts, edge.clone(), Why { name: true, ..Why::default() }, facts.epoch)?;
            facts.see(&edge, Seen::Absent);
        }
        loop {
            let mut lost = Vec::new();
            for (edge, seen) in &facts.seen {
                if matches!(seen, Seen::There(_)) && facts.is_gone(self, edge.parent)? {
                    lost.push(edge.clone());
                }
            }
            if lost.is_empty() {
                break;
            }
            for edge in lost {
                facts.see(&edge, Seen::Absent);
                facts.wait(edge, Why { name: true, content: true, ..Why::default() });
            }
        }
        // What is lost inside a directory that is gone went with it.
        let mut with_it = Vec::new();
        for (edge, seen) in &facts.seen {
            if *seen == Seen::Absent
                && facts.is_gone(self, edge.parent)?
                && let Some(node) = self.index.child(edge)?
                && facts.is_gone(self, node)?
            {
                with_it.push(edge.clone());
            }
        }
        for edge in with_it {
            facts.see(&edge, Seen::Unknown);
            facts.wait(edge, Why { name: true, ..Why::default() });
        }
        Ok(())
    }
}
