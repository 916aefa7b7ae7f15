//! Layouts are frozen: golden bytes. Hostile bytes are refused.

use super::*;
use crate::definition::Root;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(record: Record, golden: &str) {
    let bytes = record.encode().unwrap();
    assert_eq!(hex(&bytes), golden, "{record:?}");
    assert_eq!(Record::decode(record.kind(), &bytes).unwrap(), record);
    for end in 0..bytes.len() {
        assert!(Record::decode(record.kind(), &bytes[..end]).is_err(), "cut at {end}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Record::decode(record.kind(), &longer).is_err(), "a byte too many");
}

fn definition() -> Definition {
    let mut definition = Definition::new(
        "docs",
        vec![Root { master: "/srv/docs".into(), replica: Some("/replica/docs".into()) }],
    );
    definition.excludes.push("*.tmp".into());
    definition
}

#[test]
fn golden_bytes_of_tape() {
    let part =
        TapePart { media: "one".into(), volume: "ab".into(), serial: "S".into(), file: 3, blocks: 300 };
    check(
        Record::SessionOnTape(SessionOnTape {
            time: Timestamp(1_000_000_000),
            repository: 1,
            session: [7; 32],
            pool: "weekly".into(),
            bytes: 1 << 20,
            parts: vec![part],
        }),
        "fc00943577010707070707070707070707070707070707070707070707070707070707070707067765656b6c79fc0000100001036f6e65026162015303fb2c01",
    );
    check(
        Record::TapeEncoding(TapeEncoding {
            time: Timestamp(1_000_000_000),
            repository: 1,
            compression: 1,
            is_encrypted: true,
        }),
        "fc00943577010101",
    );
}

#[test]
fn golden_bytes() {
    let time = Timestamp(1_000_000_000);
    check(
        Record::ScenarioCreated(ScenarioCreated { id: 7, time, definition: definition() }),
        "07fc0094357704646f6373000001092f7372762f646f6373010d2f7265706c6963612f646f637301052a2e746d700001fc803a090000fd000000800c000000fd00000040010000000000000000003c000a00000000",
    );
    let mut hooked = definition();
    hooked.hooks.quiesce = Some("hold".into());
    hooked.hooks.thaw = Some("go".into());
    hooked.hooks.timeout = std::time::Duration::from_secs(5);
    hooked.keep_snapshots = 300;
    hooked.thin_after = std::time::Duration::from_secs(15);
    hooked.thin_minutes = std::time::Duration::from_secs(600);
    check(
        Record::ScenarioUpdated(ScenarioUpdated { id: 7, time, definition: hooked }),
        "07fc0094357704646f6373000001092f7372762f646f6373010d2f7265706c6963612f646f637301052a2e746d700001fc803a090000fd000000800c000000fd000000400100000000000104686f6c640102676f00000500fb2c010f00fb580200",
    );
    check(Record::ScenarioDeleted(ScenarioDeleted { id: 7, time }), "07fc00943577");
    check(Record::StateWanted(StateWanted { id: 7, time, wanted: Wanted::Suspended }), "07fc0094357702");
    check(
        Record::JobSubmitted(JobSubmitted {
            id: 300,
            time,
            kind: 3,
            scenario: "docs".into(),
            exclusive: true,
            request: vec![1, 2],
            idempotency_key: "k".into(),
        }),
        "fb2c01fc009435770604646f637301020102016b",
    );
    check(Record::JobStarted(JobStarted { id: 1, time }), "01fc00943577");
    check(Record::JobCancelRequested(JobCancelRequested { id: 1, time }), "01fc00943577");
    check(Record::JobHoldSet(JobHoldSet { id: 1, time, held: true }), "01fc0094357701");
    check(
        Record::JobFinished(JobFinished { id: 1, time, outcome: 1, result: vec![9], error: vec![] }),
        "01fc0094357702010900",
    );
    check(
        Record::LogWritten(LogWritten { time, level: 1, scenario: "d".into(), job: 0, text: "t".into() }),
        "fc00943577020164000174",
    );
    check(
        Record::RepositoryAdded(RepositoryAdded {
            id: 1,
            time,
            name: "offsite".into(),
            url: "file:///r".into(),
            repository: "ab".into(),
            created: true,
            conditional_put: 1,
        }),
        "01fc00943577076f6666736974650966696c653a2f2f2f720261620101",
    );
    check(
        Record::SessionsForgotten(SessionsForgotten { time, repository: 1, sessions: vec![[7; 32]] }),
        "fc0094357701010707070707070707070707070707070707070707070707070707070707070707",
    );
    check(
        Record::SessionsVerified(SessionsVerified { time, repository: 1, sessions: vec![[7; 32]] }),
        "fc0094357701010707070707070707070707070707070707070707070707070707070707070707",
    );
    check(
        Record::ArchiveSet(ArchiveSet { id: 7, time, repository: 1, every_milliseconds: 60_000 }),
        "07fc0094357701fb60ea",
    );
    check(
        Record::ScrubSet(ScrubSet { id: 7, time, every_seconds: 604_800, rate: 5 }),
        "07fc00943577fc803a090005",
    );
    check(
        Record::RepositoryChecked(RepositoryChecked {
            time,
            repository: 1,
            packs_read: 2,
            bytes_read: 300,
            damage_count: 4,
        }),
        "fc009435770102fb2c0104",
    );
    check(
        Record::SessionMade(session_made(time)),
        "fc00943577010204646f63730303030303030303030303030303030304040404040404040404040404040404040404040404040404040404040404040505050505050505050505050505050505050505050505050505050505050505092f7372762f646f6373016dfb2c0106fc00943577020708090a0b0c01",
    );
}

fn session_made(time: Timestamp) -> SessionMade {
    SessionMade {
        time,
        repository: 1,
        scenario: 2,
        scenario_name: "docs".into(),
        journal: [3; 16],
        session: [4; 32],
        tree: [5; 32],
        entity: b"/srv/docs".to_vec(),
        master: "m".into(),
        lsn_captured: 300,
        lsn_local: 6,
        point_time: time,
        class: 2,
        files: 7,
        directories: 8,
        bytes: 9,
        bytes_read: 10,
        bytes_stored: 11,
        missed: 12,
        incremental: true,
    }
}

/// What earlier versions wrote, up to which version: these bytes are never changed.
fn check_old(version: u16, old: &str, definition: Definition) {
    let digits = |at: usize| u8::from_str_radix(&old[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..old.len()).step_by(2).map(digits).collect();
    let (id, time) = (7, Timestamp(1_000_000_000));
    let kinds = [RecordKind(0x0100 + version), RecordKind(0x0200 + version)];
    let created = ScenarioCreated { id, time, definition: definition.clone() };
    assert_eq!(Record::decode(kinds[0], &bytes).unwrap(), Record::ScenarioCreated(created));
    let updated = ScenarioUpdated { id, time, definition };
    assert_eq!(Record::decode(kinds[1], &bytes).unwrap(), Record::ScenarioUpdated(updated));
    for end in 0..bytes.len() {
        assert!(Record::decode(kinds[0], &bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn earlier_versions_are_read() {
    let first = "07fc0094357704646f6373000001092f7372762f646f6373010d2f7265706c6963612f646f637301052a2e746d700001fc803a090000fd000000800c000000fd00000040010000000000";
    check_old(1, first, definition());
    let second = "07fc0094357704646f6373000001092f7372762f646f6373010d2f7265706c6963612f646f637301052a2e746d700001fc803a090000fd000000800c000000fd000000400100000000000104686f6c640102676f00000500";
    let mut hooked = definition();
    hooked.hooks.quiesce = Some("hold".into());
    hooked.hooks.thaw = Some("go".into());
    hooked.hooks.timeout = std::time::Duration::from_secs(5);
    check_old(2, second, hooked.clone());
    let third = "07fc0094357704646f6373000001092f7372762f646f6373010d2f7265706c6963612f646f637301052a2e746d700001fc803a090000fd000000800c000000fd000000400100000000000104686f6c640102676f00000500fb2c01";
    hooked.keep_snapshots = 300;
    check_old(3, third, hooked);
}

#[test]
fn strangers() {
    assert_eq!(Record::decode(RecordKind(0xffff), &[]).unwrap_err().code().id, "RW1035");
    // A length of four thousand million where twelve bytes are.
    let hostile = [1, 2, 0xfc, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0];
    assert_eq!(Record::decode(RecordKind(0x1401), &hostile).unwrap_err().code().id, "RW1017");
}

#[test]
fn too_large() {
    let record = Record::LogWritten(LogWritten {
        time: Timestamp(0),
        level: 1,
        scenario: String::new(),
        job: 0,
        text: "x".repeat(BYTES_MAX),
    });
    assert_eq!(record.encode().unwrap_err().code().id, "RW0468");
}
