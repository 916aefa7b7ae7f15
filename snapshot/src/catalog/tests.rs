//! Tests of the catalog as a whole: against a naive model, across power cuts, with damaged files, and of what queries
//! mean. Here is what they share.

mod crash;
mod damage;
pub(crate) mod disk;
mod golden;
mod model;
mod queries;
mod random;

use super::state::Sizes;
use super::*;
use journal::{Lsn, OsDisk, Timestamp};

/// Small numbers that are random enough. The seed is printed by who makes it.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// A seed from `CATALOG_SEED`, or a fresh one; printed, so that a failure can be run again.
pub(super) fn seed() -> u64 {
    let given = std::env::var("CATALOG_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64 % 1_000_000_000
    });
    println!("CATALOG_SEED={seed}");
    seed
}

pub(super) const SMALL: Sizes = Sizes { block_rows: 5, piece_blocks: 2, sort_bytes: 2000 };

pub(super) fn entity(name: &str, root: &str) -> Entity {
    let (scenario, master) = (format!("{name}-scenario"), format!("{name}-master"));
    Entity { scenario, master, name: name.to_owned(), root: root.as_bytes().to_vec() }
}

pub(super) fn id(number: u64) -> SessionId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionId(bytes)
}

pub(super) fn info(number: u64, entity: &Entity, taken: i64) -> SessionInfo {
    SessionInfo {
        id: id(number),
        repository: "offsite".to_owned(),
        entity: entity.clone(),
        taken: Timestamp(taken),
        lsn: number.is_multiple_of(2).then(|| Lsn::captured(number)),
    }
}

pub(super) fn file(size: u64) -> Row {
    let modified = Modified { seconds: size as i64, nanoseconds: 5 };
    Row { kind: EntryKind::File, size, modified, content: size ^ 0xabcd }
}

pub(super) fn open(directory: &Path) -> Catalog {
    Catalog::open_sized(Arc::new(OsDisk), directory, SMALL).unwrap()
}

/// Loads a listing in whatever order it has.
pub(super) fn load(catalog: &Catalog, info: SessionInfo, rows: &[(&str, Row)]) {
    let mut loader = catalog.begin(info, Order::Any).unwrap();
    for (path, row) in rows {
        loader.put(path.as_bytes(), *row).unwrap();
    }
    loader.finish().unwrap();
}

pub(super) fn ask(pattern: Pattern) -> Query {
    Query { pattern, filter: Filter::default(), limit: 1000, after: None }
}

/// The paths a query finds.
pub(super) fn paths(catalog: &Catalog, query: &Query) -> Vec<String> {
    let page = catalog.query(query).unwrap();
    page.rows.iter().map(|found| String::from_utf8_lossy(&found.path).into_owned()).collect()
}
