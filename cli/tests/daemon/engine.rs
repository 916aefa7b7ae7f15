//! An engine that keeps scenarios in the registry and answers from memory.
//!
//! Names decide what happens: `partial` skips a file, `damaged` has a damaged journal, `slow` works until it is
//! interrupted or its gate opens.

use api::activity::Activity;
use api::definition::{Definition, Setting};
use api::engine::{
    BackupReport, BackupRequest, Bookmark, BookmarkRequest, Change, CheckReport, CheckRequest, Counts,
    Damage, DeleteReport, DiffSums, Each, Engine, EngineError, EngineResult, Finding, FlushRequest, Flushed,
    ForgetReport, ForgetRequest, Group, JournalStats, Level, MountReport, MountWhat, NewRepository, Onto,
    Point, PointKind, PointsQuery, Progress, PrunePlan, PruneRequest, Pruned, RebuildReport, Repository,
    RepositoryStats, ResolvedPoint, Restores, ResumeReport, RewindPlan, RewindReport, RewindRequest,
    RunOptions, RunReport, Scenario, Session, SessionsQuery, Skipped, Snapshot, SnapshotId, SnapshotRequest,
    State, Status, TablesVerified, UnlockReport, VerifyReport,
};
use api::points::PointSpec;
use api::registry::{Entry, Registry};
use journal::check::{RowDifference, TablesReport};
use journal::dump::{Item, Range, Value};
use journal::held::{Held, HeldLevel};
use journal::log::{RecordAt, Stream};
use journal::{Class, Lsn, Provenance, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use wire::codes;

pub struct TestEngine {
    pub registry: Arc<Registry>,
    pub activity: Activity,
    pub gate: Arc<AtomicBool>,
    pub runs: Arc<AtomicUsize>,
    states: Mutex<BTreeMap<String, State>>,
    bookmarks: Mutex<Vec<(String, Bookmark)>>,
}

const TIME: Timestamp = Timestamp(1_795_241_100_000_000_007);

const WINDOW: Held = Held {
    oldest: (Lsn::captured(1), TIME),
    promised: Duration::from_secs(1000),
    held: Duration::from_secs(800),
    percent: 80,
    level: HeldLevel::Warning,
    over_budget: false,
};

impl TestEngine {
    pub fn new(
        registry: Arc<Registry>,
        activity: Activity,
        gate: Arc<AtomicBool>,
        runs: Arc<AtomicUsize>,
    ) -> Self {
        TestEngine { registry, activity, gate, runs, states: Mutex::default(), bookmarks: Mutex::default() }
    }

    fn state(&self, name: &str) -> EngineResult<State> {
        self.registry.get(name)?;
        Ok(self.states.lock().get(name).copied().unwrap_or(State::Stopped))
    }

    fn enter(&self, name: &str, state: State) {
        self.states.lock().insert(name.to_owned(), state);
    }

    fn replicating(&self, name: &str) -> EngineResult<()> {
        match self.state(name)? {
            State::Replicating => Ok(()),
            other => Err(EngineError::not_replicating(name, other)),
        }
    }

    fn scenario(&self, entry: Entry) -> EngineResult<Scenario> {
        let state = self.state(&entry.definition.name)?;
        Ok(Scenario { id: entry.id, definition: entry.definition, created: entry.created, state })
    }

    fn work(&self, name: &str, progress: &dyn Progress) -> EngineResult<()> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        progress.report("working", 1, Some(2), "files");
        while name.starts_with("slow") && !self.gate.load(Ordering::SeqCst) {
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

fn changes() -> Vec<Change> {
    let change = |kind, path: &str, from: Option<&str>, bytes| Change {
        kind,
        path: path.into(),
        from: from.map(PathBuf::from),
        bytes,
    };
    vec![
        change(PointKind::Created, "/srv/docs/a", None, 4096),
        change(PointKind::Renamed, "/srv/docs/c", Some("/srv/docs/b"), 0),
        change(PointKind::Removed, "/srv/docs/d", None, 0),
    ]
}

fn all_changes(each: Each<'_, Change>) -> Counts {
    let mut counts = Counts::default();
    for change in changes() {
        counts.add(&change);
        if each(change).is_break() {
            break;
        }
    }
    counts
}

impl Engine for TestEngine {
    fn create(&self, definition: Definition) -> EngineResult<Scenario> {
        self.scenario(self.registry.create(definition)?)
    }

    fn list(&self) -> EngineResult<Vec<Scenario>> {
        self.registry.list().into_iter().map(|entry| self.scenario(entry)).collect()
    }

    fn show(&self, scenario: &str) -> EngineResult<Scenario> {
        self.scenario(self.registry.get(scenario)?)
    }

    fn delete(&self, scenario: &str) -> EngineResult<DeleteReport> {
        if self.state(scenario)? != State::Stopped {
            return Err(EngineError::new(&codes::NOT_STOPPED, format!("scenario \"{scenario}\" runs")));
        }
        self.registry.delete(scenario)?;
        Ok(DeleteReport { journal_bytes: 4711 })
    }

    fn set(&self, scenario: &str, settings: &[Setting]) -> EngineResult<Scenario> {
        let changed = self.registry.get(scenario)?.definition.with_settings(settings)?;
        self.scenario(self.registry.update(changed)?)
    }

    fn verify(&self, scenario: &str) -> EngineResult<Vec<Finding>> {
        self.state(scenario)?;
        let level = if scenario == "partial" { Level::Error } else { Level::Info };
        Ok(vec![Finding {
            level,
            side: "master",
            check: "root",
            text: "found".into(),
            path: Some("/srv".into()),
        }])
    }

    fn run(&self, scenario: &str, _: &RunOptions, progress: &dyn Progress) -> EngineResult<RunReport> {
        if self.state(scenario)? == State::Replicating {
            return Ok(RunReport { ran_already: true, ..RunReport::default() });
        }
        self.enter(scenario, State::Synchronizing);
        if let Err(error) = self.work(scenario, progress) {
            self.enter(scenario, State::Stopped);
            return Err(error);
        }
        self.enter(scenario, State::Replicating);
        let skipped =
            Skipped { path: "/srv/docs/secret".into(), what: "content", error: "permission denied".into() };
        let skipped: Vec<_> = (scenario == "partial").then_some(skipped).into_iter().collect();
        progress.note(Level::Info, "synchronized");
        Ok(RunReport {
            synchronized: true,
            files: 3,
            skipped_count: skipped.len() as u64,
            skipped,
            ..RunReport::default()
        })
    }

    fn stop(&self, scenario: &str) -> EngineResult<Status> {
        self.state(scenario)?;
        self.enter(scenario, State::Stopped);
        self.status(scenario)
    }

    fn suspend(&self, scenario: &str) -> EngineResult<Status> {
        if self.state(scenario)? == State::Stopped {
            return Err(EngineError::new(
                &codes::CANNOT_SUSPEND,
                format!("scenario \"{scenario}\" is stopped"),
            ));
        }
        self.enter(scenario, State::Suspended);
        self.status(scenario)
    }

    fn resume(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<ResumeReport> {
        if self.state(scenario)? == State::Stopped {
            return Err(EngineError::not_replicating(scenario, State::Stopped));
        }
        self.work(scenario, progress)?;
        self.enter(scenario, State::Replicating);
        Ok(ResumeReport { captures_applied: 2, lsn: Lsn::captured(9), ..ResumeReport::default() })
    }

    fn status(&self, scenario: &str) -> EngineResult<Status> {
        let state = self.state(scenario)?;
        Ok(Status {
            name: scenario.to_owned(),
            id: self.registry.get(scenario)?.id,
            state,
            cause: None,
            captured: Lsn::captured(9),
            journaled: Lsn::captured(9),
            applied: Lsn::local(8, 2),
            lag: Duration::from_millis(1500),
            spool_bytes: 0,
            gaps_open: 0,
            last_proof: None,
            last_scrub: None,
            scrub_every: None,
            skipped: 0,
            window: Some(WINDOW),
        })
    }

    fn flush(&self, scenario: &str, request: &FlushRequest) -> EngineResult<Flushed> {
        self.replicating(scenario)?;
        if scenario == "partial" {
            std::thread::sleep(request.timeout);
            return Err(EngineError::new(&codes::TIMED_OUT, "the barrier did not come through"));
        }
        Ok(Flushed { lsn: Lsn::captured(9), time: TIME, class: Class::Fuzzy, held: None })
    }

    fn add_repository(&self, _: NewRepository) -> EngineResult<Repository> {
        Err(EngineError::new(&codes::NOT_AVAILABLE, "this engine has no repositories"))
    }

    fn list_repositories(&self) -> EngineResult<Vec<Repository>> {
        Ok(Vec::new())
    }

    fn backup(&self, request: &BackupRequest, _: &dyn Progress) -> EngineResult<BackupReport> {
        Err(api::vault::no_such_repository(&request.repository))
    }

    fn repository_stats(&self, repository: &str, _: &dyn Progress) -> EngineResult<RepositoryStats> {
        Err(api::vault::no_such_repository(repository))
    }

    fn check_repository(
        &self,
        request: &CheckRequest,
        _: &dyn Progress,
    ) -> EngineResult<(CheckReport, Duration)> {
        Err(api::vault::no_such_repository(&request.repository))
    }

    fn plan_prune(&self, request: &PruneRequest, _: &dyn Progress) -> EngineResult<PrunePlan> {
        Err(api::vault::no_such_repository(&request.repository))
    }

    fn prune(&self, request: &PruneRequest, _: &dyn Progress) -> EngineResult<Pruned> {
        Err(api::vault::no_such_repository(&request.repository))
    }

    fn plan_forget(&self, request: &ForgetRequest, _: &dyn Progress) -> EngineResult<Vec<Group>> {
        Err(api::vault::no_such_repository(&request.repository))
    }

    fn forget(&self, request: &ForgetRequest, _: &dyn Progress) -> EngineResult<ForgetReport> {
        Err(api::vault::no_such_repository(&request.repository))
    }

    fn unlock(&self, repository: &str, _: bool) -> EngineResult<UnlockReport> {
        Err(api::vault::no_such_repository(repository))
    }

    fn list_sessions(&self, _: &SessionsQuery) -> EngineResult<Vec<Session>> {
        Ok(Vec::new())
    }

    fn create_snapshot(&self, scenario: &str, _: &SnapshotRequest) -> EngineResult<Snapshot> {
        Err(self.replicating(scenario).err().unwrap_or_else(|| SnapshotId::missing("0-0")))
    }

    fn list_snapshots(&self, _: Option<&str>) -> EngineResult<Vec<Snapshot>> {
        Ok(Vec::new())
    }

    fn show_snapshot(&self, id: SnapshotId) -> EngineResult<Snapshot> {
        Err(SnapshotId::missing(&id.to_string()))
    }

    fn release_snapshot(&self, id: SnapshotId) -> EngineResult<Snapshot> {
        Err(SnapshotId::missing(&id.to_string()))
    }

    fn mount(&self, scenario: &str, _: &MountWhat, _: &Path) -> EngineResult<MountReport> {
        Err(self.replicating(scenario).err().unwrap_or_else(|| SnapshotId::missing("0-0")))
    }

    fn restores(&self) -> EngineResult<&dyn Restores> {
        Err(EngineError::new(&codes::NOT_SUPPORTED_THERE, "restoring is tried with a real engine"))
    }

    fn set_bookmark(&self, scenario: &str, request: &BookmarkRequest) -> EngineResult<Bookmark> {
        self.replicating(scenario)?;
        let name = request.name.clone();
        let mut bookmarks = self.bookmarks.lock();
        if bookmarks.iter().any(|(of, bookmark)| of == scenario && bookmark.name == name) {
            return Err(EngineError::new(&codes::BOOKMARK_EXISTS, format!("bookmark \"{name}\" exists")));
        }
        let (lsn, class) = (Lsn::captured(9), Class::Fuzzy);
        let bookmark = Bookmark { name, lsn, time: TIME, class, automatic: false, held: None };
        bookmarks.push((scenario.to_owned(), bookmark.clone()));
        Ok(bookmark)
    }

    fn list_bookmarks(&self, scenario: &str) -> EngineResult<Vec<Bookmark>> {
        self.state(scenario)?;
        Ok(self.bookmarks.lock().iter().filter(|(of, _)| of == scenario).map(|(_, b)| b.clone()).collect())
    }

    fn delete_bookmark(&self, scenario: &str, name: &str) -> EngineResult<Bookmark> {
        let mut bookmarks = self.bookmarks.lock();
        let at = bookmarks.iter().position(|(of, bookmark)| of == scenario && bookmark.name == name);
        let missing =
            || EngineError::new(&codes::NO_SUCH_BOOKMARK, format!("no bookmark is named \"{name}\""));
        Ok(bookmarks.remove(at.ok_or_else(missing)?).1)
    }

    fn resolve(&self, scenario: &str, point: &PointSpec) -> EngineResult<ResolvedPoint> {
        self.state(scenario)?;
        let lsn = match point {
            PointSpec::Lsn(lsn) if lsn.captured > 9 => {
                return Err(EngineError::new(&codes::OUTSIDE_WINDOW, format!("LSN {lsn} is in the future")));
            }
            PointSpec::Lsn(lsn) => *lsn,
            PointSpec::Bookmark(name) => {
                let missing =
                    || EngineError::new(&codes::NO_SUCH_BOOKMARK, format!("no bookmark \"{name}\""));
                self.list_bookmarks(scenario)?.iter().find(|b| b.name == *name).ok_or_else(missing)?.lsn
            }
            _ => Lsn::captured(5),
        };
        Ok(ResolvedPoint { lsn, time: TIME, class: Class::Fuzzy })
    }

    fn points(&self, query: &PointsQuery, each: Each<'_, Point>) -> EngineResult<()> {
        self.state(&query.scenario)?;
        for number in (1..=query.limit.unwrap_or(5)).rev() {
            let point = Point {
                lsn: Lsn::captured(number),
                time: TIME,
                kind: PointKind::Modified,
                path: Some(std::os::unix::ffi::OsStringExt::from_vec(b"/srv/caf\xe9".to_vec()))
                    .map(|name: std::ffi::OsString| name.into()),
                from: None,
                bytes: 7,
                provenance: Provenance::Derived,
                note: None,
                class: None,
                retained: true,
            };
            if each(point) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn plan_rewind(
        &self,
        request: &RewindRequest,
        _: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RewindPlan> {
        let to = self.resolve(&request.scenario, &request.to)?;
        let counts = all_changes(each);
        let point = PointSpec::Lsn(to.lsn);
        Ok(RewindPlan { to, from: Lsn::captured(9), counts, warnings: vec!["look".into()], point })
    }

    fn rewind(&self, request: &RewindRequest, progress: &dyn Progress) -> EngineResult<RewindReport> {
        let to = self.resolve(&request.scenario, &request.to)?;
        self.work(&request.scenario, progress)?;
        let before = match request.onto {
            Onto::Directory(_) => None,
            _ => Some("before-rewind".to_owned()),
        };
        if request.onto == Onto::Replica {
            self.enter(&request.scenario, State::Detached);
        }
        let elapsed = Duration::from_millis(250);
        Ok(RewindReport {
            to,
            before,
            onto_master: false,
            files_changed: 3,
            bytes_written: 4096,
            elapsed,
            skipped: vec![],
            skipped_count: 0,
        })
    }

    fn diff(
        &self,
        scenario: &str,
        from: &PointSpec,
        to: &PointSpec,
        _: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<DiffSums> {
        let (from, to) = (self.resolve(scenario, from)?.lsn, self.resolve(scenario, to)?.lsn);
        Ok(DiffSums { from, to, counts: all_changes(each) })
    }

    fn journal_stats(&self, scenario: &str) -> EngineResult<JournalStats> {
        self.state(scenario)?;
        Ok(JournalStats {
            oldest: Some((Lsn::captured(1), TIME)),
            redo_bytes: 1 << 20,
            payload_bytes: 1 << 19,
            undo_payload_bytes: 1 << 18,
            window: Some(WINDOW),
            pinned: vec![(3, Lsn::captured(7), "backup".to_owned())],
            ..JournalStats::default()
        })
    }

    fn journal_verify(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<VerifyReport> {
        self.work(scenario, progress)?;
        let damage =
            Damage { file: "/d/journal/damaged/1.seg".into(), offset: 77, what: "bad checksum".into() };
        let damage = (scenario == "damaged").then_some(damage).into_iter().collect();
        let difference = RowDifference { table: "names", key: "#2/a".to_owned(), what: "it is missing" };
        let tables =
            TablesReport { rows: 5, differing: 1, differences: vec![difference], ..TablesReport::default() };
        let tables = if scenario == "rows" { tables } else { TablesReport::default() };
        let tables = TablesVerified::Compared(tables);
        Ok(VerifyReport { tables, segments: 2, records: 10, bytes: 5000, damage, ..VerifyReport::default() })
    }

    fn journal_dump(&self, scenario: &str, range: Range, each: Each<'_, Item>) -> EngineResult<()> {
        self.state(scenario)?;
        let fields = vec![
            ("offset", Value::Unsigned(7)),
            ("path", Value::Bytes(b"a\xff".to_vec())),
            ("xattr", Value::Bytes(b"one".to_vec())),
            ("xattr", Value::Bytes(b"two".to_vec())),
            ("last_part", Value::Flag(true)),
        ];
        let at = RecordAt { segment: 1, offset: 128 };
        for captured in 1..=3 {
            let lsn = Lsn::captured(captured);
            let (stream, lsn) = (Stream::Redo, (range.from..=range.to).contains(&lsn).then_some(lsn));
            let item = Item { stream, at, lsn, time: TIME, kind: "write", fields: fields.clone() };
            if item.lsn.is_some() && each(item).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn journal_rebuild(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<RebuildReport> {
        self.work(scenario, progress)?;
        Ok(RebuildReport { captures: 9, rows: 20, ..RebuildReport::default() })
    }

    fn start(&self) -> EngineResult<()> {
        self.activity.write(Level::Info, "", None, "the daemon started");
        Ok(())
    }

    fn shutdown(&self, _: Duration) {}
}
