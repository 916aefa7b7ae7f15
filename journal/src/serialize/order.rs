//! The scheduler behind [`serialize`](super::serialize): operations, what stands in their way, parking.
//!
//! Its state is the old state plus the steps emitted so far (`occupant`, `place`), so every test it makes is about the
//! tree as it will be when the step runs.

use super::{Before, SerializeError, Step};
use crate::id::{Edge, NodeId, RootNo};
use std::collections::{HashMap, HashSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Create,
    Link,
    /// Rename, or revive from the kept area.
    Place,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Todo,
    Doing,
    Done,
}

pub(super) type OpNo = usize;

#[derive(Debug)]
pub(super) struct Op {
    pub(super) node: NodeId,
    pub(super) goal: Goal,
    pub(super) from: Option<Edge>,
    pub(super) to: Option<Edge>,
    pub(super) state: State,
    /// `from` lies in the kept area: parked, or removed before all this.
    pub(super) kept: bool,
    /// How many of the `leavers` of its node were dealt with.
    pub(super) leavers_done: usize,
}

/// What must happen before an operation can run.
enum Need {
    /// Nothing: run it.
    Nothing,
    /// This one must give up its name or leave its directory.
    Freed(OpNo),
    /// This one must have put its node in place.
    Placed(OpNo),
    /// This one should run first, but may be left if it cannot.
    Wished(OpNo),
    /// It waits for something that waits for it.
    Cycle,
}

/// What a walk up the tree met first.
enum Above {
    Root,
    /// A directory that is not in place yet.
    Absent(OpNo),
    /// The node itself, and an operation that will break the chain.
    Itself(OpNo),
}

pub(super) struct Scheduler<'a, B: Before> {
    pub(super) root: RootNo,
    pub(super) before: &'a B,
    pub(super) ops: Vec<Op>,
    /// Operations of a node, in the order in which they should run.
    pub(super) of_node: HashMap<NodeId, Vec<OpNo>>,
    /// Who gives up a name, who takes it.
    pub(super) freer: HashMap<Edge, OpNo>,
    pub(super) taker: HashMap<Edge, OpNo>,
    /// Who stands at a touched name now.
    pub(super) occupant: HashMap<Edge, NodeId>,
    /// Where a directory is now; `None`: not there yet.
    place: HashMap<NodeId, Option<Edge>>,
    /// For each directory that is going to vanish: operations that take something out of it.
    pub(super) leavers: HashMap<NodeId, Vec<OpNo>>,
    /// Directories known to hang under the root.
    attached: HashSet<NodeId>,
    /// Do not wait for directories that come back from the kept area.
    hurried: bool,
    /// Nodes of several operations of which one has run.
    begun: HashSet<NodeId>,
    steps: Vec<Step>,
    /// A step that must share a group with the steps of this node.
    bonds: Vec<(usize, NodeId)>,
    /// Operations to run next, so that groups stay small.
    follow: VecDeque<OpNo>,
}

pub(super) type Outcome<T, B> = Result<T, SerializeError<<B as Before>::Error>>;

