//! Finding bursts.

use super::{Shared, Stream};
use crate::engine::BurstsQuery;
use crate::points::TimeSpec;
use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::bursts_server::Bursts;

/// The service.
#[derive(Clone)]
pub struct BurstsService(pub Shared);

#[tonic::async_trait]
impl Bursts for BurstsService {
    type ListStream = Stream<v1::Burst>;

    async fn list(
        &self,
        request: Request<v1::ListBurstsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let v1::ListBurstsRequest { scenario, since, until } = request.into_inner();
        let time = |text: &str| (!text.is_empty()).then(|| TimeSpec::parse(text)).transpose();
        let query = BurstsQuery { scenario, since: time(&since)?, until: time(&until)? };
        let stream = self.0.stream(move |shared, answers| {
            for burst in shared.engine.bursts(&query, answers)? {
                if answers.send(burst).is_break() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Response::new(stream))
    }
}
