//! What a path must have to match a glob, in the words of blocks of points: names, directories above it, an ending.
//!
//! It may say too little and never too much, so it takes from a glob only what is certain whatever its wildcards match:
//! what stands before the first of them up to a slash, whole names between slashes, and the ending behind the last of them.
//! Braces are written out where that is few texts without `**`, which means other things in other places; of a glob with
//! classes or backslashes only begin and end are looked at.

use journal::state::summary::Token;

/// Globs that braces may be written out to.
const EXPANSIONS_MAX: usize = 32;

/// For each way to match a glob below a root (`None`: the glob is of the path below any root) tokens that a path below it
/// must all have. No way: nothing can match there.
pub(super) fn of_glob(glob: &str, root: Option<&[u8]>) -> Vec<Vec<Token>> {
    let texts = expand(glob).unwrap_or_else(|| vec![glob.to_owned()]);
    texts.iter().filter_map(|text| of_text(text.as_bytes(), root)).collect()
}

/// The globs without braces that match together what this one does.
fn expand(glob: &str) -> Option<Vec<String>> {
    if !glob.contains('{') {
        return None;
    }
    if glob.contains(['[', ']', '\\']) || glob.contains("**") {
        return None;
    }
    let (mut todo, mut done) = (vec![glob.to_owned()], Vec::new());
    while let Some(text) = todo.pop() {
        if todo.len() + done.len() >= EXPANSIONS_MAX {
            return None;
        }
        // The first that closes, and what opened it, have no other braces between them.
        let Some((open, rest)) = text.split_once('}') else {
            done.push(text);
            continue;
        };
        let (before, inside) = open.rsplit_once('{')?;
        todo.extend(inside.split(',').map(|one| format!("{before}{one}{rest}")));
    }
    Some(done)
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

fn last_name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(at + 1..)).unwrap_or(path)
}

/// `None`: no path below this root matches.
fn of_text(text: &[u8], root: Option<&[u8]>) -> Option<Vec<Token>> {
    let is_wild = |byte: &u8| matches!(byte, b'*' | b'?');
    let is_special = |byte: &u8| is_wild(byte) || matches!(byte, b'[' | b']' | b'{' | b'}' | b'\\');
    let begin = text.iter().position(is_special).unwrap_or(text.len());
    let end = text.iter().rposition(is_special).map_or(0, |at| at + 1);
    let (prefix, suffix) = (text.get(..begin).unwrap_or_default(), text.get(end..).unwrap_or_default());
    let is_literal = begin == text.len();
    let directory = match prefix.iter().rposition(|byte| *byte == b'/') {
        _ if is_literal => prefix,
        Some(at) => prefix.get(..at).unwrap_or_default(),
        None => <&[u8]>::default(),
    };
    let root_names: Vec<&[u8]> = names(root.unwrap_or_default()).collect();
    let mut needs = Vec::new();

    // The begin: of a whole path it names the root first.
    let mut above = names(directory);
    let mut left = root_names.iter();
    let below: Vec<&[u8]> = loop {
        match (left.next(), above.next()) {
            (Some(of_root), Some(name)) if *of_root == name => {}
            (Some(_), Some(_)) => return None,
            (Some(_), None) if is_literal => return None,
            (Some(_), None) => break Vec::new(),
            (None, Some(name)) => break std::iter::once(name).chain(above).collect(),
            (None, None) => break Vec::new(),
        }
    };
    if !below.is_empty() {
        needs.push(Token::under(&below.join(&b'/')));
    }

    // Names: all of them where only wildcards stand between, else the last one. Some may be those of the root.
    let ending = last_name(suffix);
    let certain: Vec<&[u8]> = if !text.iter().any(|byte| is_special(byte) && !is_wild(byte)) {
        names(text).filter(|name| !name.iter().any(is_wild)).collect()
    } else if suffix.len() > ending.len() {
        names(ending).collect()
    } else {
        Vec::new()
    };
    needs.extend(certain.iter().filter(|name| !root_names.contains(name)).map(|name| Token::name(name)));

    // The ending, unless the root itself may be what has it.
    let extension = ending.iter().rposition(|byte| *byte == b'.').and_then(|at| ending.get(at + 1..));
    if let Some(extension) = extension.filter(|_| root.is_none_or(|root| !root.ends_with(ending))) {
        needs.push(Token::extension(extension));
    }
    Some(needs)
}

#[cfg(test)]
mod tests;
