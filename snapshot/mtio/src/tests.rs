//! Numbers and layouts against the header of the system, and what a file that is no tape answers.

use super::*;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::process::Command;

const PROGRAM: &str = r#"
#include <sys/mtio.h>
#include <stddef.h>
#include <stdio.h>
#define SHOW(x) printf("%lu\n", (unsigned long)(x))
int main(void) {
    SHOW(MTIOCTOP); SHOW(MTIOCGET); SHOW(MTIOCPOS);
    SHOW(offsetof(struct mtop, mt_op)); SHOW(offsetof(struct mtop, mt_count));
    SHOW(offsetof(struct mtget, mt_dsreg)); SHOW(offsetof(struct mtget, mt_gstat));
    SHOW(offsetof(struct mtget, mt_fileno)); SHOW(offsetof(struct mtget, mt_blkno));
    SHOW(MTFSF); SHOW(MTBSF); SHOW(MTFSR); SHOW(MTBSR); SHOW(MTWEOF); SHOW(MTREW); SHOW(MTOFFL); SHOW(MTNOP);
    SHOW(MTEOM); SHOW(MTSETBLK); SHOW(MTLOAD);
    SHOW(GMT_EOF(~0UL) & 0xffffffff); SHOW(GMT_EOD(~0UL)); SHOW(GMT_EOT(~0UL)); SHOW(GMT_WR_PROT(~0UL));
    SHOW(GMT_ONLINE(~0UL)); SHOW(GMT_DR_OPEN(~0UL)); SHOW(MT_ST_BLKSIZE_MASK);
    return 0;
}
"#;

fn flag(of: impl Fn(&Status) -> bool) -> u64 {
    let bits = (0..64).map(|bit| 1u64 << bit);
    bits.filter(|flags| of(&Status { file: 0, block: 0, flags: *flags, density: 0 })).sum()
}

#[test]
fn numbers_are_those_of_the_header() {
    if Command::new("gcc").arg("--version").output().is_err() {
        println!("no gcc: not compared");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("mtio.c"), directory.path().join("mtio"));
    std::fs::write(&source, PROGRAM).unwrap();
    assert!(Command::new("gcc").arg(&source).arg("-o").arg(&program).status().unwrap().success());
    let output = Command::new(program).output().unwrap().stdout;
    let theirs: Vec<u64> =
        String::from_utf8(output).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let mut ours = vec![u64::from(MTIOCTOP), u64::from(MTIOCGET), u64::from(MTIOCPOS)];
    ours.extend([offset_of!(Order, operation), offset_of!(Order, count)].map(|offset| offset as u64));
    ours.extend([offset_of!(Answer, device), offset_of!(Answer, general)].map(|offset| offset as u64));
    ours.extend([offset_of!(Answer, file), offset_of!(Answer, block)].map(|offset| offset as u64));
    let operations = [
        Operation::ForwardFiles,
        Operation::BackFiles,
        Operation::ForwardBlocks,
        Operation::BackBlocks,
        Operation::WriteFilemarks,
        Operation::Rewind,
        Operation::Offline,
        Operation::Nothing,
        Operation::EndOfData,
        Operation::SetBlock,
        Operation::Load,
    ];
    ours.extend(operations.map(|operation| operation as u64));
    ours.extend([flag(Status::is_at_filemark), flag(Status::is_at_end_of_data)]);
    ours.extend([flag(Status::is_at_end_of_medium), flag(Status::is_write_protected)]);
    ours.extend([flag(Status::is_online), flag(Status::is_door_open), 0x00ff_ffff]);
    assert_eq!(ours, theirs);
}

#[test]
fn what_is_no_tape_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let fd = file.as_fd();
    let enotty = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}");
    enotty(operate(fd, Operation::Rewind, 1).unwrap_err());
    enotty(status(fd).unwrap_err());
    enotty(position(fd).unwrap_err());
}
