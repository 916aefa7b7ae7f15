//! An attack on a tree in memory, among people who work on: what they did is all that is left after the way back.
//!
//! The oracle is a map from paths to bytes that only people change. Every style of attack, and people who change files
//! shortly before their turn comes, create some, and go on afterwards.

use super::*;
use crate::monitor::NoMonitor;
use crate::rewind::{ReplicaControl, RewindOptions};
use crate::scope::PathFilter;
use crate::testing::World;
use journal::event::Marker;
use journal::{Attributes, Class, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Payload, RootNo, Timestamp};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const ROOT: RootNo = RootNo(0);

/// A capture a microsecond: a window of two hundred captures, and a few hits are many.
fn limits() -> Limits {
    Limits { files: 8, window_ns: 200_000, pause_ns: 400_000, ..Limits::default() }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

struct Lab {
    world: World,
    rng: Rng,
    next: u64,
    /// What people know: directory and name to node and bytes.
    good: BTreeMap<(usize, String), (NodeId, Vec<u8>)>,
    directories: Vec<NodeId>,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let (world, rng) = (World::new(1), Rng(seed * 7919 + 3));
        let mut lab = Lab { world, rng, next: 5000, good: BTreeMap::new(), directories: Vec::new() };
        for n in 0..5 {
            let node = lab.node();
            let at = Edge::new(NodeId::root(ROOT), name(&format!("d{n}")));
            lab.world.capture(ROOT, vec![create(node, at, Kind::Directory)]);
            lab.directories.push(node);
        }
        lab
    }

    fn node(&mut self) -> NodeId {
        self.next += 1;
        NodeId(self.next)
    }

    fn text(&mut self) -> Vec<u8> {
        let words = ["alpha ", "beta ", "gamma\n", "of ", "the ", "price ", "für "];
        let bytes = 60 + self.rng.below(6000) as usize;
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(words[self.rng.below(words.len() as u64) as usize]);
        }
        text.into_bytes()
    }

    fn noise(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| self.rng.below(256) as u8).collect()
    }

    fn edge(&self, directory: usize, text: &str) -> Edge {
        Edge::new(self.directories[directory], name(text))
    }

    fn create(&mut self, directory: usize, text: &str, bytes: &[u8]) -> NodeId {
        let node = self.node();
        let events = vec![create(node, self.edge(directory, text), Kind::File), write(node, bytes)];
        self.world.capture(ROOT, events);
        node
    }

    fn rewrite(&mut self, node: NodeId, bytes: &[u8]) -> Lsn {
        let size = bytes.len() as u64;
        self.world.capture(ROOT, vec![Event::Resize { node, size }, write(node, bytes)])
    }

    fn rename(&mut self, node: NodeId, directory: usize, from: &str, to: &str) -> Lsn {
        let (from, to) = (self.edge(directory, from), self.edge(directory, to));
        let event = Event::Rename { node, from, to, from_parent_mtime: None, to_parent_mtime: None };
        self.world.capture(ROOT, vec![event])
    }

    fn new_file(&mut self) {
        let (directory, number) = (self.rng.below(5) as usize, self.next);
        let bytes = self.text();
        let text = format!("doc-{number}.txt");
        let node = self.create(directory, &text, &bytes);
        self.good.insert((directory, text), (node, bytes));
    }

    /// A person writes a file anew.
    fn save(&mut self, key: &(usize, String)) {
        let bytes = self.text();
        let node = self.good[key].0;
        self.rewrite(node, &bytes);
        self.good.insert(key.clone(), (node, bytes));
    }

    /// An attack on all files that people had; people work on meanwhile. First and last capture of it.
    fn attack(&mut self, style: u64) -> (u64, u64) {
        let victims: Vec<(usize, String)> = self.good.keys().cloned().collect();
        let (mut first, mut last) = (None, Lsn::ZERO);
        for (number, key) in victims.iter().enumerate() {
            // Some are changed shortly before their turn: that version is the last good one.
            if self.rng.below(6) == 0 && number > 10 {
                self.save(key);
            }
            if self.rng.below(8) == 0 {
                self.new_file();
            }
            let ((directory, text), (node, bytes)) = (key.clone(), self.good[key].clone());
            let noise = self.noise(bytes.len() + 32);
            let locked = format!("{text}.locked");
            let began = self.world.applied().captured + 1;
            last = match style {
                0 => self.rewrite(node, &noise),
                1 => {
                    self.rewrite(node, &noise);
                    self.rename(node, directory, &text, &locked)
                }
                2 => {
                    self.rename(node, directory, &text, &locked);
                    self.rewrite(node, &noise)
                }
                _ => {
                    self.create(directory, &locked, &noise);
                    let at = self.edge(directory, &text);
                    self.world.capture(ROOT, vec![Event::Remove { node, at, parent_mtime: None }])
                }
            };
            first = first.or(Some(began));
            if self.rng.below(10) == 0 && number > 20 {
                // A file that came during the attack and is spared by it.
                let spared: Vec<_> = self.good.keys().filter(|key| !victims.contains(key)).cloned().collect();
                if let Some(key) = spared.first() {
                    self.save(key);
                }
            }
        }
        for directory in 0..5 {
            self.create(directory, "READ-ME.txt", b"Your files are ours. Pay.");
        }
        (first.unwrap(), last.captured)
    }

    fn find(&self) -> Vec<Burst> {
        let mut found = Vec::new();
        find(&self.world, Lsn::ZERO, self.world.applied(), (&[], &limits()), &NoMonitor, &mut |burst| {
            found.push(burst);
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    fn way_back(&self, span: &Span, paths: &[PathFilter]) -> LastGood {
        let now = self.world.applied();
        touched(&self.world, (span.first, span.last), now, paths, &limits(), &NoMonitor).unwrap()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let snapshot = self.world.tree.snapshot(ROOT);
        let files = snapshot.into_iter().filter(|(_, seen)| seen.kind == Kind::File);
        files.map(|(path, seen)| (String::from_utf8(path).unwrap(), seen.data)).collect()
    }

    fn expected(&self) -> BTreeMap<String, Vec<u8>> {
        let path = |(directory, text): &(usize, String)| format!("d{directory}/{text}");
        self.good.iter().map(|(key, (_, bytes))| (path(key), bytes.clone())).collect()
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn create(node: NodeId, at: Edge, kind: Kind) -> Event {
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
    let meta = Meta { kind, size: 0, attributes, xattrs: Vec::new() };
    Event::Create { node, at, meta, origin: None, parent_mtime: None }
}

fn write(node: NodeId, bytes: &[u8]) -> Event {
    let data = Payload::Inline(bytes.to_vec().into());
    Event::Write { node, offset: 0, data, before: None }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("REWIND_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let first = std::env::var("REWIND_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    first..first + count
}

/// A tree that people have worked on for a while, without many hits in a window.
fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed);
    for _ in 0..60 {
        lab.new_file();
    }
    let keys: Vec<_> = lab.good.keys().cloned().collect();
    for n in 0..40 {
        lab.save(&keys[n % 5]);
    }
    // Quiet for longer than a window.
    for cookie in 0..260 {
        let barrier = Marker::Barrier { cookie, class: Class::Crash };
        lab.world.capture(ROOT, vec![Event::Mark(barrier)]);
    }
    lab
}

#[test]
fn every_style_is_found_and_taken_back_and_nothing_else_is() {
    for seed in seeds() {
        for style in 0..4 {
            println!("seed {seed} style {style}");
            let mut lab = lab(seed);
            assert_eq!(lab.find(), [], "seed {seed}: before the attack");
            let (first, last) = lab.attack(style);
            let found = lab.find();
            assert_eq!(found.len(), 1, "seed {seed} style {style}: {found:?}");
            let burst = &found[0];
            assert!(burst.span.first <= first, "{} {first}", burst.span.first);
            assert!(burst.span.last >= last, "{} {last}", burst.span.last);
            assert_eq!(burst.confidence, Confidence::High, "{burst:?}");
            assert!(burst.kinds.contains(&BurstKind::EntropyJump));
            assert!(burst.kinds.contains(&BurstKind::MassRewrite));
            assert_eq!(burst.kinds.contains(&BurstKind::MassRename), style != 0, "{burst:?}");
            assert!(!burst.examples.is_empty());
            // People go on.
            for _ in 0..5 {
                lab.new_file();
            }
            let way = lab.way_back(&burst.span, &[]);
            assert!(
                way.groups.len() > 1,
                "seed {seed} style {style}: nobody changed anything before its turn"
            );
            assert_eq!(way.later.0, 0, "{:?}", way.later);
            let head = lab.world.applied();
            let there = lab.files();
            assert_ne!(there, lab.expected());
            let report = replica_to_groups(&lab.world, &way.groups, &RewindOptions::default(), &NoMonitor)
                .unwrap()
                .unwrap();
            assert!(lab.files() == lab.expected(), "seed {seed} style {style}: {}", differs(&lab));
            // One bookmark leads back.
            assert_eq!(
                lab.world.bookmarks().into_iter().collect::<Vec<_>>(),
                [(report.before.clone(), head)]
            );
            // The same again finds nothing to do.
            let again = replica_to_groups(
                &lab.world,
                &lab.way_back(&burst.span, &[]).groups,
                &RewindOptions { before: Some(report.before), ..RewindOptions::default() },
                &NoMonitor,
            );
            assert_eq!(again.unwrap().map_or(0, |again| again.files_changed), 0, "seed {seed} style {style}");
            crate::rewind_replica(&lab.world, head, &RewindOptions::default(), &NoMonitor).unwrap();
            assert!(lab.files() == there, "seed {seed} style {style}: back at the damage");
        }
    }
}

fn differs(lab: &Lab) -> String {
    let (is, should) = (lab.files(), lab.expected());
    let missing: Vec<_> =
        should.iter().filter(|(p, b)| is.get(*p) != Some(b)).map(|(p, _)| p).take(5).collect();
    let more: Vec<_> = is.keys().filter(|path| !should.contains_key(*path)).take(5).collect();
    for (p, b) in &should {
        match is.get(p) {
            None => println!("ABSENT {p}"),
            Some(x) if x != b => println!(
                "OTHER {p}: {} bytes, should be {}; text {}",
                x.len(),
                b.len(),
                std::str::from_utf8(x).is_ok()
            ),
            _ => {}
        }
    }
    format!("missing or other: {missing:?}, too many: {more:?}")
}

#[test]
fn a_path_alone_is_taken_back() {
    let mut lab = lab(3);
    lab.attack(1);
    let burst = lab.find().remove(0);
    let only = PathFilter::new(ROOT, b"d2").unwrap();
    let before = lab.files();
    let way = lab.way_back(&burst.span, &[only]);
    assert!(way.files > 5);
    replica_to_groups(&lab.world, &way.groups, &RewindOptions::default(), &NoMonitor).unwrap();
    let (after, expected) = (lab.files(), lab.expected());
    let inside = |path: &String| path.starts_with("d2/");
    let part = |files: &BTreeMap<String, Vec<u8>>, wanted: bool| -> BTreeMap<String, Vec<u8>> {
        files.iter().filter(|(path, _)| inside(path) == wanted).map(|(p, b)| (p.clone(), b.clone())).collect()
    };
    assert!(part(&after, true) == part(&expected, true));
    assert!(part(&after, false) == part(&before, false));
}

#[test]
fn mass_work_that_stays_sound_is_said_with_less_confidence() {
    let mut lab = lab(4);
    let keys: Vec<_> = lab.good.keys().cloned().collect();
    for key in keys.iter().take(60) {
        lab.save(key);
    }
    let found = lab.find();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].kinds.as_slice(), found[0].confidence),
        ([BurstKind::MassRewrite].as_slice(), Confidence::Low)
    );
    assert_eq!(found[0].spoiled, 0);
    // Nobody can tell work from work: all of it is touched.
    assert_eq!(lab.way_back(&found[0].span, &[]).files, 60);
}

