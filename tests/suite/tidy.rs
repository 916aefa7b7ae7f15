//! Is the code base in the shape its own documents claim?
//!
//! What nobody can grep for is what is missing: a crate that must not be used, a header, a format without a
//! description. These tests look for such absences. Where a limit is met by a file, the file should be cut along a
//! seam of its own, not the limit moved.

mod crates;
mod rust;

use rust::{Source, has_word};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file of the product, and of a file of tests.
const FILE_LINES_MAX: (usize, usize) = (500, 800);
/// Lines of a function of the product, and of tests.
const FUNCTION_LINES_MAX: (usize, usize) = (70, 100);

/// Where kernel interfaces need it, and nowhere else.
const UNSAFE: [&str; 2] = ["journal/sys/", "snapshot/mtio/"];

/// All that may stand at the top; hidden files and what cargo builds aside.
const TOP: [&str; 21] = [
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "api",
    "benches",
    "cli",
    "clippy.toml",
    "config.example.toml",
    "deny.toml",
    "docs",
    "packaging",
    "journal",
    "replication",
    "restore",
    "rustfmt.toml",
    "snapshot",
    "target",
    "tests",
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file of the project, by path from the top, `/` between the parts.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut rest = vec![top()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                rest.push(path);
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(top()).unwrap().to_string_lossy().into_owned();
                found.push(Source::new(relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "only {} files found", found.len());
    found
}

/// Fails with all complaints of one sort at once.
fn none(what: &str, complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

fn limit(source: &Source, (product, tests): (usize, usize)) -> usize {
    if source.is_test() { tests } else { product }
}

#[test]
fn every_file_says_what_it_owns() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//!"));
    none("files that do not open with //!", silent.map(|source| source.path));
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > limit(&source, FILE_LINES_MAX)).then(|| format!("{}: {lines} lines", source.path))
    });
    none("files that are too long", long);
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        for function in source.functions() {
            if function.lines > limit(&source, FUNCTION_LINES_MAX) {
                long.push(format!("{}: fn {}: {} lines", source.path, function.name, function.lines));
            }
        }
    }
    none("functions that are too long", long);
}

#[test]
fn nothing_is_left_for_later() {
    let mut found = Vec::new();
    for source in sources() {
        for word in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
            if source.code.contains(word) {
                found.push(format!("{}: {word}", source.path));
            }
        }
        // Put together here, so that this file does not find itself.
        for word in [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat()) {
            if has_word(&source.text, &word) {
                found.push(format!("{}: {word}", source.path));
            }
        }
    }
    none("left for later", found);
}

#[test]
fn unsafe_code_is_in_the_nested_crates() {
    let elsewhere = sources()
        .into_iter()
        .filter(|source| !UNSAFE.iter().any(|place| source.path.starts_with(place)))
        .filter(|source| has_word(&source.code, "unsafe"));
    none("unsafe outside of the nested crates for it", elsewhere.map(|source| source.path));
}

#[test]
fn imports_are_named() {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|source| !source.is_test()) {
        // Unit tests at the end of a file may take in what they test.
        let product = source.code.split("#[cfg(test)]").next().unwrap();
        for line in product.lines().map(str::trim) {
            if line.starts_with("use ") && line.ends_with("::*;") {
                found.push(format!("{}: {line}", source.path));
            }
        }
    }
    none("glob imports", found);
}

#[test]
fn every_format_is_described() {
    let mut missing = Vec::new();
    for source in sources().into_iter().filter(|source| !source.is_test()) {
        if !source.code.lines().any(|line| line.contains("const ") && line.contains("MAGIC")) {
            continue;
        }
        let described = Path::new(&source.path).ancestors().skip(1).filter(|above| above.parent().is_some());
        if !described.into_iter().any(|above| top().join(above).join("FORMAT.md").is_file()) {
            missing.push(source.path);
        }
    }
    none("files with a magic number and no FORMAT.md above them", missing);
    assert!(top().join("journal/FORMAT.md").is_file(), "journal/FORMAT.md is missing");
}

#[test]
fn every_file_of_the_suite_is_part_of_it() {
    let main = fs::read_to_string(top().join("tests/suite/main.rs")).unwrap();
    let mut left_out = Vec::new();
    for entry in fs::read_dir(top().join("tests/suite")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else { continue };
        if !main.lines().any(|line| line.trim() == format!("mod {module};")) {
            left_out.push(name);
        }
    }
    none("files of tests/suite that main.rs leaves out", left_out);
}

#[test]
fn the_top_is_as_the_architecture_says() {
    let mut strangers = Vec::new();
    for entry in fs::read_dir(top()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP.contains(&name.as_str()) {
            strangers.push(name);
        }
    }
    none("strangers at the top of the repository", strangers);
    for name in ["ARCHITECTURE.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", ".ci/run"] {
        assert!(top().join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn the_readme_and_the_ci_run_the_same_tests() {
    for file in ["README.md", ".ci/run"] {
        let text = fs::read_to_string(top().join(file)).unwrap();
        for command in ["cargo test --workspace", "cargo run --release --bin restorectl -- tour"] {
            assert!(text.contains(command), "{file} does not run `{command}`");
        }
    }
}
