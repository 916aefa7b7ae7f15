//! Jobs and the activity log.

use super::{STREAM_ITEMS_MAX, Shared, Stream};
use crate::activity::{Activity, Line, LineFilter};
use crate::engine::EngineError;
use crate::jobs::{JobFilter, JobId, Jobs, no_such_job};
use crate::points::{TimeSpec, wall_clock};
use crate::records::LogWritten;
use crate::server_journal::Position;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::convert::time_to_wire;
use wire::v1::{self, JobRef, JobState};

/// A job that does not change is repeated so often, which also shows a client that the daemon lives.
const REPEAT: Duration = Duration::from_secs(2);

/// The service.
#[derive(Clone)]
pub struct JobsService(pub Shared);

fn parse_id(text: &str) -> Result<JobId, EngineError> {
    text.parse().map(JobId).map_err(|_| no_such_job(text))
}

#[tonic::async_trait]
impl v1::jobs_server::Jobs for JobsService {
    type ListStream = Stream<v1::Job>;
    type WatchStream = Stream<v1::Job>;
    type LogStream = Stream<v1::LogLine>;

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        let filter = JobFilter {
            state: Some(request.state()).filter(|state| *state != JobState::Unspecified),
            scenario: Some(request.scenario).filter(|scenario| !scenario.is_empty()),
            limit: usize::try_from(request.limit).unwrap_or(0),
        };
        let stream = self.0.stream(move |shared, answers| {
            for job in shared.jobs.list(&filter)? {
                if answers.send(job).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn show(&self, request: Request<JobRef>) -> Result<Response<v1::Job>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.0.call(move |shared| shared.jobs.show(id)).await.map(Response::new)
    }

    async fn watch(&self, request: Request<JobRef>) -> Result<Response<Self::WatchStream>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        let jobs = Arc::clone(&self.0.jobs);
        let (job, signal) = self.0.call(move |shared| shared.jobs.watch(id)).await?;
        let (sender, receiver) = mpsc::channel(STREAM_ITEMS_MAX);
        // The channel has room for it.
        drop(sender.try_send(Ok(job)));
        if let Some(signal) = signal {
            tokio::spawn(follow_job(jobs, id, signal, sender, self.0.stop.clone()));
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel(&self, request: Request<JobRef>) -> Result<Response<v1::Job>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.0.call(move |shared| shared.jobs.cancel(id)).await.map(Response::new)
    }

    async fn hold(&self, request: Request<JobRef>) -> Result<Response<v1::Job>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.0.call(move |shared| shared.jobs.hold(id)).await.map(Response::new)
    }

    async fn release(&self, request: Request<JobRef>) -> Result<Response<v1::Job>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.0.call(move |shared| shared.jobs.release(id)).await.map(Response::new)
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Result<Response<Self::LogStream>, Status> {
        let request = request.into_inner();
        let now = wall_clock();
        let filter = LineFilter {
            scenario: Some(request.scenario).filter(|scenario| !scenario.is_empty()),
            job: if request.job.is_empty() { None } else { Some(parse_id(&request.job)?.0) },
            since: if request.since.is_empty() {
                None
            } else {
                Some(TimeSpec::parse(&request.since)?.resolve(now))
            },
        };
        let (sender, receiver) = mpsc::channel(STREAM_ITEMS_MAX);
        let reader =
            LogReader { activity: self.0.activity.clone(), filter, sender, stop: self.0.stop.clone() };
        tokio::spawn(async move {
            if let Err(status) = reader.read(request.follow).await {
                drop(reader.sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends the job after every change until it has ended.
async fn follow_job(
    jobs: Arc<Jobs>,
    id: JobId,
    mut signal: watch::Receiver<u64>,
    sender: mpsc::Sender<Result<v1::Job, Status>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            // An error: the job has ended and its owner dropped it; it is read once more.
            _ = signal.changed() => {}
            () = tokio::time::sleep(REPEAT) => {}
            _ = stop.wait_for(|stop| *stop) => return,
            () = sender.closed() => return,
        }
        let of_job = Arc::clone(&jobs);
        let job = match tokio::task::spawn_blocking(move || of_job.show(id)).await {
            Ok(Ok(job)) => job,
            Ok(Err(error)) => return drop(sender.send(Err(error.into())).await),
            Err(_) => return,
        };
        let done = job.state() == JobState::Done;
        if sender.send(Ok(job)).await.is_err() || done {
            return;
        }
    }
}

struct LogReader {
    activity: Activity,
    filter: LineFilter,
    sender: mpsc::Sender<Result<v1::LogLine, Status>>,
    stop: watch::Receiver<bool>,
}

impl LogReader {
    async fn read(&self, follow: bool) -> Result<(), Status> {
        // Subscribed before the replay, so that no line falls between the two.
        let mut lines = self.activity.subscribe();
        let mut last = self.replay(Position(0)).await?;
        if !follow {
            return Ok(());
        }
        let mut stop = self.stop.clone();
        loop {
            let received = tokio::select! {
                received = lines.recv() => received,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = self.sender.closed() => return Ok(()),
            };
            match received {
                Ok(Line { position, record }) => {
                    if position > last {
                        last = position;
                        if self.filter.matches(&record)
                            && self.sender.send(Ok(message(record))).await.is_err()
                        {
                            return Ok(());
                        }
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => last = self.replay(last).await?,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn replay(&self, after: Position) -> Result<Position, Status> {
        let (activity, filter, sender) = (self.activity.clone(), self.filter.clone(), self.sender.clone());
        let replayed = tokio::task::spawn_blocking(move || {
            activity.replay(after, &filter, &mut |line| match sender.blocking_send(Ok(message(line))) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        match replayed.await {
            Ok(result) => result.map_err(Status::from),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

fn message(line: LogWritten) -> v1::LogLine {
    v1::LogLine {
        time: Some(time_to_wire(line.time)),
        scenario: line.scenario,
        job: if line.job == 0 { String::new() } else { line.job.to_string() },
        level: line.level,
        text: line.text,
    }
}
