//! Snapshots and mounted points.

use super::{Shared, Stream, timeout};
use crate::convert::path_from_wire;
use crate::engine::{EngineError, Level, MountWhat, SnapshotId, SnapshotRequest};
use crate::points::PointSpec;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::v1;
use wire::v1::snapshots_server::Snapshots;

/// The service.
#[derive(Clone)]
pub struct SnapshotsService(pub Shared);

#[tonic::async_trait]
impl Snapshots for SnapshotsService {
    type ListStream = Stream<v1::Snapshot>;

    async fn create(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let v1::CreateSnapshotRequest { scenario, at, consistent, timeout: limit } = request.into_inner();
        let at = (!at.is_empty()).then(|| PointSpec::parse(&at)).transpose()?;
        if at.is_some() && consistent {
            let message = "a point that is past cannot be made consistent";
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message).into());
        }
        let wanted = SnapshotRequest { at, consistent, timeout: timeout(limit)? };
        let made = self.0.call(move |shared| {
            let snapshot = shared.engine.create_snapshot(&scenario, &wanted)?;
            let text = format!("snapshot {} keeps LSN {}", snapshot.id, snapshot.lsn);
            shared.activity.write(Level::Info, &scenario, None, &text);
            Ok(snapshot)
        });
        Ok(Response::new(made.await?.into()))
    }

    async fn list(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let scenario = request.into_inner().scenario;
        let stream = self.0.stream(move |shared, answers| {
            let scenario = (!scenario.is_empty()).then_some(scenario.as_str());
            for snapshot in shared.engine.list_snapshots(scenario)? {
                if answers.send(snapshot).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }

    async fn show(&self, request: Request<v1::SnapshotRef>) -> Result<Response<v1::Snapshot>, Status> {
        let id = SnapshotId::wanted(&request.into_inner().id)?;
        let snapshot = self.0.call(move |shared| shared.engine.show_snapshot(id));
        Ok(Response::new(snapshot.await?.into()))
    }

    async fn release(&self, request: Request<v1::SnapshotRef>) -> Result<Response<v1::Snapshot>, Status> {
        let id = SnapshotId::wanted(&request.into_inner().id)?;
        let released = self.0.call(move |shared| {
            let snapshot = shared.engine.release_snapshot(id)?;
            let text = format!("snapshot {id} (LSN {}) was released", snapshot.lsn);
            shared.activity.write(Level::Info, &snapshot.scenario, None, &text);
            Ok(snapshot)
        });
        Ok(Response::new(released.await?.into()))
    }

    async fn mount(&self, request: Request<v1::MountRequest>) -> Result<Response<v1::Mounted>, Status> {
        let v1::MountRequest { scenario, point, directory } = request.into_inner();
        let what = match SnapshotId::parse(&point) {
            Some(id) => MountWhat::Snapshot(id),
            None => MountWhat::Point(PointSpec::parse(&point)?),
        };
        let directory = path_from_wire(&directory);
        if !directory.is_absolute() {
            let message = format!("the path {} is not absolute", directory.display());
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message).into());
        }
        let mounted = self.0.call(move |shared| shared.engine.mount(&scenario, &what, &directory));
        Ok(Response::new(mounted.await?.into()))
    }
}
