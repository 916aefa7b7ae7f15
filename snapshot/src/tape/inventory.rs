//! What is on a volume, without reading contents.
//!
//! Of each tape file the beginning is read, which says the session and the part, and the last block, which says whether
//! it is the end of the session. What comes out names everything that is there, what is not ours or cannot be read too.
//! A session is *whole* if its end was found and, from there back, each part is where the one behind it says: so parts
//! of a session that was cut off, or of one that was written twice, are never taken for more than they are.

use super::drive::{Drive, DriveError, DriveErrorKind, Medium, Met, Position};
use super::error::TapeError;
use super::header::{self, UNIT, Unit};
use super::label::VolumeLabel;
use super::part::{
    Beginning, EndRecord, PROLOGUE_BYTES_MAX, PartLabel, Prior, is_session, parse_beginning, short,
};
use super::span_writer::PartPlace;
use super::volume;
use serde::Serialize;
use std::collections::BTreeMap;

/// Longest label of a session, in bytes of JSON.
pub const SESSION_LABEL_BYTES_MAX: usize = 16 << 20;
/// Most bytes of labels of one volume that are kept; ours have a few thousand each.
const LABELS_BYTES_MAX: usize = 64 << 20;
/// Most tape files of a volume that are looked at.
const FILES_MAX: u32 = 1 << 20;

/// What a tape file behind the label is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FileContent {
    /// The first part of a session, or all of it.
    First {
        /// Id of the session; only its first eight characters if the part ends inside the label.
        session: String,
        /// Its label, as it was written, if all of it is in this part: of a session that is compressed or encrypted the one in
        /// clear.
        label: Option<serde_json::Value>,
    },
    /// A part that goes on.
    Later {
        /// Id of the session.
        session: String,
        /// Which part, from 2.
        part: u32,
        /// The part before it.
        prior: Prior,
    },
    /// Nothing of ours.
    Foreign,
    /// It could not be read.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// A tape file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TapeFile {
    /// Its number; the label is 0.
    pub file: u32,
    /// What it is.
    pub content: FileContent,
    /// Bytes on the medium, where they are known.
    pub bytes: Option<u64>,
    /// Bytes of the session's archive, if the session ends with it.
    pub ends: Option<u64>,
    /// Objects that the archive lacks or holds damaged, as its end says; none if it does not end here.
    pub missed: u64,
}

/// What is on a volume.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VolumeInventory {
    /// Its label.
    pub label: VolumeLabel,
    /// Tape files behind the label that end with a filemark.
    pub files: Vec<TapeFile>,
    /// Whether a tape file stands behind them that was cut off. It counts for nothing; the next one takes its place.
    pub is_cut_off: bool,
    /// Bytes written, where the drive knows.
    pub used: Option<u64>,
    /// Bytes left, where the drive knows.
    pub free: Option<u64>,
}

/// A session, as volumes have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TapeSession {
    /// Its id.
    pub session: String,
    /// Its label, if the first part is there.
    pub label: Option<serde_json::Value>,
    /// Parts in their order, if it is whole.
    pub parts: Option<Vec<PartPlace>>,
    /// Names of the volumes that have anything of it.
    pub media: Vec<String>,
    /// Bytes of its archive, if its end was found.
    pub bytes: Option<u64>,
    /// Objects that its archive lacks or holds damaged, if its end was found.
    pub missed: u64,
}

/// What the volume in the drive holds.
///
/// # Errors
/// What reading the label may raise; `Drive` if the drive fails. What the medium does not give is part of the answer.
pub fn inventory(drive: &mut dyn Drive) -> Result<VolumeInventory, TapeError> {
    let label = volume::read_label(drive)?;
    let end = drive.end_of_data()?;
    let files = look_at_all(drive, end.file, LABELS_BYTES_MAX)?;
    let Medium { capacity, used, .. } = drive.medium()?;
    let free = capacity.zip(used).map(|(capacity, used)| capacity.saturating_sub(used));
    let is_cut_off = end.block > 0;
    Ok(VolumeInventory { label, files, is_cut_off, used, free })
}

/// All tape files but the label. Labels of sessions are kept up to so many bytes.
pub(super) fn look_at_all(
    drive: &mut dyn Drive,
    end: u32,
    mut room: usize,
) -> Result<Vec<TapeFile>, TapeError> {
    let mut files = Vec::new();
    for number in 1..end.min(FILES_MAX) {
        let (mut file, label_bytes) = look(drive, number)?;
        match room.checked_sub(label_bytes) {
            Some(left) => room = left,
            None => {
                let why = "the labels of the volume's sessions take more memory than they may".to_owned();
                (file.content, file.ends) = (FileContent::Unreadable { why }, None);
            }
        }
        files.push(file);
    }
    Ok(files)
}

