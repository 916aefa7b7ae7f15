//! Watching over the promised history: whoever relies on it hears when less is held, before it is needed.
//!
//! One thread looks at the journals that are open; it opens none. A line is written when the level changes, not each
//! time it is seen. After a restart of the daemon a level that is not whole is told again.

use super::Host;
use super::scene::Scene;
use crate::engine::Level;
use journal::held::{Held, HeldLevel};
use journal::journal::Clock;
use journal::journal::SystemClock;
use journal::retention::RetentionPolicy;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;
use wire::units::format_duration;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon the thread notices that the daemon ends.
const TICK: Duration = Duration::from_millis(500);

/// What to say of a window that was at another level before.
fn line(before: HeldLevel, held: &Held) -> Option<(Level, String)> {
    if before == held.level {
        return None;
    }
    let (percent, promised) = (held.percent, format_duration(whole_seconds(held.promised)));
    let there = format_duration(whole_seconds(held.held));
    let less = format!(
        "{percent} % of the promised history is held: {there} of {promised}, since LSN {}; raise journal-max, or \
         lower retention",
        held.oldest.0
    );
    Some(match held.level {
        HeldLevel::Whole => {
            (Level::Info, format!("the promised history is held again: {there} of {promised}"))
        }
        HeldLevel::Warning => (Level::Warning, less),
        HeldLevel::Error => (Level::Error, less),
    })
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

impl Scene {
    /// How much of the promised history is held.
    pub(super) fn held(&self, journal: &journal::journal::Journal) -> Option<Held> {
        let definition = self.definition();
        let policy = RetentionPolicy { keep: definition.retention, bytes_max: definition.journal_bytes_max };
        journal.held(policy, SystemClock.now())
    }
}

/// Watches all scenarios of a host for as long as it is there.
pub(super) fn start(host: &Arc<Host>) {
    let watched = Arc::downgrade(host);
    let run = move || {
        let mut levels: HashMap<u64, HeldLevel> = HashMap::new();
        let mut stopped: HashMap<u64, String> = HashMap::new();
        let mut looked = Instant::now();
        loop {
            std::thread::sleep(TICK);
            let Some(host) = watched.upgrade() else { return };
            if looked.elapsed() < LOOK_EVERY {
                continue;
            }
            looked = Instant::now();
            let scenes: Vec<Arc<Scene>> = host.scenes.lock().values().cloned().collect();
            levels.retain(|id, _| scenes.iter().any(|scene| scene.id() == *id));
            stopped.retain(|id, _| scenes.iter().any(|scene| scene.id() == *id));
            for scene in scenes {
                if let Some(replica) = scene.opened() {
                    tell_of_thinning(&scene, replica.thinning().stopped, &mut stopped);
                }
                let Some(held) = scene.opened().and_then(|replica| scene.held(replica.journal())) else {
                    continue;
                };
                let before = levels.insert(scene.id(), held.level).unwrap_or(HeldLevel::Whole);
                if let Some((level, text)) = line(before, &held) {
                    scene.note(level, &text);
                }
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("window".to_owned()).spawn(run) {
        tracing::error!(%error, "cannot start a thread");
    }
}

/// Says once why thinning does not go on.
fn tell_of_thinning(scene: &Scene, why: Option<String>, told: &mut HashMap<u64, String>) {
    let Some(why) = why else {
        told.remove(&scene.id());
        return;
    };
    if told.get(&scene.id()) != Some(&why) {
        let code = &codes::THINNING_STOPPED;
        scene.note(Level::Error, &format!("{}: {}: {why}", code.id, code.title));
        told.insert(scene.id(), why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::{Lsn, Timestamp};

    fn held(percent: u32, level: HeldLevel) -> Held {
        let promised = Duration::from_secs(360_000);
        let oldest = (Lsn::captured(9), Timestamp(0));
        Held { oldest, promised, held: promised * percent / 100, percent, level, over_budget: false }
    }

    #[test]
    fn a_level_is_told_when_it_changes() {
        use HeldLevel::{Error, Warning, Whole};
        for (before, after, expected) in [
            (Whole, Whole, None),
            (Whole, Warning, Some(Level::Warning)),
            (Warning, Warning, None),
            (Warning, Error, Some(Level::Error)),
            (Error, Warning, Some(Level::Warning)),
            (Warning, Whole, Some(Level::Info)),
        ] {
            let told = line(before, &held(80, after));
            assert_eq!(told.map(|(level, _)| level), expected, "{before:?} to {after:?}");
        }
        let (_, text) = line(Whole, &held(80, Warning)).unwrap();
        assert!(text.contains("80 %") && text.contains("LSN 9"), "{text}");
    }
}
