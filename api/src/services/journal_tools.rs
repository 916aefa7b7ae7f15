//! Looking into journals.

use super::{Shared, Stream};
use crate::convert::item_to_wire;
use crate::engine::{EngineError, EngineResult};
use journal::Lsn;
use journal::dump::Range;
use tonic::{Request, Response, Status};
use wire::codes;
use wire::v1::journal_tools_server::JournalTools;
use wire::v1::{DumpItem, DumpRequest};

/// The service.
#[derive(Clone)]
pub struct JournalToolsService(pub Shared);

fn range_from_wire(request: &DumpRequest) -> EngineResult<Range> {
    let lsn = |lsn: &wire::v1::Lsn| Lsn { captured: lsn.captured, local: lsn.local };
    let range = Range {
        from: request.from.as_ref().map_or(Lsn::ZERO, lsn),
        to: request.to.as_ref().map_or(Lsn::MAX, lsn),
    };
    if range.from > range.to {
        let message = format!("LSN {} is behind LSN {}", range.from, range.to);
        return Err(EngineError::new(&codes::BAD_PARAMETERS, message)
            .because("A dump goes from an older point to a newer one.")
            .advise("Exchange the two points."));
    }
    Ok(range)
}

#[tonic::async_trait]
impl JournalTools for JournalToolsService {
    type DumpStream = Stream<DumpItem>;

    async fn dump(&self, request: Request<DumpRequest>) -> Result<Response<Self::DumpStream>, Status> {
        let request = request.into_inner();
        let range = range_from_wire(&request)?;
        let stream = self.0.stream(move |shared, answers| {
            shared.engine.journal_dump(&request.scenario, range, &mut |item| answers.send(item_to_wire(item)))
        })?;
        Ok(Response::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let at = |captured| Some(wire::v1::Lsn { captured, local: 0 });
        let parse = |from, to| range_from_wire(&DumpRequest { scenario: "docs".to_owned(), from, to });
        assert_eq!(parse(None, None).unwrap(), Range::default());
        let range = Range { from: Lsn::captured(3), to: Lsn::captured(3) };
        assert_eq!(parse(at(3), at(3)).unwrap(), range);
        assert_eq!(parse(at(4), at(3)).unwrap_err().code().id, codes::BAD_PARAMETERS.id);
    }
}
