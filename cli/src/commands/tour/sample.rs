//! A small tree with something of everything: text, a larger file, holes, links, odd names, attributes.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Numbers that look random and are the same in every tour.
#[derive(Clone, Debug)]
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// The next one (splitmix64).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

const WORDS: [&str; 16] = [
    "budget", "contract", "invoice", "minutes", "report", "draft", "summary", "letter", "offer", "order",
    "plan", "review", "survey", "table", "notes", "index",
];

fn text(numbers: &mut Numbers, lines: usize) -> String {
    let mut text = String::new();
    for line in 0..lines {
        text.push_str(&format!("{line:4}"));
        for _ in 0..8 {
            let at = usize::try_from(numbers.next() % WORDS.len() as u64).unwrap_or(0);
            text.push(' ');
            text.push_str(WORDS.get(at).copied().unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

/// Makes the tree and returns the names in its root.
pub(super) fn make(root: &Path) -> io::Result<Vec<String>> {
    let mut numbers = Numbers(1);
    for department in ["accounts", "legal", "research", "sales"] {
        for year in 2022..=2026 {
            let directory = root.join(department).join(year.to_string());
            std::fs::create_dir_all(&directory)?;
            for (number, word) in WORDS.iter().enumerate() {
                let lines = usize::try_from(20 + numbers.next() % 400).unwrap_or(20);
                std::fs::write(directory.join(format!("{word}-{number:02}.txt")), text(&mut numbers, lines))?;
            }
        }
    }
    let media = root.join("media");
    std::fs::create_dir(&media)?;
    std::fs::write(media.join("film.bin"), numbers.bytes(3 << 20))?;
    let mut disk = File::create(media.join("disk.img"))?;
    disk.set_len(16 << 20)?;
    for place in [0, 5 << 20, (16 << 20) - 4096] {
        disk.seek(SeekFrom::Start(place))?;
        disk.write_all(&numbers.bytes(4096))?;
    }
    odd_things(root)?;
    let mut names: Vec<_> = root
        .read_dir()?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// What backup programs have stumbled over.
fn odd_things(root: &Path) -> io::Result<()> {
    let odd = root.join("odd things");
    std::fs::create_dir(&odd)?;
    std::fs::create_dir(odd.join("empty"))?;
    std::fs::write(odd.join("no bytes"), b"")?;
    std::fs::write(odd.join(OsStr::from_bytes(b"caf\xe9 (not UTF-8)")), b"latin-1\n")?;
    std::fs::write(odd.join("line\nbreak"), b"a name of two lines\n")?;
    std::fs::write(odd.join("n".repeat(255)), b"as long as a name can be\n")?;
    std::fs::write(odd.join("script.sh"), b"#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(odd.join("script.sh"), Permissions::from_mode(0o750))?;
    std::fs::hard_link(odd.join("script.sh"), odd.join("second name"))?;
    symlink("script.sh", odd.join("link"))?;
    symlink("/nowhere/at/all", odd.join("dangling link"))?;
    let flags = rustix::fs::XattrFlags::empty();
    // Not every file system has them.
    let _ = rustix::fs::setxattr(odd.join("script.sh"), "user.origin", b"tour", flags);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        odd.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )?;
    Ok(())
}