#[test]
fn what_was_changed_after_the_burst_is_said() {
    let mut lab = lab(5);
    lab.attack(1);
    let burst = lab.find().remove(0);
    let (directory, text) = lab.good.keys().next().unwrap().clone();
    // Somebody puts an old copy in the place of a lost file.
    lab.create(directory, &text, b"from a stick");
    let way = lab.way_back(&burst.span, &[]);
    assert_eq!(way.later.0, 1, "{:?}", way.later);
    assert_eq!(way.later.1[0].path(), format!("d{directory}/{text}").into_bytes());
}

#[test]
fn appending_to_many_files_is_no_burst_and_a_short_life_is_no_obstacle() {
    let mut lab = Lab::new(6);
    for _ in 0..40 {
        lab.new_file();
    }
    let keys: Vec<_> = lab.good.keys().cloned().collect();
    for key in &keys {
        // The last page, and what is new: as it is captured.
        let (node, mut bytes) = lab.good[key].clone();
        let page = bytes.len() / 4096 * 4096;
        bytes.extend_from_slice(b"one line more\n");
        let data = Payload::Inline(bytes[page..].to_vec().into());
        lab.world.capture(ROOT, vec![Event::Write { node, offset: page as u64, data, before: None }]);
        lab.good.insert(key.clone(), (node, bytes));
    }
    assert_eq!(lab.find(), []);
    // Written, and copied away, within one window.
    lab.attack(3);
    let burst = lab.find().remove(0);
    assert!(
        burst.kinds.contains(&BurstKind::MassRename) && burst.confidence == Confidence::High,
        "{burst:?}"
    );
    let way = lab.way_back(&burst.span, &[]);
    replica_to_groups(&lab.world, &way.groups, &RewindOptions::default(), &NoMonitor).unwrap();
    assert!(lab.files() == lab.expected(), "{}", differs(&lab));
}

