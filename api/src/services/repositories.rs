//! Places of sessions.

use super::{Shared, Stream};
use crate::engine::NewRepository;
use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::repositories_server::Repositories;

/// The service.
#[derive(Clone)]
pub struct RepositoriesService(pub Shared);

#[tonic::async_trait]
impl Repositories for RepositoriesService {
    type ListStream = Stream<v1::Repository>;

    async fn add(
        &self,
        request: Request<v1::AddRepositoryRequest>,
    ) -> Result<Response<v1::Repository>, Status> {
        let v1::AddRepositoryRequest { name, url, password } = request.into_inner();
        let new = NewRepository { name, url, password: password.into() };
        let added = self.0.call(move |shared| shared.engine.add_repository(new)).await?;
        Ok(Response::new(added.into()))
    }

    async fn list(
        &self,
        _: Request<v1::ListRepositoriesRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let stream = self.0.stream(move |shared, answers| {
            for repository in shared.engine.list_repositories()? {
                if answers.send(repository).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }
}
