//! Bursts as messages.

use super::{lsn, path_to_wire, time};
use crate::engine::Burst;
use restore::burst::{BurstKind, Confidence};
use wire::v1;

impl From<Burst> for v1::Burst {
    fn from(burst: Burst) -> Self {
        let kind = |kind: &BurstKind| match kind {
            BurstKind::MassRewrite => v1::BurstKind::MassRewrite,
            BurstKind::MassRename => v1::BurstKind::MassRename,
            BurstKind::EntropyJump => v1::BurstKind::EntropyJump,
        };
        let confidence = match burst.confidence {
            Confidence::Low => v1::Confidence::Low,
            Confidence::Medium => v1::Confidence::Medium,
            Confidence::High => v1::Confidence::High,
        };
        let examples = burst.examples.iter().map(|(path, to)| v1::BurstFile {
            path: path_to_wire(path),
            to: to.as_deref().map(path_to_wire).unwrap_or_default(),
        });
        v1::Burst {
            point: burst.point().to_string(),
            examples: examples.collect(),
            first: lsn(burst.first),
            last: lsn(burst.last),
            begin: time(burst.begin),
            end: time(burst.end),
            kinds: burst.kinds.iter().map(|one| kind(one).into()).collect(),
            confidence: confidence.into(),
            files: burst.files,
            rewritten: burst.rewritten,
            renamed: burst.renamed,
            judged: burst.judged,
            spoiled: burst.spoiled,
            after: burst.after.unwrap_or_default(),
        }
    }
}
