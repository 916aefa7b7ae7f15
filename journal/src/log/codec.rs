//! Putting little-endian integers; taking them is [`crate::take`].

use crate::lsn::Lsn;

pub(super) use crate::take::Take;

/// Bytes under construction.
pub(super) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }

    fn put_lsn(&mut self, lsn: Lsn) {
        self.put_u64(lsn.captured);
        self.put_u64(lsn.local);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes of fixed length, filled from the front. What does not fit is left out: callers know their lengths.
pub(super) struct Fill<'a>(pub(super) &'a mut [u8]);

impl Put for Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some((front, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            front.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}
