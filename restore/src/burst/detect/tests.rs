//! Ordinary work is no burst, and a burst in the midst of it is found with its bounds.

use super::super::facts::{Fact, What};
use super::*;
use journal::RootNo;

const SECOND: i64 = 1_000_000_000;

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("REWIND_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let first = std::env::var("REWIND_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    first..first + count
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn at(directory: u64, text: &str) -> Edge {
    Edge::new(NodeId(5000 + directory), name(text))
}

/// A stream of facts under way.
struct Work {
    rng: Rng,
    facts: Vec<Fact>,
    time: i64,
    lsn: u64,
    node: u64,
}

impl Work {
    fn new(seed: u64) -> Self {
        Work { rng: Rng(seed * 7919 + 1), facts: Vec::new(), time: 1 << 60, lsn: 10, node: 10_000_000 }
    }

    fn push(&mut self, node: u64, what: What) -> u64 {
        self.lsn += 1;
        let (lsn, time) = (self.lsn, Timestamp(self.time));
        self.facts.push(Fact { lsn, time, root: RootNo(0), rescan: false, node: NodeId(node), what });
        lsn
    }

    fn new_node(&mut self) -> u64 {
        self.node += 1;
        self.node
    }

    /// About a minute of work: people who save, programs that build, log, clean up and unpack.
    fn minute(&mut self) {
        for _ in 0..self.rng.below(20) {
            self.time += self.rng.below(3) as i64 * SECOND;
            match self.rng.below(4) {
                // One editor saves in place, one by another file, one table is written again and again.
                0 => {
                    let node = self.rng.below(20);
                    self.push(node, What::Rewritten);
                }
                1 => {
                    let by = NodeId(self.new_node());
                    let node = self.rng.below(20);
                    self.push(node, What::Replaced { at: at(1, "essay.txt"), by });
                }
                2 => {
                    for _ in 0..200 {
                        self.push(77, What::Rewritten);
                    }
                }
                _ => {
                    let node = 20 + self.rng.below(5);
                    self.push(node, What::Renamed { from: at(2, "draft"), to: at(2, "paper") });
                }
            }
        }
        for n in 0..self.rng.below(400) {
            let node = self.new_node();
            let directory = self.rng.below(30);
            match self.rng.below(4) {
                0 => drop(self.push(node, What::Came { at: at(directory, &format!("new-{node}")) })),
                1 => drop(self.push(node, What::Gone { at: at(directory, &format!("old-{node}")) })),
                2 => drop(self.push(n, What::Edited)),
                // Many files move to another directory and keep their names.
                _ => {
                    let (from, to) = (at(directory, &format!("m-{node}")), at(99, &format!("m-{node}")));
                    self.push(node, What::Renamed { from, to });
                }
            }
        }
        self.time += 70 * SECOND;
    }

    /// Hits so many files in one of the ways, a few each second; the first and last capture of it.
    fn burst(&mut self, way: u64, files: u64) -> (u64, u64) {
        let (mut first, mut last) = (None, 0);
        for n in 0..files {
            self.time += self.rng.below(4) as i64 * SECOND / 2;
            let node = self.new_node();
            let (old, new) = (at(n % 7, &format!("doc-{node}")), at(n % 7, &format!("doc-{node}.locked")));
            let hits = match way {
                0 => vec![self.push(node, What::Rewritten)],
                1 => vec![self.push(node, What::Renamed { from: old, to: new })],
                2 => vec![
                    self.push(node, What::Rewritten),
                    self.push(node, What::Renamed { from: old, to: new }),
                ],
                3 => {
                    let by = self.new_node();
                    let came = self.push(by, What::Came { at: new });
                    vec![came, self.push(node, What::Gone { at: old })]
                }
                _ => {
                    let by = self.new_node();
                    let gone = self.push(node, What::Gone { at: old.clone() });
                    vec![gone, self.push(by, What::Came { at: old })]
                }
            };
            first = first.or(hits.first().copied());
            last = *hits.last().unwrap();
            if self.rng.below(3) == 0 {
                self.push(3, What::Edited);
            }
        }
        (first.unwrap(), last)
    }

    fn found(&self) -> Vec<Span> {
        let mut detector = Detector::new(Limits::default());
        let mut found: Vec<Span> = self.facts.iter().filter_map(|fact| detector.fact(fact)).collect();
        found.extend(detector.finish());
        found
    }
}

#[test]
fn ordinary_work_is_no_burst() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut work = Work::new(seed);
        (0..60).for_each(|_| work.minute());
        assert_eq!(work.found(), Vec::new(), "seed {seed}");
    }
}

#[test]
fn a_burst_of_each_kind_is_found_with_its_bounds() {
    for seed in seeds() {
        for way in 0..5 {
            println!("seed {seed} way {way}");
            let mut work = Work::new(seed);
            let before = 1 + work.rng.below(10);
            (0..before).for_each(|_| work.minute());
            // Nobody else hits anything while the bounds are told.
            work.time += 400 * SECOND;
            let files = 60 + work.rng.below(2000);
            let (first, last) = work.burst(way, files);
            work.time += 400 * SECOND;
            (0..5).for_each(|_| work.minute());
            let found = work.found();
            assert_eq!(found.len(), 1, "seed {seed} way {way}");
            let span = &found[0];
            assert_eq!((span.first, span.last), (first, last), "seed {seed} way {way}");
            assert_eq!(span.files, files, "seed {seed} way {way}");
            assert_eq!(span.rewritten > 0, way != 1, "seed {seed} way {way}");
            assert_eq!(span.renamed > 0, (1..=3).contains(&way), "seed {seed} way {way}");
            assert_eq!(span.sample.len(), files.min(64) as usize);
        }
    }
}

#[test]
fn a_pause_does_not_end_it_and_a_long_one_does() {
    let mut work = Work::new(5);
    let (first, _) = work.burst(2, 100);
    work.time += 100 * SECOND;
    let (_, last) = work.burst(2, 100);
    assert_eq!(work.found().iter().map(|s| (s.first, s.last)).collect::<Vec<_>>(), [(first, last)]);
    let mut work = Work::new(5);
    work.burst(2, 100);
    work.time += 200 * SECOND;
    work.burst(2, 100);
    assert_eq!(work.found().len(), 2);
}

#[test]
fn people_who_go_on_do_not_prolong_it() {
    let mut work = Work::new(9);
    let (_, last) = work.burst(0, 200);
    work.time += 90 * SECOND;
    for n in 0..50 {
        work.time += 30 * SECOND;
        work.push(n, What::Rewritten);
    }
    let found = work.found();
    assert_eq!(found.iter().map(|span| span.last).collect::<Vec<_>>(), [last]);
}

#[test]
fn memory_stays_within_its_limits() {
    let limits = Limits { remembered_max: 100, files_max: 500, ..Limits::default() };
    let mut detector = Detector::new(limits);
    let mut work = Work::new(3);
    work.burst(3, 5000);
    for fact in &work.facts {
        assert!(detector.fact(fact).is_none());
        assert!(detector.window.len() <= 100 && detector.came.order.len() <= 101);
        assert!(detector.open.as_ref().is_none_or(|open| open.files.len() <= 500));
    }
    let span = detector.finish().unwrap();
    assert!(span.files >= 500 && span.sample.len() <= 64, "{}", span.files);
}
