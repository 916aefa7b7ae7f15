//! Whether bytes that replaced others look like the work of a person or like noise.
//!
//! Pure. Noise is measured as the entropy of the bytes of a block, against what as many random bytes would have.
//! Compressed files and pictures are noise before and after: for them the head counts, which says what they are. A
//! block that is too short to be measured is judged by whether it is text.

/// Bytes looked at in one place.
pub const BLOCK_BYTES: usize = 4096;

/// What a change made of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It still looks like a file of somebody.
    Sound,
    /// It cannot be said: noise before and after.
    Unknown,
    /// Text or a known format before, noise after.
    Spoiled,
}

/// Blocks shorter than this have no entropy worth measuring.
const MEASURABLE_BYTES: usize = 256;
/// How far below that of random bytes an entropy may lie, in bits a byte, to pass for noise.
const NOISE_MARGIN: f64 = 0.25;
/// What lies less than so much below it may be either.
const DOUBT_MARGIN: f64 = 0.6;

/// Beginnings of compressed, encoded or packed files, whose bytes are noise by right.
const HEADS: [&[u8]; 22] = [
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\0",
    b"BZh",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"RIFF",
    b"%PDF-",
    b"OggS",
    b"fLaC",
    b"ID3",
    b"\x1a\x45\xdf\xa3",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"\x7fELF",
    b"SQLite format 3\0",
    b"\x04\x22\x4d\x18",
    b"wOF2",
];

/// Entropy of the bytes, in bits a byte; 0 of none.
#[must_use]
pub fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let total = bytes.len() as f64;
    let of_one = |count: &u32| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(of_one).sum()
}

/// What as many random bytes have on average: fewer bytes cannot fill all 256 values evenly.
fn entropy_of_noise(bytes: usize) -> f64 {
    8.0 - 184.0 / bytes as f64
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nothing to see.
    Empty,
    Text,
    /// Neither text nor noise.
    Structured,
    Doubtful,
    Noise,
}

fn look(bytes: &[u8]) -> Look {
    if bytes.is_empty() {
        return Look::Empty;
    }
    if is_text(bytes) {
        return Look::Text;
    }
    if bytes.len() < MEASURABLE_BYTES {
        return Look::Doubtful;
    }
    let missing = entropy_of_noise(bytes.len()) - entropy(bytes);
    match missing {
        _ if missing < NOISE_MARGIN => Look::Noise,
        _ if missing < DOUBT_MARGIN => Look::Doubtful,
        _ => Look::Structured,
    }
}

/// UTF-8 (cut anywhere at both ends) without control characters but those of lines.
fn is_text(bytes: &[u8]) -> bool {
    // At most three bytes are the rest of a character.
    let rest = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    let bytes = bytes.get(rest..).unwrap_or_default();
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            match bytes.get(..error.valid_up_to()).map(std::str::from_utf8) {
                Some(Ok(text)) => text,
                _ => return false,
            }
        }
        Err(_) => return false,
    };
    !whole.is_empty() && !whole.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c'))
}

/// Whether a file that begins so is compressed or of another known format.
fn is_known(head: &[u8]) -> bool {
    // `ftyp` stands four bytes into films and photographs, `ustar` far into archives.
    HEADS.iter().any(|known| head.starts_with(known))
        || head.get(4..8) == Some(b"ftyp".as_slice())
        || head.get(257..262) == Some(b"ustar".as_slice())
}

/// What became of one block.
fn block(before: &[u8], after: &[u8]) -> Verdict {
    match (look(before), look(after)) {
        (Look::Empty, _) => Verdict::Unknown,
        (Look::Text, Look::Noise) | (Look::Structured, Look::Noise) => Verdict::Spoiled,
        (Look::Text, Look::Doubtful) if after.len() < MEASURABLE_BYTES => Verdict::Spoiled,
        (_, Look::Noise | Look::Doubtful) => Verdict::Unknown,
        _ => Verdict::Sound,
    }
}

/// What became of a file: its first bytes before and after, and blocks that changed, each before and after.
#[must_use]
pub fn verdict(heads: (&[u8], &[u8]), blocks: &[(Vec<u8>, Vec<u8>)]) -> Verdict {
    let found = blocks.iter().map(|(before, after)| block(before, after)).max();
    match (is_known(heads.0), is_known(heads.1)) {
        // A known format has a reason for its noise. One that lost structure behind its head may still be spoiled.
        (_, true) if found == Some(Verdict::Spoiled) => Verdict::Unknown,
        (_, true) => Verdict::Sound,
        (true, false) if matches!(look(heads.1), Look::Noise | Look::Doubtful) => Verdict::Spoiled,
        _ => found.unwrap_or(Verdict::Unknown),
    }
}

#[cfg(test)]
mod tests;
