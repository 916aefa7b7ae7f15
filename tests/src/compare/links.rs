//! Which names share a file: on both sides the same ones must.

use super::{Groups, Report, show};
use std::collections::BTreeMap;

/// For each name its least fellow; two trees group alike when these are equal.
fn leaders(groups: &Groups) -> BTreeMap<&[u8], &[u8]> {
    let mut leaders = BTreeMap::new();
    for names in groups.values() {
        if let Some(least) = names.iter().min() {
            leaders.extend(names.iter().map(|name| (name.as_slice(), least.as_slice())));
        }
    }
    leaders
}

/// Reports names that share a file with others on one side than on the other.
pub(super) fn compare(groups: &[Groups; 2], limit: usize, report: &mut Report) {
    let [a, b] = groups.each_ref().map(leaders);
    let mut found = Report::default();
    let names: std::collections::BTreeSet<&[u8]> = a.keys().chain(b.keys()).copied().collect();
    for name in names {
        let (in_a, in_b) = (a.get(name).unwrap_or(&name), b.get(name).unwrap_or(&name));
        if in_a != in_b {
            let what = format!("is the same file as {} in A, as {} in B", show(in_a), show(in_b));
            found.differ(limit, name, what);
        }
    }
    report.add(found, limit);
}
