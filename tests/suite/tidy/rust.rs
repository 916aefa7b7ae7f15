//! As much of Rust as it takes to find functions: comments, strings, braces.

/// One file.
pub struct Source {
    /// Path from the top of the repository.
    pub path: String,
    /// As it stands on the disk.
    pub text: String,
    /// Without comments and without what is in quotes; the same number of lines.
    pub code: String,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// From the line of `fn` to that of the closing brace, both counted.
    pub lines: usize,
}

impl Source {
    /// Takes the text apart.
    pub fn new(path: String, text: String) -> Source {
        let code = strip(&text);
        Source { path, text, code }
    }

    /// Whether it serves tests only.
    pub fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        matches!(parts.first(), Some(&("tests" | "benches")))
            || parts.iter().any(|part| matches!(*part, "tests" | "tests.rs"))
    }

    /// All functions with bodies, those inside others too.
    pub fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(next) = self.code[at..].find("fn ").map(|offset| at + offset) {
            at = next + 3;
            let is_start = next == 0 || !(bytes[next - 1].is_ascii_alphanumeric() || bytes[next - 1] == b'_');
            let name: String =
                self.code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !is_start || name.is_empty() {
                continue;
            }
            if let Some(end) = body_end(bytes, at) {
                let lines = 1 + self.code[next..end].matches('\n').count();
                found.push(Function { name, lines });
            }
        }
        found
    }
}

/// Whether `word` occurs in `text` with nothing that belongs to a word on either side.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// Where the body that begins after `at` ends; `None` for a declaration.
fn body_end(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (offset, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b';' if round == 0 && curly == 0 => return None,
            b'{' => curly += 1,
            b'}' => {
                curly -= 1;
                if curly == 0 {
                    return Some(at + offset);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanks out comments, strings and characters.
fn strip(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest, code.chars().next_back()));
        if let Some(length) = skipped {
            code.push(' ');
            code.extend(rest[..length].chars().filter(|c| *c == '\n'));
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// Length of the comment that begins here.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(text.len())
}

/// Length of the string or character that begins here; lifetimes are neither.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    if let Some(inner) = text.strip_prefix('\'') {
        let mut inner = inner.chars();
        let (first, second) = (inner.next()?, inner.next()?);
        return (first == '\\' || second == '\'').then(|| quoted(text, '\''));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw =
        text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    if in_word || !raw[hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - raw.len() + hashes + 1;
    Some(text[start..].find(&close).map_or(text.len(), |at| start + at + close.len()))
}

/// Length of what begins and ends with `quote`, backslashes heeded.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = true;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[test]
fn functions_are_found_and_measured() {
    let text = r##"
fn one() { "}{" ; '{'; b'}'; '\''; r#"} fn no() {"#; }
/* fn not() { /* nested */ } */ // fn nor() {
trait T {
    fn declared(&self, x: [u8; 3]) -> &'static str;
    fn two<'a>(
        x: &'a str, // }
    ) -> [u8; 4]
    where
        Self: Sized,
    {
        let f = |y| { y };
    }
}
"##;
    let source = Source::new("x.rs".to_owned(), text.to_owned());
    let expected = [("one", 1), ("two", 8)].map(|(name, lines)| Function { name: name.to_owned(), lines });
    assert_eq!(source.functions(), expected);
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert!(has_word("an unsafe thing", "unsafe") && !has_word("unsafe_code", "unsafe"));
    assert!(Source::new("journal/src/view/tests.rs".to_owned(), String::new()).is_test());
    assert!(!Source::new("journal/src/latest.rs".to_owned(), String::new()).is_test());
}
