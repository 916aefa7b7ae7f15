//! The little of tar that volumes need: headers of members, records of extended headers.
//!
//! What a session's archive is made of is not decided here. This file writes headers of members of our own, whose names
//! are short, and reads any header far enough to know where its member ends. It refuses what it does not know rather
//! than guess a length.

/// Bytes of a block of tar.
pub(super) const UNIT: usize = 512;
/// Largest size that an octal field holds.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// One block of tar.
pub(super) type Unit = [u8; UNIT];

/// A header as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Type flag.
    pub kind: u8,
    /// Bytes of content, as the field says.
    pub size: u64,
    /// Name, prefix and all.
    pub name: Vec<u8>,
}

/// Bytes that a content takes, padding and all.
pub(super) fn padded(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(UNIT as u64)
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn field(unit: &Unit, from: usize, bytes: usize) -> &[u8] {
    unit.get(from..from + bytes).unwrap_or_default()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// An octal number, or a binary one with its high bit set.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        return is_zero(high).then(|| u64::from_be_bytes(low.try_into().unwrap_or_default()));
    }
    let digits = field.trim_ascii_start().split(|byte| matches!(byte, 0 | b' ')).next()?;
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn checksum(unit: &Unit) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(field(unit, 0, 148)) + 8 * u64::from(b' ') + sum(field(unit, 156, UNIT - 156))
}

/// Reads a header; `None` if it is none.
pub(super) fn parse(unit: &Unit) -> Option<Header> {
    if number(field(unit, 148, 8))? != checksum(unit) {
        return None;
    }
    let is_ustar = field(unit, 257, 6) == b"ustar\0";
    let (name, prefix) = (text(field(unit, 0, 100)), text(field(unit, 345, 155)));
    let name = if is_ustar && !prefix.is_empty() { [prefix, name].join(&b'/') } else { name.to_vec() };
    Some(Header { kind: *unit.get(156)?, size: number(field(unit, 124, 12))?, name })
}

/// A header of a member of our own: mode 0644, owner 0, the given time in seconds. `None` if the name is longer than 100
/// bytes or the size than 8 GiB.
pub(super) fn encode(name: &str, kind: u8, size: u64, seconds: u64) -> Option<Unit> {
    if name.len() > 100 || size > OCTAL_MAX {
        return None;
    }
    let mut unit = [0; UNIT];
    let mut put = |from: usize, bytes: &[u8]| {
        if let Some(field) = unit.get_mut(from..from + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", seconds.min(OCTAL_MAX)).as_bytes());
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum = checksum(&unit);
    if let Some(field) = unit.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    Some(unit)
}

/// Adds a record of an extended header: its own length, key, value.
pub(super) fn push_record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The records of an extended header; `None` if they are none.
pub(super) fn records(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !is_zero(bytes) {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        found.push((record.get(..equals)?, record.get(equals + 1..)?));
        bytes = bytes.get(length..)?;
    }
    Some(found)
}

/// A member of our own with its content, padded.
pub(super) fn push_member(archive: &mut Vec<u8>, name: &str, kind: u8, content: &[u8], seconds: u64) -> bool {
    let Some(header) = encode(name, kind, content.len() as u64, seconds) else { return false };
    archive.extend_from_slice(&header);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(UNIT), 0);
    true
}
