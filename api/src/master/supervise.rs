//! Keeps one [`Served`] for each scenario that the replica assigns to this host.
//!
//! Spool and index lie in directories named by scenario *and* id. Ids are never used twice, so a scenario that was
//! deleted and made again under its name meets no spool of the one before. What becomes of the spool of a scenario that
//! is no longer assigned is decided in [`super::aside`].

use super::aside::{self, Aside, Line};
use super::dial;
use super::served::{Served, directory_name};
use crate::config::MasterOptions;
use crate::daemon::EngineContext;
use crate::engine::{EngineError, EngineResult, Level};
use crate::store::Layout;
use parking_lot::Mutex;
use replication::stream::StreamError;
use replication::stream::master::{Dial, watch_assignments};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use wire::codes;
use wire::stream::Assignment;

/// Pause after the replica has refused the list: a person must change something first.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What is known of the list of scenarios.
enum List {
    /// Nothing yet.
    Unknown,
    /// The replica has said it.
    Heard,
    /// It has not, and this is why.
    Failed(String, &'static wire::codes::Code),
}

/// Looks after all scenarios of this master.
pub(super) struct Supervisor {
    context: EngineContext,
    layout: Layout,
    options: MasterOptions,
    dial: Dial,
    served: Mutex<BTreeMap<u64, Arc<Served>>>,
    list: Mutex<List>,
    /// Spools of scenarios that are not served.
    aside: Mutex<Vec<Aside>>,
    news: Notify,
}

/// A scenario at work.
struct Working {
    assignment: Assignment,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub fn new(context: EngineContext, options: MasterOptions, dial: Dial) -> Self {
        let layout = Layout::new(context.options.data.clone());
        Supervisor {
            context,
            layout,
            options,
            dial,
            served: Mutex::default(),
            list: Mutex::new(List::Unknown),
            aside: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// The scenarios served, by name.
    ///
    /// # Errors
    /// Why the replica has not said yet which they are.
    pub fn list(&self) -> EngineResult<Vec<Arc<Served>>> {
        match &*self.list.lock() {
            List::Heard => {}
            List::Unknown => {
                return Err(EngineError::new(
                    &codes::CANNOT_ATTACH,
                    "the replica has not yet said which scenarios this master serves",
                ));
            }
            List::Failed(why, code) => {
                let message =
                    format!("the replica cannot be asked which scenarios this master serves: {why}");
                return Err(EngineError::new(code, message));
            }
        }
        let mut list: Vec<_> = self.served.lock().values().cloned().collect();
        list.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(list)
    }

    /// One of them.
    ///
    /// # Errors
    /// `NO_SUCH_SCENARIO`, or those of [`Supervisor::list`].
    pub fn find(&self, name: &str) -> EngineResult<Arc<Served>> {
        let list = self.list()?;
        list.into_iter()
            .find(|served| served.name() == name)
            .ok_or_else(|| EngineError::no_such_scenario(name))
    }

    /// Spools of scenarios that are not served, the newest of each name; of one name, or all.
    pub fn aside(&self, name: Option<&str>) -> Vec<Aside> {
        let served: BTreeSet<String> = self.served.lock().values().map(|one| one.name().to_owned()).collect();
        let wanted =
            |one: &&Aside| !served.contains(&one.scenario) && name.is_none_or(|name| one.scenario == name);
        let by_name: BTreeMap<String, Aside> =
            self.aside.lock().iter().filter(wanted).map(|one| (one.scenario.clone(), one.clone())).collect();
        by_name.into_values().collect()
    }

    /// Serves what is assigned until `stop` turns true; then ends all in good order.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (lists, assigned) = watch::channel(Vec::new());
        let follower = tokio::spawn(Arc::clone(&self).follow(lists, stop.clone()));
        let mut working = BTreeMap::new();
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let list = assigned.borrow().clone();
            self.reconcile(&mut working, list).await;
        }
        follower.abort();
        for one in working.values() {
            one.stop.send_replace(true);
        }
        for (_, one) in working {
            drop(one.task.await);
        }
    }

    /// Follows the list of the replica, for ever.
    async fn follow(self: Arc<Self>, lists: watch::Sender<Vec<Assignment>>, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let told = |result: Result<(), &StreamError>| self.told(result);
            let host = self.options.name.clone();
            let followed =
                watch_assignments(self.dial.clone(), host, lists.clone(), told, stop.clone()).await;
            if followed.is_ok() {
                return;
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    fn told(&self, result: Result<(), &StreamError>) {
        let mut list = self.list.lock();
        match result {
            Ok(()) => {
                *list = List::Heard;
                // Kept until somebody looks.
                self.news.notify_one();
            }
            Err(error) => {
                let error = dial::explain(error);
                let why = error.to_failure().message.to_string();
                let known = matches!(&*list, List::Failed(before, _) if *before == why);
                // What runs goes on; only somebody who knows nothing yet needs the reason.
                if !matches!(*list, List::Heard) {
                    *list = List::Failed(why.clone(), error.code());
                }
                if !known {
                    tracing::warn!(
                        code = error.code().id,
                        error = why,
                        "no list of scenarios from the replica"
                    );
                }
            }
        }
    }

    async fn reconcile(self: &Arc<Self>, working: &mut BTreeMap<u64, Working>, list: Vec<Assignment>) {
        let is_as_before = |id: &u64, one: &Working| {
            list.iter().any(|assignment| assignment.scenario == *id && *assignment == one.assignment)
        };
        let over: Vec<u64> =
            working.iter().filter(|(id, one)| !is_as_before(id, one)).map(|(id, _)| *id).collect();
        for id in over {
            let Some(one) = working.remove(&id) else { continue };
            one.stop.send_replace(true);
            drop(one.task.await);
            self.served.lock().remove(&id);
        }
        self.forget_others(&list).await;
        for assignment in list {
            working.entry(assignment.scenario).or_insert_with(|| self.serve(assignment));
        }
    }

    fn serve(self: &Arc<Self>, assignment: Assignment) -> Working {
        let text = format!("this master serves the scenario (id {})", assignment.scenario);
        self.context.activity.write(Level::Info, &assignment.name, None, &text);
        let served =
            Served::new(assignment.clone(), &self.options, self.layout.clone(), self.context.clone());
        self.served.lock().insert(assignment.scenario, Arc::clone(&served));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(served.run(self.dial.clone(), stopped));
        Working { assignment, stop, task }
    }

    /// Sees to what scenarios left that are no longer this master's, and brings back what those left that are again.
    async fn forget_others(&self, list: &[Assignment]) {
        let wanted: BTreeSet<String> = list.iter().map(directory_name).collect();
        let (layout, spool) = (self.layout.clone(), self.options.spool.clone());
        let seen_to = spawn_blocking(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let mut lines: Vec<Line> =
                wanted.iter().filter_map(|name| aside::take_back(&spool, name)).collect();
            lines.extend(aside::forget_others(&spool, &layout, &wanted, now));
            (lines, aside::list(&spool))
        });
        let Ok((lines, aside)) = seen_to.await else { return };
        for Line { level, scenario, text } in lines {
            self.context.activity.write(level, &scenario, None, &text);
        }
        *self.aside.lock() = aside;
    }
}
