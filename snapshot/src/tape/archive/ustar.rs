//! One header block of POSIX ustar, written and read. Numbers that have no room are written as what hurts least (time 0,
//! nobody's id); an extended record has them then.
//!
//! Refused when reading: another magic, a wrong checksum, fields that are not octal. The checksum is a sum: it finds a
//! changed byte, not every damage, so what is read here is proved once more by the member's CRC.

use super::BLOCK_BYTES;

/// A header block.
pub(super) type Block = [u8; BLOCK_BYTES];

/// Owner that is written where the number has no room.
const NOBODY: u64 = 65_534;
/// Largest number of eleven octal digits, and of seven.
pub(super) const ELEVEN: u64 = 0o777_7777_7777;
pub(super) const SEVEN: u64 = 0o777_7777;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
const WHO_BYTES: usize = 31;

/// What stands in a header block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ustar {
    /// Name, prefix included.
    pub name: Vec<u8>,
    pub mode: u64,
    pub uid: u64,
    pub gid: u64,
    /// Bytes that follow in blocks.
    pub size: u64,
    pub mtime: u64,
    pub typeflag: u8,
    pub link: Vec<u8>,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub device: (u64, u64),
}

/// Where a name is cut into prefix and rest; `None` if it has no room.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_BYTES {
        return Some((b"", name));
    }
    // A rest that is empty, or a slash at the end alone, is no name.
    let cuts = name.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0 && at + 1 < name.len());
    for (at, _) in cuts {
        let (prefix, rest) = (name.get(..at)?, name.get(at + 1..)?);
        if prefix.len() <= PREFIX_BYTES && rest.len() <= NAME_BYTES {
            return Some((prefix, rest));
        }
    }
    None
}

/// Whether a name has room.
pub(super) fn name_fits(name: &[u8]) -> bool {
    split(name).is_some()
}

/// Whether the target of a link has room.
pub(super) fn link_fits(link: &[u8]) -> bool {
    link.len() <= NAME_BYTES
}

/// Whether the name of an owner has room.
pub(super) fn who_fits(who: &[u8]) -> bool {
    who.len() <= WHO_BYTES
}

fn put(block: &mut Block, at: usize, bytes: &[u8]) {
    if let Some(room) = block.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

/// A number of so many octal digits, with zeros in front; what comes behind it is zero already.
fn octal(block: &mut Block, at: usize, digits: usize, mut value: u64) {
    for room in block.iter_mut().skip(at).take(digits).rev() {
        *room = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// The beginning of bytes that have no room.
fn head(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

impl Ustar {
    /// The block. What has no room is cut or replaced.
    pub fn encode(&self) -> Block {
        let mut block = [0; BLOCK_BYTES];
        let (prefix, name) = split(&self.name).unwrap_or((b"", head(&self.name, NAME_BYTES)));
        put(&mut block, 0, name);
        octal(&mut block, 100, 7, self.mode & 0o7777);
        let id = |id: u64| if id > SEVEN { NOBODY } else { id };
        octal(&mut block, 108, 7, id(self.uid));
        octal(&mut block, 116, 7, id(self.gid));
        octal(&mut block, 124, 11, if self.size > ELEVEN { 0 } else { self.size });
        octal(&mut block, 136, 11, if self.mtime > ELEVEN { 0 } else { self.mtime });
        put(&mut block, 148, b"        ");
        put(&mut block, 156, &[self.typeflag]);
        put(&mut block, 157, head(&self.link, NAME_BYTES));
        put(&mut block, 257, b"ustar\x0000");
        put(&mut block, 265, head(&self.user, WHO_BYTES));
        put(&mut block, 297, head(&self.group, WHO_BYTES));
        octal(&mut block, 329, 7, self.device.0 & SEVEN);
        octal(&mut block, 337, 7, self.device.1 & SEVEN);
        put(&mut block, 345, prefix);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        put(&mut block, 148, b"      \0 ");
        octal(&mut block, 148, 6, sum);
        block
    }

    /// What the block says; `None` if it is no header.
    pub fn decode(block: &Block) -> Option<Self> {
        if block.get(257..265)? != b"ustar\x0000" {
            return None;
        }
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = block.get(148..156)?.iter().map(|byte| u64::from(*byte)).sum();
        if number(block, 148, 8)? != sum - own + 8 * u64::from(b' ') {
            return None;
        }
        let (prefix, rest) = (text(block, 345, PREFIX_BYTES)?, text(block, 0, NAME_BYTES)?);
        let name = if prefix.is_empty() { rest.to_vec() } else { [prefix, b"/", rest].concat() };
        Some(Self {
            name,
            mode: number(block, 100, 8)?,
            uid: number(block, 108, 8)?,
            gid: number(block, 116, 8)?,
            size: number(block, 124, 12)?,
            mtime: number(block, 136, 12)?,
            typeflag: *block.get(156)?,
            link: text(block, 157, NAME_BYTES)?.to_vec(),
            user: text(block, 265, 32)?.to_vec(),
            group: text(block, 297, 32)?.to_vec(),
            device: (number(block, 329, 8)?, number(block, 337, 8)?),
        })
    }
}

fn text(block: &Block, at: usize, length: usize) -> Option<&[u8]> {
    let field = block.get(at..at + length)?;
    let end = memchr::memchr(0, field).unwrap_or(length);
    field.get(..end)
}

fn number(block: &Block, at: usize, length: usize) -> Option<u64> {
    let field = block.get(at..at + length)?;
    let digits = field.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, rest) = field.split_at_checked(digits)?;
    if digits.is_empty() || !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    // At most eleven digits, 33 bits.
    digits.iter().try_fold(0_u64, |all, digit| all.checked_mul(8)?.checked_add(u64::from(digit - b'0')))
}
