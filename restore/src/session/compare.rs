//! Whether all that a restore would make stands in the target already. Changes nothing.
//!
//! It decides whether a restore that ended and was not recorded as ended has to be done: so a stat that looks right is
//! not enough. Files are read and compared with the ids of their blobs, targets of links are read, and further names have
//! to be names of the same inode. Owners and attributes are not compared: they change nothing about what would be lost.
//! It is synced before it is called done: nobody knows whether whoever made it came to that.

use super::Monitor;
use super::decide::Action;
use super::error::{SessionRestoreError, at};
use super::fill::differs;
use super::links::{LinkKey, Links};
use super::meta::Meta;
use super::plan::Plan;
use super::receipt::{Listed, Receipt};
use super::target::{Dir, Target, read_link};
use super::walk::{Entered, Result, Standing, Step, Visitor};
use snapshot::repository::{Node, NodeKind};
use std::io;
use std::sync::Arc;

/// What a restore of the plan had done, if it all stands there; `None` if anything is missing or is another.
///
/// # Errors
/// As [`super::execute`], but for those of writing; `Target` also for a failed sync.
pub fn stands(plan: &Plan<'_>, monitor: &dyn Monitor) -> Result<Option<Receipt>> {
    let Some(target) = plan.open_target()? else { return Ok(None) };
    let receipt = Receipt { verified: Some(true), ..Receipt::default() };
    let mut compare =
        Compare { plan, target: &target, monitor, receipt, links: Links::new(), differs: false };
    match plan.walk(Some(&target), true).run(&mut compare) {
        Err(SessionRestoreError::Cancelled) if compare.differs => Ok(None),
        Err(error) => Err(error),
        Ok(()) if compare.differs => Ok(None),
        Ok(()) => {
            let mut receipt = compare.receipt;
            target.sync().map_err(at("sync", b""))?;
            receipt.lack(plan.options.missed, b"/");
            Ok(Some(receipt))
        }
    }
}

struct Compare<'c> {
    plan: &'c Plan<'c>,
    target: &'c Target,
    monitor: &'c dyn Monitor,
    receipt: Receipt,
    /// Inodes of files with further names.
    links: Links<(u64, u64)>,
    /// Something is missing or is another: the walk ends.
    differs: bool,
}

impl Compare<'_> {
    fn is_same(&mut self, dir: &Arc<Dir>, name: &[u8], node: &Node) -> io::Result<bool> {
        let Some(found) = self.target.stat(dir, name)? else { return Ok(false) };
        let key = LinkKey::of(node);
        if let Some(first) = key.and_then(|key| self.links.further(&key)) {
            self.receipt.links += 1;
            return Ok(found.identity == first);
        }
        if let Some(key) = key {
            self.links.remember(key, node.links, found.identity);
        }
        match node.kind {
            NodeKind::File => {
                let index = self.plan.repository.index().map_err(io::Error::other)?;
                let over = || self.monitor.cancelled();
                let place = (dir, name);
                let same = differs(self.target, place, &node.content, index, &over)?.is_none();
                self.receipt.files += 1;
                self.receipt.verified_files += 1;
                self.receipt.bytes = self.receipt.bytes.saturating_add(node.size);
                Ok(same)
            }
            NodeKind::Symlink => {
                self.receipt.others += 1;
                Ok(read_link(self.target, dir, name)? == node.link_target)
            }
            _ => {
                self.receipt.others += 1;
                Ok(true)
            }
        }
    }
}

impl Visitor<Arc<Dir>> for Compare<'_> {
    fn enter(&mut self, step: Step<'_, Arc<Dir>>) -> Result<Entered<Arc<Dir>>> {
        if step.path.is_empty() {
            return Ok(Entered::Here(Some(self.target.top().clone()), false));
        }
        match (step.dir, step.action) {
            (Some(above), Action::Merge { .. }) => {
                self.receipt.directories += 1;
                Ok(Entered::Here(Some(self.target.child(above, &step.name, None)), false))
            }
            _ => {
                self.differs = true;
                Ok(Entered::Out)
            }
        }
    }

    fn leave(&mut self, _: Arc<Dir>, _: Meta, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn object(&mut self, step: Step<'_, Arc<Dir>>, node: Node, _: Meta) -> Result<()> {
        let same = match (step.dir, step.action) {
            (Some(dir), Action::Whole) => {
                self.receipt.resumed += 1;
                self.is_same(dir, &step.name, &node).map_err(at("read", step.path))?
            }
            _ => false,
        };
        self.differs |= !same;
        if self.monitor.cancelled() { Err(SessionRestoreError::Cancelled) } else { Ok(()) }
    }

    fn extra(&mut self, _: &Arc<Dir>, _: &[u8], _: &[u8]) -> Result<()> {
        self.differs = true;
        Ok(())
    }

    fn failed(&mut self, listed: Listed) -> Result<()> {
        self.receipt.fail(listed);
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.differs || self.monitor.cancelled()
    }
}
