//! Text as Go programs write it: quoted names and JSON strings.
//!
//! A name is arbitrary bytes. It is made printable ASCII-safe text by the rules of Go's quoted literals (without the
//! quotes), and that text becomes a JSON string. Which characters are printable is a matter of Unicode's general
//! categories (letters, marks, numbers, punctuation, symbols, and the space); programs built with another version of
//! Unicode may quote a character that is new to them, which reads back the same.

use std::sync::LazyLock;

/// All printable characters beyond ASCII. The pattern is constant; without it everything would be escaped, which is
/// right too, only longer.
static PRINTABLE: LazyLock<Option<regex::Regex>> =
    LazyLock::new(|| regex::Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").ok());

fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{a0}' => false,
        // The common scripts need no table.
        'À'..='ʯ' | 'Α'..='Ρ' | 'α'..='ω' | 'А'..='я' | '一'..='龥' | '가'..='힣' => true,
        _ => PRINTABLE.as_ref().is_some_and(|set| set.is_match(c.encode_utf8(&mut [0; 4]))),
    }
}

/// Appends a name in its quoted form, as text that is not yet JSON.
pub fn quote(name: &[u8], out: &mut String) {
    use std::fmt::Write;
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let short = match c {
                '\x07' => 'a',
                '\x08' => 'b',
                '\x0c' => 'f',
                '\n' => 'n',
                '\r' => 'r',
                '\t' => 't',
                '\x0b' => 'v',
                '"' | '\\' => c,
                _ if is_printable(c) => {
                    out.push(c);
                    continue;
                }
                _ => {
                    // Writing to a string does not fail.
                    let _ = match u32::from(c) {
                        code @ (..0x20 | 0x7f) => write!(out, "\\x{code:02x}"),
                        code @ ..0x1_0000 => write!(out, "\\u{code:04x}"),
                        code => write!(out, "\\U{code:08x}"),
                    };
                    continue;
                }
            };
            out.push('\\');
            out.push(short);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// The bytes that a quoted form stands for; `None` if it is none.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    if !text.contains(['\\', '"', '\n']) {
        return Some(text.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '"' | '\n' => return None,
            '\\' => rest = unescape(rest, &mut out)?,
            c => push_char(c, &mut out),
        }
    }
    Some(out)
}

fn push_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What follows a backslash; gives what follows the escape.
fn unescape<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = text.get(kind.len_utf8()..)?;
    let number = |text: &'a str, digits: usize, radix: u32| {
        let (number, rest) = text.split_at_checked(digits)?;
        let valid = number.chars().all(|c| c.is_digit(radix));
        Some((u32::from_str_radix(number, radix).ok().filter(|_| valid)?, rest))
    };
    let simple = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            let (value, rest) = number(rest, 2, 16)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        '0'..='7' => {
            let (value, rest) = number(text, 3, 8)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (value, rest) = number(rest, if kind == 'u' { 4 } else { 8 }, 16)?;
            push_char(char::from_u32(value)?, out);
            return Some(rest);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

/// Appends a JSON string with its quotes, escaped as Go's encoder does.
pub fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let code = u32::from(c);
        let escape: Option<&[u8]> = match c {
            '"' => Some(b"\\\""),
            '\\' => Some(b"\\\\"),
            '\n' => Some(b"\\n"),
            '\r' => Some(b"\\r"),
            '\t' => Some(b"\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => None,
            _ => continue,
        };
        out.extend_from_slice(text.as_bytes().get(plain..at).unwrap_or_default());
        match escape {
            Some(escape) => out.extend_from_slice(escape),
            None => out.extend_from_slice(format!("\\u{code:04x}").as_bytes()),
        }
        plain = at + c.len_utf8();
    }
    out.extend_from_slice(text.as_bytes().get(plain..).unwrap_or_default());
    out.push(b'"');
}