/// A tape file, and bytes of its session's label. What the medium does not give is told of the tape file; what the drive does not do fails.
fn look(drive: &mut dyn Drive, file: u32) -> Result<(TapeFile, usize), TapeError> {
    let unreadable = |error: DriveError| match error.kind {
        DriveErrorKind::Media | DriveErrorKind::NoPlace => {
            Ok((FileContent::Unreadable { why: error.to_string() }, 0))
        }
        _ => Err(error),
    };
    let (content, label_bytes) = first_member(drive, file).or_else(unreadable)?;
    let (mut end, mut blocks) = (None, None);
    match last_block(drive, file) {
        Ok((count, block)) => (blocks, end) = (count, EndRecord::parse(&block)),
        Err(error) => drop(unreadable(error)?),
    }
    let id = match &content {
        FileContent::First { session, .. } | FileContent::Later { session, .. } => Some(session),
        _ => None,
    };
    let end = end.filter(|end| id.is_some_and(|id| end.session.starts_with(id.as_str())));
    let blocks = blocks.or(end.as_ref().map(|end| end.blocks));
    let bytes = blocks.and_then(|blocks| blocks.checked_mul(drive.block_bytes() as u64));
    let (ends, missed) = end.map_or((None, 0), |end| (Some(end.length), end.missed));
    Ok((TapeFile { file, content, bytes, ends, missed }, label_bytes))
}

fn last_block(drive: &mut dyn Drive, file: u32) -> Result<(Option<u64>, Vec<u8>), DriveError> {
    let blocks = drive.locate_last_block(file)?;
    let mut block = vec![0; drive.block_bytes()];
    let met = drive.read(&mut block)?;
    block.truncate(if let Met::Block(bytes) = met { bytes } else { 0 });
    Ok((blocks, block))
}

/// The bytes of a tape file from its beginning, as many as are asked for.
struct Start<'d> {
    drive: &'d mut dyn Drive,
    bytes: Vec<u8>,
    is_all: bool,
}

impl Start<'_> {
    fn at_least(&mut self, bytes: usize) -> Result<bool, DriveError> {
        while self.bytes.len() < bytes && !self.is_all {
            let mut block = vec![0; self.drive.block_bytes()];
            match self.drive.read(&mut block)? {
                Met::Block(count) => self.bytes.extend_from_slice(block.get(..count).unwrap_or_default()),
                Met::Filemark | Met::EndOfData => self.is_all = true,
            }
        }
        Ok(self.bytes.len() >= bytes)
    }

    fn unit(&mut self, at: usize) -> Result<Option<header::Header>, DriveError> {
        if !self.at_least(at + UNIT)? {
            return Ok(None);
        }
        let unit = self.bytes.get(at..at + UNIT).and_then(|unit| <&Unit>::try_from(unit).ok());
        Ok(unit.and_then(header::parse))
    }
}

/// What the first member says, and bytes of the session's label.
fn first_member(drive: &mut dyn Drive, file: u32) -> Result<(FileContent, usize), DriveError> {
    drive.locate(file)?;
    let mut start = Start { drive, bytes: Vec::new(), is_all: false };
    for want in [UNIT, PROLOGUE_BYTES_MAX] {
        start.at_least(want)?;
        match parse_beginning(&start.bytes) {
            Beginning::Part(PartLabel { session, part, prior, .. }, _) => {
                return Ok((FileContent::Later { session, part, prior }, 0));
            }
            Beginning::TooShort => {}
            Beginning::Other => return session_label(&mut start),
        }
    }
    Ok((FileContent::Foreign, 0))
}

/// The label of a session: the first member of its archive.
fn session_label(start: &mut Start<'_>) -> Result<(FileContent, usize), DriveError> {
    let mut at = 0;
    let header = loop {
        let Some(header) = start.unit(at)? else { return Ok((FileContent::Foreign, 0)) };
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if size > SESSION_LABEL_BYTES_MAX {
            return Ok((FileContent::Foreign, 0));
        }
        at += UNIT;
        match header.kind {
            b'x' | b'g' if at < SESSION_LABEL_BYTES_MAX => at += size.next_multiple_of(UNIT),
            b'0' => break header,
            _ => return Ok((FileContent::Foreign, 0)),
        }
    };
    // What a label calls the session depends on whose it is: the session's, or that of what carries it.
    let Some((short_id, key)) = std::str::from_utf8(&header.name)
        .ok()
        .and_then(|name| name.strip_prefix(".rewind/")?.split_once('/'))
        .and_then(|(id, name)| Some((id, session_key(name)?)))
        .filter(|(id, _)| id.len() == 8 && is_session(id))
    else {
        return Ok((FileContent::Foreign, 0));
    };
    let end = at + usize::try_from(header.size).unwrap_or(0);
    if !start.at_least(end)? {
        return Ok((FileContent::First { session: short_id.to_owned(), label: None }, 0));
    }
    let content = start.bytes.get(at..end).unwrap_or_default();
    let label: Option<serde_json::Value> = serde_json::from_slice(content).ok();
    let session = label.as_ref().and_then(|label| label.get(key)?.as_str()).map(str::to_owned);
    Ok(match session.filter(|session| is_session(session) && short(session) == short_id) {
        Some(session) => (FileContent::First { session, label }, content.len()),
        None => (FileContent::Foreign, 0),
    })
}

