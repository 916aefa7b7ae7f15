//! Volumes of tape.

use super::{Shared, Stream};
use crate::tapes::{self, LabelWanted, Volume};
use snapshot::tape::{FileContent, TapeFile, VolumeInventory, VolumeLabel};
use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::tapes_server::Tapes;

/// The service.
#[derive(Clone)]
pub struct TapesService(pub Shared);

fn label_to_wire(label: VolumeLabel) -> v1::TapeVolume {
    v1::TapeVolume {
        media: label.media,
        id: label.id,
        serial: label.serial.unwrap_or_default(),
        pool: label.pool,
        sequence: label.sequence,
        block_bytes: u32::try_from(label.block_bytes).unwrap_or_default(),
        compression: label.compression,
        encryption: label.encryption,
        made_by: label.made_by,
        made_at: i64::try_from(label.made_at)
            .ok()
            .map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        ..v1::TapeVolume::default()
    }
}

fn file_to_wire(file: TapeFile) -> v1::TapePart {
    let word = |key: &str| match &file.content {
        FileContent::First { label: Some(label), .. } => label.get(key)?.as_str().map(str::to_owned),
        _ => None,
    };
    let (compression, encryption) =
        (word("compression").unwrap_or_default(), word("encryption").unwrap_or_default());
    let (session, part, problem) = match file.content {
        FileContent::First { session, .. } => (session, 1, String::new()),
        FileContent::Later { session, part, .. } => (session, part, String::new()),
        FileContent::Foreign => (String::new(), 0, String::new()),
        FileContent::Unreadable { why } => (String::new(), 0, why),
    };
    let (ends, bytes, file) = (file.ends.is_some(), file.bytes, file.file);
    v1::TapePart { file, session, part, ends, bytes, problem, compression, encryption }
}

fn volume_to_wire(volume: Volume) -> v1::TapeVolume {
    let wire = match volume.content {
        Ok(VolumeInventory { label, files, is_cut_off, used, free }) => v1::TapeVolume {
            used_bytes: used,
            free_bytes: free,
            cut_off: is_cut_off,
            files: files.into_iter().map(file_to_wire).collect(),
            ..label_to_wire(label)
        },
        Err(problem) => v1::TapeVolume { media: volume.name, problem, ..v1::TapeVolume::default() },
    };
    v1::TapeVolume { loaded: volume.loaded, ..wire }
}

#[tonic::async_trait]
impl Tapes for TapesService {
    type InventoryStream = Stream<v1::TapeVolume>;

    async fn inventory(
        &self,
        request: Request<v1::TapeRef>,
    ) -> Result<Response<Self::InventoryStream>, Status> {
        let url = request.into_inner().url;
        let stream = self.0.stream(move |shared, answers| {
            shared.engine.permits_tapes()?;
            tapes::volumes(&url, &mut |volume| answers.send(volume_to_wire(volume)))
        })?;
        Ok(Response::new(stream))
    }

    async fn label(
        &self,
        request: Request<v1::LabelTapeRequest>,
    ) -> Result<Response<v1::TapeVolume>, Status> {
        let v1::LabelTapeRequest { url, media, pool, sequence, capacity, block_bytes, force } =
            request.into_inner();
        let block_bytes = block_bytes as usize;
        let wanted = LabelWanted { media, pool, sequence, capacity, block_bytes, force };
        let labelled = self.0.call(move |shared| {
            shared.engine.permits_tapes()?;
            tapes::label(&url, &wanted)
        });
        Ok(Response::new(v1::TapeVolume { loaded: true, ..label_to_wire(labelled.await?) }))
    }

    async fn eject(&self, request: Request<v1::TapeRef>) -> Result<Response<v1::EjectTapeResponse>, Status> {
        let url = request.into_inner().url;
        let ejected = self.0.call(move |shared| {
            shared.engine.permits_tapes()?;
            tapes::eject(&url)
        });
        Ok(Response::new(v1::EjectTapeResponse { media: ejected.await?.unwrap_or_default() }))
    }
}
