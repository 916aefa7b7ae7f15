//! Which crate uses which, and which must not: asked of cargo, so that it holds for what is built.

use super::{none, sources, top};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates of the project and those of the project they may use. A crate that is not here may not be.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("sys", &[]),
    ("mtio", &[]),
    ("journal", &["sys"]),
    ("wire", &["journal"]),
    ("replication", &["journal", "sys", "wire"]),
    ("snapshot", &["journal", "mtio", "sys"]),
    ("restore", &["journal", "snapshot", "sys"]),
    ("api", &["journal", "replication", "restore", "snapshot", "sys", "wire"]),
    ("cli", &["api", "journal", "restore", "snapshot", "wire"]),
    ("tests", &["api", "cli", "journal", "replication", "restore", "snapshot", "sys", "wire"]),
    ("benches", &["api", "journal", "replication", "restore", "snapshot", "sys", "tests", "wire"]),
];

/// Foreign crates that must not be reached from these of ours, however indirectly.
const ABSENT: [(&str, &[&str]); 6] = [
    ("mtio", &["tokio", "tonic", "clap", "anyhow", "serde_json"]),
    ("sys", &["tokio", "tonic", "clap", "anyhow", "serde_json"]),
    ("journal", &["tokio", "tonic", "hyper", "prost", "clap", "anyhow", "sled"]),
    ("wire", &["clap", "sled", "object_store"]),
    ("replication", &["clap", "sled", "object_store"]),
    ("restore", &["tonic", "clap", "sled"]),
];

/// Foreign crates that only these of ours may name.
const ONLY_IN: [(&str, &[&str]); 3] = [
    ("clap", &["api", "cli"]),
    ("anyhow", &["api", "cli", "tests", "benches"]),
    ("libc", &["sys", "mtio", "replication", "tests", "benches"]),
];

/// What cargo says: packages by id, and for each the ids it uses in the product (tests and build scripts aside).
struct Graph {
    names: BTreeMap<String, String>,
    ours: BTreeSet<String>,
    uses: BTreeMap<String, Vec<String>>,
}

/// The platform that cargo builds for.
fn host() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

impl Graph {
    fn read() -> Graph {
        let manifest = top().join("Cargo.toml");
        // Whoever built for this platform alone has not got the crates of others.
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--offline", "--format-version", "1", "--filter-platform", &host()])
            .arg("--manifest-path")
            .arg(manifest)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let names = list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let ours = list(&metadata["workspace_members"]).iter().map(text).collect();
        let is_normal =
            |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let mut uses = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let used = list(&node["deps"]).into_iter().filter(is_normal).map(|d| text(&d["pkg"])).collect();
            uses.insert(text(&node["id"]), used);
        }
        Graph { names, ours, uses }
    }

    fn name(&self, id: &str) -> &str {
        &self.names[id]
    }

    /// Our crates, by name.
    fn ours(&self) -> impl Iterator<Item = (&str, &String)> {
        self.ours.iter().map(|id| (self.name(id), id))
    }

    /// How one package reaches another, if it does: the chain of names.
    fn path(&self, from: &str, to: &str) -> Option<String> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::from([(from, from)]);
        let mut rest = vec![from];
        while let Some(id) = rest.pop() {
            if self.name(id) == to {
                let mut chain = vec![self.name(id)];
                let mut at = id;
                while at != from {
                    at = came_from[at];
                    chain.push(self.name(at));
                }
                chain.reverse();
                return Some(chain.join(" -> "));
            }
            for next in &self.uses[id] {
                if !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, id);
                    rest.push(next);
                }
            }
        }
        None
    }
}

#[test]
fn crates_use_each_other_in_one_direction() {
    let graph = Graph::read();
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, id) in graph.ours() {
        let Some(may_use) = allowed.get(name) else {
            wrong.push(format!("{name} is not in the list"));
            continue;
        };
        for used in graph.uses[id].iter().filter(|used| graph.ours.contains(*used)) {
            if !may_use.contains(&graph.name(used)) {
                wrong.push(format!("{name} uses {}", graph.name(used)));
            }
        }
    }
    none("against the direction of architecture", wrong);
}

#[test]
fn what_must_be_absent_is() {
    let graph = Graph::read();
    let mut wrong = Vec::new();
    for (ours, absent) in ABSENT {
        let (_, id) = graph.ours().find(|(name, _)| *name == ours).unwrap();
        wrong.extend(absent.iter().filter_map(|name| graph.path(id, name)));
    }
    none("crates where they must not be", wrong);
    // The search itself works.
    let (_, api) = graph.ours().find(|(name, _)| *name == "api").unwrap();
    assert!(graph.path(api, "crc32c").unwrap().starts_with("api -> "));
}

#[test]
fn some_crates_are_for_binaries_only() {
    let graph = Graph::read();
    let mut wrong = Vec::new();
    for (foreign, only) in ONLY_IN {
        for (name, id) in graph.ours().filter(|(name, _)| !only.contains(name)) {
            if graph.uses[id].iter().any(|used| graph.name(used) == foreign) {
                wrong.push(format!("{name} uses {foreign}"));
            }
        }
    }
    // A library tells its callers what went wrong by type.
    for source in sources().into_iter().filter(|source| source.path.starts_with("api/")) {
        let is_binary = source.path == "api/src/main.rs" || source.path.starts_with("api/src/main/");
        for foreign in ["clap", "anyhow"] {
            if !is_binary && !source.is_test() && source.code.contains(&format!("{foreign}::")) {
                wrong.push(format!("{} uses {foreign}", source.path));
            }
        }
    }
    none("crates that belong into a main", wrong);
}

#[test]
fn the_command_line_talks_to_the_server_over_the_wire() {
    // The library of the server is for the tour, which runs a server of its own, for the replay of archived redo, which
    // is done by what applies captures on a replica, and for the codes of what goes wrong with a tape.
    let is_user = |code: &str| {
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        code.match_indices("api::").any(|(at, _)| !code[..at].ends_with(part))
    };
    let users = sources().into_iter().filter(|source| {
        let rescue = ["cli/src/commands/rescue/archived.rs", "cli/src/commands/rescue/tape.rs"];
        let allowed = source.path.contains("tour") || rescue.contains(&source.path.as_str());
        source.path.starts_with("cli/src/") && !allowed && is_user(&source.code)
    });
    none("parts of the command line that use the server's library", users.map(|source| source.path));
}

#[test]
fn nothing_is_published_and_lints_are_shared() {
    let mut wrong = Vec::new();
    for (folder, _) in MAY_USE {
        let path = match folder {
            "sys" => "journal/sys",
            "mtio" => "snapshot/mtio",
            "wire" => "api/wire",
            other => other,
        };
        let Ok(manifest) = std::fs::read_to_string(top().join(path).join("Cargo.toml")) else { continue };
        for line in ["publish.workspace = true", "license.workspace = true", "edition.workspace = true"] {
            if !manifest.contains(line) {
                wrong.push(format!("{path}/Cargo.toml lacks `{line}`"));
            }
        }
        if path != "journal/sys" && !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{path}/Cargo.toml does not take the lints of the workspace"));
        }
    }
    none("manifests", wrong);
}