/// Where a label says the session's id.
fn session_key(name: &str) -> Option<&'static str> {
    match name {
        "session.json" => Some("id"),
        "label.json" => Some("session"),
        _ => None,
    }
}

/// Whether a tape file is of a session, as far as it says.
fn is_of(file: &TapeFile, id: &str) -> bool {
    match &file.content {
        FileContent::First { session, label: None } => session == short(id),
        FileContent::First { session, .. } | FileContent::Later { session, .. } => session == id,
        _ => false,
    }
}

/// The sessions that are on volumes, together.
#[must_use]
pub fn sessions(volumes: &[VolumeInventory]) -> Vec<TapeSession> {
    let mut found: BTreeMap<&str, TapeSession> = BTreeMap::new();
    let files = volumes.iter().flat_map(|volume| &volume.files);
    for session in files.filter_map(|file| match &file.content {
        FileContent::First { label: None, .. } => None,
        FileContent::First { session, .. } | FileContent::Later { session, .. } => Some(session),
        _ => None,
    }) {
        found.entry(session).or_insert_with(|| TapeSession {
            session: session.clone(),
            label: None,
            parts: None,
            media: Vec::new(),
            bytes: None,
            missed: 0,
        });
    }
    for (id, session) in &mut found {
        for volume in volumes {
            for file in volume.files.iter().filter(|file| is_of(file, id)) {
                if let FileContent::First { label: Some(label), .. } = &file.content {
                    session.label = Some(label.clone());
                }
                if !session.media.contains(&volume.label.media) {
                    session.media.push(volume.label.media.clone());
                }
                if file.ends.is_some() {
                    (session.bytes, session.missed) = (file.ends, file.missed);
                }
            }
        }
        session.parts = parts_of(volumes, id).ok();
    }
    found.into_values().collect()
}

/// Where the parts of a session lie, in their order. Of a session that was written more than once, the last that is whole.
///
/// # Errors
/// `NotWhole` if its end is on none of the volumes; `MissingVolume` if a part is on a volume that is not among them;
/// `Damaged` if it is not where it should be.
pub fn parts_of(volumes: &[VolumeInventory], session: &str) -> Result<Vec<PartPlace>, TapeError> {
    let mut result = Err(TapeError::NotWhole { session: session.to_owned() });
    for volume in volumes {
        for file in volume.files.iter().filter(|file| file.ends.is_some() && is_of(file, session)) {
            let parts = parts_before(volumes, session, volume, file);
            if parts.is_ok() || result.is_err() {
                result = parts;
            }
        }
    }
    result
}

/// The parts up to the last, from that back.
fn parts_before(
    volumes: &[VolumeInventory],
    session: &str,
    volume: &VolumeInventory,
    file: &TapeFile,
) -> Result<Vec<PartPlace>, TapeError> {
    let place = |volume: &VolumeInventory, file: &TapeFile| PartPlace {
        media: volume.label.media.clone(),
        volume: volume.label.id.clone(),
        file: file.file,
        blocks: file.bytes.unwrap_or(0) / volume.label.block_bytes.max(1) as u64,
    };
    let mut places = vec![place(volume, file)];
    let mut content = &file.content;
    while let FileContent::Later { part, prior, .. } = content {
        let before = part.saturating_sub(1);
        let Some(volume) = volumes.iter().find(|volume| volume.label.id == prior.volume) else {
            return Err(TapeError::MissingVolume {
                session: session.to_owned(),
                part: before,
                media: prior.media.clone(),
                source: None,
            });
        };
        let is_before = |file: &&TapeFile| {
            file.file == prior.file
                && is_of(file, session)
                && match &file.content {
                    FileContent::Later { part, .. } => *part == before && before > 1,
                    _ => before == 1,
                }
        };
        let Some(file) = volume.files.iter().find(is_before) else {
            return Err(TapeError::Damaged {
                session: session.to_owned(),
                part: before,
                media: prior.media.clone(),
                at: Position { file: prior.file, block: 0 },
                offset: 0,
                what: "it is not where the part behind it says",
                source: None,
            });
        };
        places.push(place(volume, file));
        content = &file.content;
    }
    places.reverse();
    Ok(places)
}
