//! Random directories, written by us, read by us and by GNU tar.

use super::gnu_tar::{read_back, restore_and_compare};
use super::{archived, listed, set_xattr};
use crate::repository::testing::Random;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn name(random: &mut Random) -> Vec<u8> {
    let length = match random.below(8) {
        0 => 255,
        1 => 90 + random.below(30) as usize,
        _ => 1 + random.below(20) as usize,
    };
    let alphabet: &[u8] = match random.below(4) {
        0 => b"\xff\xe9\x80a",
        1 => b" =%\n\\*?-.'\"\x01\x7f",
        _ => b"abcdefgh",
    };
    let mut name: Vec<u8> =
        (0..length).map(|_| alphabet[random.below(alphabet.len() as u64) as usize]).collect();
    if random.below(5) == 0 {
        name = "\u{f6}\u{2603}".repeat(1 + random.below(50) as usize).into_bytes();
    }
    // Never a dot name, and nothing of ours.
    if name.starts_with(b".") {
        name[0] = b'x';
    }
    name
}

fn file(random: &mut Random, path: &Path) {
    let Ok(file) = File::create_new(path) else { return };
    let size = match random.below(4) {
        0 => 0,
        1 => random.below(2000),
        2 => 512 * random.below(20),
        _ => random.below(3 << 20),
    };
    if random.below(2) == 0 {
        file.set_len(size).unwrap();
        for _ in 0..random.below(4).min(size) {
            let at = random.below(size);
            let length = (random.below(70_000).min(size - at)) as usize;
            file.write_all_at(&random.bytes(length), at).unwrap();
        }
    } else {
        file.write_all_at(&random.bytes(size as usize), 0).unwrap();
    }
    for number in 0..random.below(3) {
        let length = random.below(200) as usize;
        set_xattr(path, &format!("user.{number}=%"), &random.bytes(length));
    }
    let mode = [0o644, 0o600, 0o4755, 0o2750, 0o400, 0o777][random.below(6) as usize];
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn fill(random: &mut Random, top: &Path) {
    let (mut directories, mut files) = (vec![top.join("root")], Vec::<PathBuf>::new());
    fs::create_dir(&directories[0]).unwrap();
    for _ in 0..40 {
        let directory = directories[random.below(directories.len() as u64) as usize].clone();
        let path = directory.join(OsStr::from_bytes(&name(random)));
        if path.as_os_str().len() > 3000 {
            continue;
        }
        match random.below(6) {
            0 => {
                if fs::create_dir(&path).is_ok() {
                    directories.push(path.clone());
                }
            }
            1 => drop(symlink(OsStr::from_bytes(&name(random)), &path)),
            2 if !files.is_empty() => {
                drop(fs::hard_link(&files[random.below(files.len() as u64) as usize], &path));
            }
            _ => {
                file(random, &path);
                files.push(path.clone());
            }
        }
        files.retain(|path| path.exists());
    }
    // Times last, and of directories after all that is in them.
    for path in listed(top).iter().rev() {
        let seconds = random.below(4_000_000_000) as i64;
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: random.below(1_000_000_000) as i64 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let path = top.join(OsStr::from_bytes(path));
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn random_directories_come_back() {
    let mut random = Random::from_clock("random_directories_come_back");
    for _ in 0..12 {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(&mut random, from.path());
        let wrote = archived(from.path());
        assert!(wrote.listed.is_empty(), "{:?}", wrote.listed);
        read_back(from.path(), &wrote.out);
        restore_and_compare(&wrote.out, from.path(), to.path());
    }
}
