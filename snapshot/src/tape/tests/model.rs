//! Random labelling, writing, reading, ejecting, failures, kills and power cuts against a model of what the volumes must
//! hold. The model knows names and archives, nothing of blocks.

use super::super::faulty::{Fault, Faults, FaultyDrive, Kill};
use super::*;
use crate::catalog::tests::disk::Cut;
use std::collections::BTreeMap;

const VOLUMES: usize = 5;
const BLOCK: usize = 1024;

/// A session, as the model has it.
struct Known {
    archive: Vec<u8>,
    /// The volumes that must hold it; empty if nobody was told that it is whole.
    promised: Vec<String>,
}

struct World {
    disk: SimDisk,
    drive: Option<FaultyDrive<FileDrive>>,
    faults: Faults,
    rng: Rng,
    known: BTreeMap<String, Known>,
    next: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::default();
        let mut drive = open(&disk);
        let sizes: Vec<u64> = (0..VOLUMES).map(|_| 5 + rng.below(80) as u64).collect();
        labelled(&mut drive, &sizes, BLOCK, if rng.below(2) == 0 { 0 } else { 3000 });
        let (drive, faults) = FaultyDrive::new(drive);
        World { disk, drive: Some(drive), faults, rng, known: BTreeMap::new(), next: 1 }
    }

    fn drive(&mut self) -> &mut FaultyDrive<FileDrive> {
        self.drive.as_mut().unwrap()
    }

    fn media(&mut self) -> String {
        format!("TAPE-{}", 1 + self.rng.below(VOLUMES))
    }

    /// The process ends, and the machine too if it is a cut.
    fn restart(&mut self, cut: Option<Cut>) {
        self.drive = None;
        if let Some(cut) = cut {
            self.disk = self.disk.cut(cut, &mut self.rng);
        }
        let (drive, faults) = FaultyDrive::new(open(&self.disk));
        (self.drive, self.faults) = (Some(drive), faults);
    }

    /// Something that may go wrong during a write, and whether the process ends with it.
    fn trouble(&mut self) -> bool {
        let media = self.media();
        let at = Position { file: 1 + self.rng.below(4) as u32, block: self.rng.below(12) as u64 };
        let kill = self.rng.pick(&[Kill::Before, Kill::After]);
        let (what, happens) = (self.rng.below(9), self.rng.below(2) == 0);
        let call = 1 + self.rng.below(60) as u64;
        match what {
            0 => self.faults.add(Fault::Write(media, at)),
            1 => self.faults.add(Fault::Filemark(media, at.file, happens)),
            2 => self.faults.add(Fault::End(media, at)),
            3 | 4 => self.faults.add(Fault::Kill(call, kill)),
            _ => {}
        }
        matches!(what, 3 | 4)
    }

    fn write(&mut self) {
        let session = session_id(self.next);
        self.next += 1;
        let size = self.rng.pick(&[10, 800, 6000]);
        let archive = archive(&session, 1 + self.rng.below(8), size, &mut self.rng);
        let may_die = self.trouble();
        let result = super::write(self.drive(), &session, &archive);
        let promised = match &result {
            Ok(written) => written.parts.iter().map(|part| part.media.clone()).collect(),
            Err(_) => Vec::new(),
        };
        self.known.insert(session, Known { archive, promised });
        if may_die {
            let cut = self.rng.pick(&[None, Some(Cut::Nothing), Some(Cut::Everything), Some(Cut::Part)]);
            self.restart(cut);
        }
        self.faults.heal();
    }

    fn label(&mut self) {
        let media = self.media();
        let must = self.rng.below(4) == 0;
        let overwrite = if must { Overwrite::Force } else { Overwrite::Refuse };
        self.drive().load(Wanted::Named(&media)).unwrap();
        let has_promise = self.known.values().any(|known| known.promised.contains(&media));
        match volume::label(self.drive(), request(&media, 1, BLOCK), overwrite) {
            Ok(_) => {
                assert!(must || !has_promise, "{media} was labelled over sessions");
                // What it held is gone, here and of what goes on elsewhere.
                for known in self.known.values_mut().filter(|known| known.promised.contains(&media)) {
                    known.promised.clear();
                }
            }
            Err(error) => {
                assert!(!must && error.kind() == TapeErrorKind::WouldOverwrite, "{error:?}");
            }
        }
    }

    /// All that was promised is there, and all that is there is what was written.
    fn check(&mut self) {
        let mut stock = Vec::new();
        for number in 1..=VOLUMES {
            self.drive().load(Wanted::Named(&format!("TAPE-{number}"))).unwrap();
            stock.push(inventory(self.drive()).unwrap());
        }
        let found = sessions(&stock);
        for session in &found {
            let Some(parts) = session.parts.clone() else { continue };
            let bytes = super::read(self.drive(), &session.session, parts).unwrap();
            assert!(bytes == self.known[&session.session].archive, "{}", session.session);
        }
        for (session, known) in self.known.iter().filter(|(_, known)| !known.promised.is_empty()) {
            let found = found.iter().find(|found| found.session == *session).unwrap();
            let media = found.parts.iter().flatten().map(|part| part.media.clone());
            assert_eq!(media.collect::<Vec<_>>(), known.promised, "{session}");
        }
    }

    fn step(&mut self) {
        match self.rng.below(10) {
            0 => self.label(),
            1 => self.drive().eject().unwrap(),
            2 => {
                let media = self.media();
                self.drive().load(Wanted::Named(&media)).unwrap();
            }
            3 => {
                let cut = self.rng.pick(&[None, Some(Cut::Nothing), Some(Cut::Everything), Some(Cut::Part)]);
                self.restart(cut);
            }
            4 => self.check(),
            _ => self.write(),
        }
    }
}

#[test]
fn volumes_hold_what_the_model_says() {
    let first = seed();
    let runs = std::env::var("TAPE_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let (mut promised, mut spanned, mut lost) = (0, 0, 0);
    for seed in first..first + runs {
        println!("TAPE_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..40 {
            world.step();
        }
        world.check();
        promised += world.known.values().filter(|known| !known.promised.is_empty()).count();
        spanned += world.known.values().filter(|known| known.promised.len() > 1).count();
        lost += world.known.values().filter(|known| known.promised.is_empty()).count();
    }
    println!("{promised} sessions were promised, {spanned} of them over volumes; {lost} were not");
    assert!(promised > 0 && lost > 0);
}