impl<'a, B: Before> Scheduler<'a, B>
where
    B::Error: std::error::Error + 'static,
{
    pub(super) fn new(root: RootNo, before: &'a B) -> Self {
        Scheduler {
            root,
            before,
            ops: Vec::new(),
            of_node: HashMap::new(),
            freer: HashMap::new(),
            taker: HashMap::new(),
            occupant: HashMap::new(),
            place: HashMap::new(),
            leavers: HashMap::new(),
            attached: HashSet::new(),
            hurried: false,
            begun: HashSet::new(),
            steps: Vec::new(),
            bonds: Vec::new(),
            follow: VecDeque::new(),
        }
    }

    pub(super) fn old_place(&self, directory: NodeId) -> Outcome<Option<Edge>, B> {
        Ok(self.before.names(directory).map_err(SerializeError::Before)?.into_iter().next())
    }

    /// Runs every operation: what comes back from the kept area first, what vanishes and nobody waited for last.
    pub(super) fn run(&mut self) -> Outcome<(), B> {
        for phase in 0..3 {
            for number in 0..self.ops.len() {
                let Some(op) = self.ops.get(number) else { break };
                let vanishes = op.goal == Goal::Remove || self.leavers.contains_key(&op.node);
                let due = if vanishes { 2 } else { u8::from(!op.kept) };
                if due == phase {
                    self.follow.push_back(number);
                }
                while let Some(next) = self.follow.pop_front() {
                    self.run_one(next)?;
                }
            }
        }
        Ok(())
    }

    /// Runs an operation and what stands in its way, depth first.
    fn run_one(&mut self, first: OpNo) -> Outcome<(), B> {
        let mut stack = vec![first];
        // What gave up on a cycle just now: whoever waits for it must give up as well, or do without it.
        let mut gave_up: Option<OpNo> = None;
        while let Some(number) = stack.last().copied() {
            let Some(op) = self.ops.get_mut(number) else { break };
            if op.state == State::Done {
                stack.pop();
                continue;
            }
            op.state = State::Doing;
            let need = match self.need(number)? {
                Need::Placed(other) if gave_up == Some(other) => Need::Cycle,
                need => need,
            };
            match need {
                Need::Nothing => {
                    self.emit(number);
                    stack.pop();
                    gave_up = None;
                    self.hurried = false;
                }
                Need::Wished(other) if gave_up == Some(other) => self.leave_behind(number, other),
                Need::Wished(other) | Need::Freed(other) | Need::Placed(other) => {
                    stack.push(other);
                    gave_up = None;
                }
                // Directories in the kept area exist: waiting for them to be back is a courtesy to readers, and
                // where it cannot be had, both changes share a group.
                Need::Cycle if stack.len() == 1 && !self.hurried => {
                    self.hurried = true;
                    gave_up = None;
                }
                Need::Cycle if stack.len() == 1 => {
                    let node = self.ops.get(number).map_or(NodeId(0), |op| op.node);
                    return Err(SerializeError::NotATree { node, what: "its place is below itself" });
                }
                Need::Cycle => {
                    self.park(number);
                    if let Some(op) = self.ops.get_mut(number) {
                        op.state = State::Todo;
                    }
                    self.follow.push_front(number);
                    stack.pop();
                    gave_up = Some(number);
                }
            }
        }
        Ok(())
    }

    /// A directory vanishes before something that should have left it: both share a group then.
    fn leave_behind(&mut self, number: OpNo, other: OpNo) {
        let node = self.ops.get(other).map_or(NodeId(0), |op| op.node);
        if let Some(op) = self.ops.get_mut(number) {
            op.leavers_done += 1;
        }
        self.bonds.push((self.steps.len(), node));
    }

    /// What stands in the way of an operation. Parks what is on the stack already and can be parked.
    fn need(&mut self, number: OpNo) -> Outcome<Need, B> {
        let Some(op) = self.ops.get(number) else { return Ok(Need::Nothing) };
        let (node, goal) = (op.node, op.goal);
        let to = op.to.clone();
        if let Some(need) = self.need_of_leavers(number, node) {
            return Ok(need);
        }
        let Some(to) = to else { return self.need_of_other_names(number, node) };
        if goal == Goal::Link {
            let first = self.of_node.get(&node).and_then(|ops| ops.first().copied());
            let parked = self.place.contains_key(&node);
            let absent = |op: &Op| op.goal == Goal::Create || (op.goal == Goal::Place && op.kept && !parked);
            if let Some(first) = first.filter(|first| *first != number) {
                match self.ops.get(first) {
                    Some(op) if absent(op) && op.state == State::Todo => return Ok(Need::Placed(first)),
                    _ => {}
                }
            }
        }
        loop {
            match self.above(to.parent, (goal == Goal::Place).then_some(node))? {
                Above::Root => break,
                Above::Absent(other) if other == number => {
                    return Err(SerializeError::NotATree { node, what: "its place is below itself" });
                }
                Above::Absent(other) if self.state(other) == State::Doing => return Ok(Need::Cycle),
                Above::Absent(other) => return Ok(Need::Placed(other)),
                Above::Itself(other) if self.state(other) == State::Doing => self.park(other),
                Above::Itself(other) => return Ok(Need::Freed(other)),
            }
        }
        match (self.occupant.get(&to), self.freer.get(&to).copied()) {
            (None, _) => Ok(Need::Nothing),
            (Some(_), Some(other)) if self.state(other) == State::Todo => Ok(Need::Freed(other)),
            (Some(_), Some(other)) if self.state(other) == State::Doing => {
                self.park(other);
                Ok(Need::Nothing)
            }
            _ => Err(SerializeError::NotATree { node, what: "its name is taken" }),
        }
    }

    /// For a directory that vanishes: what should leave it first.
    fn need_of_leavers(&mut self, number: OpNo, node: NodeId) -> Option<Need> {
        loop {
            let done = self.ops.get(number).map_or(0, |op| op.leavers_done);
            let other = self.leavers.get(&node).and_then(|list| list.get(done).copied())?;
            match self.ops.get(other).map(|op| (op.state, op.kept, op.from.is_some())) {
                Some((State::Todo, false, _)) => return Some(Need::Wished(other)),
                Some((State::Doing, false, true)) => self.park(other),
                Some((State::Doing, false, false)) => self.leave_behind(number, other),
                _ => {
                    if let Some(op) = self.ops.get_mut(number) {
                        op.leavers_done += 1;
                    }
                }
            }
        }
    }

    /// A file gives up a name while another one of it is about to come back with its directory: that comes first.
    fn need_of_other_names(&mut self, number: OpNo, node: NodeId) -> Outcome<Need, B> {
        if self.leavers.contains_key(&node) || self.ops.get(number).is_some_and(|op| op.leavers_done > 0) {
            return Ok(Need::Nothing);
        }
        for name in self.before.names(node).map_err(SerializeError::Before)? {
            if self.freer.contains_key(&name) {
                continue;
            }
            match self.above(name.parent, None)? {
                Above::Absent(other) if self.state(other) == State::Todo => return Ok(Need::Wished(other)),
                Above::Absent(other) => self.leave_behind(number, other),
                _ => {}
            }
        }
        Ok(Need::Nothing)
    }

    fn state(&self, number: OpNo) -> State {
        self.ops.get(number).map_or(State::Done, |op| op.state)
    }

    /// Walks up from `start`: to the root, to a directory that is not in place yet, or to `mover` itself.
    fn above(&mut self, start: NodeId, mover: Option<NodeId>) -> Outcome<Above, B> {
        let mover = match mover {
            Some(node) if self.before.is_directory(node).map_err(SerializeError::Before)? => Some(node),
            _ => None,
        };
        let mut trail: Vec<NodeId> = Vec::new();
        // How much of the trail lies below a directory that is going to vanish: as good as hidden already.
        let mut vanishing = None;
        let mut at = start;
        loop {
            if Some(at) == mover {
                return self.breaker(at, &trail).map(Above::Itself);
            }
            if at.is_kept_area() {
                return Ok(self.hidden(&trail));
            }
            if at.as_root_or_kept().is_some() && vanishing.is_some() {
                return Ok(self.hidden(trail.get(..vanishing.unwrap_or(0)).unwrap_or_default()));
            }
            if at.as_root_or_kept().is_some() || (mover.is_none() && self.attached.contains(&at)) {
                self.attached.extend(trail);
                return Ok(Above::Root);
            }
            if let Some(first) = self.of_node.get(&at).and_then(|ops| ops.first().copied()) {
                match self.ops.get(first) {
                    Some(op) if op.goal == Goal::Create && op.state != State::Done => {
                        return Ok(Above::Absent(first));
                    }
                    _ => {}
                }
            }
            let place = match self.place.get(&at) {
                Some(place) => place.clone(),
                None => self.old_place(at)?,
            };
            let first = self.of_node.get(&at).and_then(|ops| ops.first().copied());
            if self.leavers.contains_key(&at) && first.is_some_and(|first| self.state(first) != State::Done) {
                vanishing = Some(trail.len());
            }
            trail.push(at);
            match place {
                Some(edge) if trail.len() <= DEPTH_MAX => at = edge.parent,
                _ => return Err(SerializeError::NotATree { node: at, what: "its directory is nowhere" }),
            }
        }
    }

    /// A place is, or will be, in the kept area. If a directory above it comes out of there, it had better do so first.
    /// Parked ones are no reason to wait: everything until they are placed is one group anyway.
    fn hidden(&mut self, trail: &[NodeId]) -> Above {
        let mut absent = None;
        for directory in trail.iter().rev() {
            let first = self.of_node.get(directory).and_then(|ops| ops.first().copied());
            let Some((first, op)) = first.and_then(|first| Some((first, self.ops.get(first)?))) else {
                continue;
            };
            let parked = op.kept && self.place.contains_key(directory);
            if op.state == State::Done || op.goal != Goal::Place || parked {
                continue;
            }
            if self.hurried {
                self.bonds.push((self.steps.len(), *directory));
            } else if absent.is_none() || op.state == State::Todo {
                absent = Some(first);
            }
        }
        absent.map_or(Above::Root, Above::Absent)
    }

    /// One of the directories between a place and the node that wants to move there, which moves itself.
    fn breaker(&self, mover: NodeId, trail: &[NodeId]) -> Outcome<OpNo, B> {
        let moves = |node: &NodeId| {
            let first = self.of_node.get(node).and_then(|ops| ops.first().copied())?;
            self.ops.get(first).filter(|op| op.state != State::Done && op.from.is_some() && !op.kept)?;
            Some(first)
        };
        let found = trail.iter().find_map(moves);
        found.ok_or(SerializeError::NotATree { node: mover, what: "its place is below itself" })
    }

    /// Moves a node on the stack out of everybody's way. A removal is done by that; what should have left before shares
    /// its group.
    fn park(&mut self, number: OpNo) {
        let Some(op) = self.ops.get(number) else { return };
        if op.goal == Goal::Remove {
            let rest =
                self.leavers.get(&op.node).and_then(|list| list.get(op.leavers_done..)).unwrap_or_default();
            let late =
                rest.iter().filter_map(|other| self.ops.get(*other)).filter(|op| op.state != State::Done);
            self.bonds.extend(late.map(|op| (self.steps.len(), op.node)));
            self.emit(number);
        } else if !op.kept {
            let Some(from) = op.from.clone() else { return };
            let node = op.node;
            let others = self.of_node.get(&node).map(Vec::as_slice).unwrap_or_default();
            if others
                .iter()
                .filter_map(|other| self.ops.get(*other))
                .any(|op| op.kept && op.state != State::Done)
            {
                // It lies in the kept area by another of its names: this one goes, and its new one is a link.
                self.occupant.remove(&from);
                self.steps.push(Step::Remove { node, at: from });
                if let Some(op) = self.ops.get_mut(number) {
                    (op.goal, op.from) = (Goal::Link, None);
                }
                return;
            }
            let to = Edge::new(NodeId::kept(self.root), node.kept_name());
            self.occupant.remove(&from);
            self.place.insert(node, Some(to.clone()));
            self.steps.push(Step::Rename { node, from, to: to.clone() });
            if let Some(op) = self.ops.get_mut(number) {
                op.from = Some(to);
                op.kept = true;
            }
        }
    }

    /// Writes the step of an operation and what it changes.
    fn emit(&mut self, number: OpNo) {
        let Some(op) = self.ops.get_mut(number) else { return };
        if op.state == State::Done {
            return;
        }
        op.state = State::Done;
        let (node, goal, from, to) = (op.node, op.goal, op.from.clone(), op.to.clone());
        let step = match (goal, from, to) {
            (Goal::Create, _, Some(at)) => Step::Create { node, at },
            (Goal::Link, _, Some(at)) => Step::Link { node, at },
            (Goal::Remove, Some(at), _) => Step::Remove { node, at },
            (Goal::Place, Some(from), Some(to)) => Step::Rename { node, from, to },
            _ => return,
        };
        if self.leavers.contains_key(&node) {
            // What hung under it may hang there still.
            self.attached.clear();
        }
        if let Some(edge) = step.frees() {
            self.occupant.remove(edge);
            self.follow.extend(self.taker.get(edge));
            self.place.insert(node, Some(Edge::new(NodeId::kept(self.root), node.kept_name())));
        }
        if let Some(edge) = step.takes() {
            self.occupant.insert(edge.clone(), node);
            self.place.insert(node, Some(edge.clone()));
        }
        if let Some(others) = self.of_node.get(&node).filter(|ops| ops.len() > 1)
            && self.begun.insert(node)
        {
            self.follow.extend(others);
        }
        self.steps.push(step);
    }

    /// The steps, and for each whether it belongs to the group of the step before.
    pub(super) fn finish(self) -> (Vec<Step>, Vec<bool>) {
        let mut names: HashMap<&Edge, (usize, usize)> = HashMap::new();
        let mut nodes: HashMap<NodeId, (usize, usize)> = HashMap::new();
        for (number, step) in self.steps.iter().enumerate() {
            nodes.entry(step.node()).or_insert((number, number)).1 = number;
            for edge in
                step.frees().into_iter().chain(step.takes()).filter(|edge| !edge.parent.is_kept_area())
            {
                names.entry(edge).or_insert((number, number)).1 = number;
            }
        }
        for (number, node) in &self.bonds {
            let span = nodes.entry(*node).or_insert((*number, *number));
            *span = (span.0.min(*number), span.1.max(*number));
        }
        // +1 where a span begins to bind, -1 behind its end; a positive sum binds a step to the one before.
        let mut edges = vec![0i64; self.steps.len() + 2];
        for (first, last) in names.into_values().chain(nodes.into_values()) {
            if let Some(begin) = edges.get_mut(first + 1) {
                *begin += 1;
            }
            if let Some(end) = edges.get_mut(last + 1) {
                *end -= 1;
            }
        }
        let mut open = 0;
        let joined = edges.iter().take(self.steps.len()).map(|edge| {
            open += edge;
            open > 0
        });
        let joined = joined.collect();
        (self.steps, joined)
    }
}

/// Deeper than any tree of a file system; ends walks in a damaged one.
pub(super) const DEPTH_MAX: usize = 1 << 20;
