//! Integers and byte strings in the catalog's files: little-endian, variable length where most are small.
//!
//! Taking never panics and never allocates more than the input is long: a short input is `None`.

pub(super) use journal::take::Take;

/// Numbers of variable length and strings, beside what [`Take`] takes.
pub(super) trait TakeVariable<'a> {
    /// A number in groups of seven bits, the lowest first; at most ten bytes.
    fn varint(&mut self) -> Option<u64>;
    /// One that fits into four bytes.
    fn varint_u32(&mut self) -> Option<u32>;
    /// A byte string behind its length.
    fn string(&mut self) -> Option<&'a [u8]>;
    /// A text behind its length.
    fn text(&mut self) -> Option<String>;
}

impl<'a> TakeVariable<'a> for Take<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn varint_u32(&mut self) -> Option<u32> {
        self.varint().and_then(|value| u32::try_from(value).ok())
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.varint_u32()?;
        self.bytes(length as usize)
    }

    fn text(&mut self) -> Option<String> {
        self.string().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Small absolute values become small numbers.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
