//! A life whose changes come over a line: nothing is journaled but what the line brings, whenever it does.

use super::World;
use journal::Lsn;
use journal::journal::Placed;
use tests::line::Line;

impl World {
    /// The same with a line, which is good at first.
    #[must_use]
    pub fn over_line(self) -> World {
        World { line: Some(Line::new()), ..self }
    }

    /// What is made goes to the replica as far as the line is good.
    pub fn hand_over(&mut self) {
        if self.is_line_good || self.line.is_none() {
            self.send();
        } else {
            let steps = self.rng.below(12);
            self.walk_line(steps);
        }
    }

    /// The line becomes bad, or good, and something happens on it.
    pub fn change_line(&mut self) {
        self.is_line_good = self.rng.chance(1, 4);
        let steps = 5 + self.rng.below(60);
        self.walk_line(steps);
    }

    fn walk_line(&mut self, steps: u64) {
        for _ in 0..steps {
            let Some(mut line) = self.line.take() else { return };
            line.context.clone_from(&self.context);
            if self.down {
                // Nobody is there to hear anything.
                line.replica_ends();
            }
            line.step(&mut self.rng, &self.made);
            self.line = Some(line);
            self.take_what_came();
        }
    }

    /// All that was made arrives, or something fails.
    pub(super) fn settle_line(&mut self) -> bool {
        let Some(mut line) = self.line.take().filter(|_| !self.down) else { return false };
        line.context.clone_from(&self.context);
        let settled = line.settle(&mut self.rng, &self.made);
        self.line = Some(line);
        self.take_what_came() && settled
    }

    /// Takes what became durable. What was acknowledged is, always.
    fn take_what_came(&mut self) -> bool {
        let Some(line) = &mut self.line else { return true };
        let ((captures, trouble), acknowledged) = (line.came(), line.acknowledged());
        self.acknowledged = self.acknowledged.max(acknowledged);
        if let Some(lab) = self.lab.as_ref().filter(|_| !self.down) {
            let journaled = lab.journal.journaled();
            assert!(journaled >= acknowledged, "{}: {journaled} of {acknowledged}", self.context);
        }
        for capture in captures {
            let lsn = capture.as_ref().map_or_else(|lsn| *lsn, |placed| placed.capture.lsn);
            assert_eq!(lsn.captured, self.came + 1, "{}: something is missing, or came twice", self.context);
            self.came += 1;
            let placed = capture.or_else(|lsn| self.read_back(lsn));
            self.pending.extend(placed.ok());
        }
        trouble.iter().for_each(|trouble| self.note(trouble));
        trouble.is_empty()
    }

    /// A capture that came in parts, some of them to an earlier life of the replica.
    fn read_back(&mut self, lsn: Lsn) -> Result<Placed, ()> {
        let read = |lab: &mut tests::lab::Lab| {
            let before = Lsn::captured(lsn.captured - 1);
            lab.journal.captured(lab.journal.cursor_redo(), before, lsn).next().transpose()
        };
        let Some(found) = self.run(read) else {
            // The next opening finds it.
            self.down = true;
            return Err(());
        };
        Ok(found.unwrap_or_else(|| panic!("{}: {lsn} is not in the journal", self.context)))
    }

    /// The replica ends, and with it what was on its way.
    pub(super) fn end_replica(&mut self) {
        if let Some(line) = &mut self.line {
            line.replica_ends();
        }
        if let Some(lab) = self.lab.take() {
            drop(lab.stop());
        }
    }

    /// What was met on the line.
    pub fn note_line(&mut self) {
        let Some(line) = &self.line else { return };
        let met = line.met;
        for (what, count) in [
            ("meetings", met.meetings),
            ("late messages", met.late),
            ("batches sent twice", met.resent),
            ("holes refused", met.holes),
            ("older connections refused", met.superseded),
            ("masters that came back", met.masters),
            ("captures in parts", met.in_parts),
        ] {
            *self.met.entry(what.to_owned()).or_default() += count;
        }
    }
}