#[test]
fn a_burst_does_not_go_on_over_a_cut() {
    let mut lab = lab(7);
    let (first, last) = lab.attack(0);
    let middle = (first + last) / 2;
    let mut bounds = Vec::new();
    let cuts = [1, middle, u64::MAX];
    find(&lab.world, Lsn::ZERO, lab.world.applied(), (&cuts, &limits()), &NoMonitor, &mut |burst| {
        bounds.push((burst.span.first, burst.span.last));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(bounds.len() == 2 && bounds[0].1 <= middle && bounds[1].0 > middle, "{bounds:?} {middle}");
}

fn quiet(lab: &mut Lab) {
    for cookie in 0..260 {
        let barrier = Marker::Barrier { cookie, class: Class::Crash };
        lab.world.capture(ROOT, vec![Event::Mark(barrier)]);
    }
}

fn back(lab: &mut Lab) -> LastGood {
    let found = lab.find();
    assert_eq!(found.len(), 1, "{found:?}");
    let way = lab.way_back(&found[0].span, &[]);
    println!(
        "files {} left {} spared {} later {:?} coarse {}",
        way.files, way.left, way.spared, way.later.0, way.coarse
    );
    replica_to_groups(&lab.world, &way.groups, &RewindOptions::default(), &NoMonitor).unwrap();
    way
}

#[test]
fn review_files_of_one_name_made_before_the_burst_stay() {
    let mut lab = Lab::new(11);
    for _ in 0..60 {
        lab.new_file();
    }
    let mut made = Vec::new();
    for d in 0..3 {
        let bytes = lab.text();
        let node = lab.create(d, "index.html", &bytes);
        made.push(((d, "index.html".to_owned()), (node, bytes)));
    }
    quiet(&mut lab);
    lab.attack(1);
    lab.good.extend(made);
    back(&mut lab);
    assert!(lab.files() == lab.expected(), "{}", differs(&lab));
}

#[test]
fn review_hard_links_of_one_name_keep_content() {
    let mut lab = Lab::new(12);
    for _ in 0..60 {
        lab.new_file();
    }
    let mut made = Vec::new();
    for d in 0..3 {
        let bytes = lab.text();
        let text = format!("orig-{d}");
        let node = lab.create(d, &text, &bytes);
        let at = lab.edge(d, "current");
        lab.world.capture(ROOT, vec![Event::Link { node, at, parent_mtime: None }]);
        let newer = lab.text();
        lab.rewrite(node, &newer);
        made.push(((d, text), (node, newer.clone())));
        made.push(((d, "current".to_owned()), (node, newer)));
    }
    quiet(&mut lab);
    lab.attack(1);
    lab.good.extend(made);
    back(&mut lab);
    assert!(lab.files() == lab.expected(), "{}", differs(&lab));
}

#[test]
fn review_a_neighbour_does_not_make_it_stale() {
    let mut lab = Lab::new(13);
    for _ in 0..60 {
        lab.new_file();
    }
    let keys: Vec<_> = lab.good.keys().take(4).cloned().collect();
    for key in &keys {
        // As SQLite does: a journal comes, the file changes, the journal goes.
        let bytes = lab.text();
        let name = format!("{}-journal", key.1);
        let node = lab.create(key.0, &name, &bytes);
        let at = lab.edge(key.0, &name);
        lab.save(key);
        lab.world.capture(ROOT, vec![Event::Remove { node, at, parent_mtime: None }]);
        lab.save(key);
    }
    quiet(&mut lab);
    lab.attack(3);
    back(&mut lab);
    assert!(lab.files() == lab.expected(), "{}", differs(&lab));
}

#[test]
fn review_a_bak_does_not_make_it_stale() {
    let mut lab = Lab::new(14);
    for _ in 0..60 {
        lab.new_file();
    }
    let keys: Vec<_> = lab.good.keys().take(4).cloned().collect();
    for key in &keys {
        let bytes = lab.text();
        let name = format!("{}.bak", key.1);
        let node = lab.create(key.0, &name, &bytes);
        lab.good.insert((key.0, name), (node, bytes));
        lab.save(key);
    }
    quiet(&mut lab);
    lab.attack(3);
    back(&mut lab);
    assert!(lab.files() == lab.expected(), "{}", differs(&lab));
}

#[test]
fn review_a_directory_renamed_after() {
    let mut lab = Lab::new(15);
    for _ in 0..60 {
        lab.new_file();
    }
    quiet(&mut lab);
    lab.attack(1);
    let (node, from) = (lab.directories[0], Edge::new(NodeId::root(ROOT), name("d0")));
    let to = Edge::new(NodeId::root(ROOT), name("d0.moved"));
    lab.world.capture(
        ROOT,
        vec![Event::Rename { node, from, to, from_parent_mtime: None, to_parent_mtime: None }],
    );
    back(&mut lab);
    println!("{}", differs(&lab));
    let files = lab.files();
    let lost: Vec<_> = lab
        .expected()
        .into_iter()
        .filter(|(path, bytes)| {
            let moved = path.replacen("d0/", "d0.moved/", 1);
            files.get(path) != Some(bytes) && files.get(&moved) != Some(bytes)
        })
        .map(|(path, _)| path)
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}
