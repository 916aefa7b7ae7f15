//! What people and mishaps do to a tree. Works on any tree: it takes what it finds.
//!
//! Each edit returns what was done, worded as the shell command that would have done it.

use super::sample::Numbers;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files looked at; a user's tree may have millions.
const FILES_MAX: usize = 2000;

/// Regular files that can be written, in the order of their names.
fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<_> = directory.read_dir()?.collect::<io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && entry.metadata()?.permissions().mode() & 0o200 != 0 {
                found.push(entry.path());
            }
        }
        if found.len() >= FILES_MAX {
            break;
        }
    }
    found.truncate(FILES_MAX);
    Ok(found)
}

fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    super::quote(&below.to_string_lossy())
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())
}

/// A day's work: appends, a rename, a new directory, a mode, a few bytes within the largest file.
pub(super) fn work(root: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let files = files(root)?;
    for path in files.iter().step_by(files.len().div_ceil(5).max(1)) {
        append(path, "signed and sent\n")?;
        lines.push(format!("echo 'signed and sent' >> {}", shown(root, path)));
    }
    let new = root.join("new project");
    std::fs::create_dir(&new)?;
    std::fs::write(new.join("idea.txt"), "everything comes back\n")?;
    lines.push("mkdir 'new project'; echo 'everything comes back' > 'new project/idea.txt'".into());
    if let Some(path) = files.get(files.len() / 2) {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // A name may be as long as names can be.
        if name.len() < 250 {
            name.push(".old");
            let old = path.with_file_name(name);
            std::fs::rename(path, &old)?;
            lines.push(format!("mv {} {}", shown(root, path), shown(root, &old)));
        }
    }
    if let Some(path) = files.last().filter(|path| path.exists()) {
        std::fs::set_permissions(path, Permissions::from_mode(0o640))?;
        lines.push(format!("chmod 640 {}", shown(root, path)));
    }
    if let Some(path) = largest(&files) {
        patch(path, &mut Numbers(2))?;
        lines.push(format!("dd if=/dev/urandom of={} bs=4k count=1 conv=notrunc", shown(root, path)));
    }
    Ok(lines)
}

/// More of it, after the bookmark.
pub(super) fn more_work(root: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let files = files(root)?;
    for path in files.iter().skip(1).step_by(files.len().div_ceil(3).max(1)) {
        append(path, "approved\n")?;
        lines.push(format!("echo approved >> {}", shown(root, path)));
    }
    let (from, to) = (root.join("new project"), root.join("project one"));
    std::fs::rename(&from, &to)?;
    std::fs::write(to.join("budget.txt"), "1 000 000\n")?;
    lines.push("mv 'new project' 'project one'; echo '1 000 000' > 'project one/budget.txt'".into());
    Ok(lines)
}

/// What a cryptotrojan and a tired administrator do together.
pub(super) fn ruin(root: &Path) -> io::Result<Vec<String>> {
    let mut numbers = Numbers(3);
    let files = files(root)?;
    let mut locked = 0;
    for path in files.iter().step_by(3) {
        let bytes = usize::try_from(path.metadata()?.len().min(1 << 20)).unwrap_or(0);
        OpenOptions::new().write(true).open(path)?.write_all(&numbers.bytes(bytes))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        if name.len() < 248 {
            name.push(".locked");
            std::fs::rename(path, path.with_file_name(name))?;
        }
        locked += 1;
    }
    let mut lines = vec![format!("./invoice.pdf.exe    # encrypts and renames {locked} files")];
    if let Some(path) = files.get(1).filter(|path| path.exists()) {
        File::create(path)?;
        lines.push(format!("> {}", shown(root, path)));
    }
    let mut directories: Vec<PathBuf> = Vec::new();
    for entry in root.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    directories.sort();
    for directory in directories.iter().step_by(2) {
        std::fs::remove_dir_all(directory)?;
        lines.push(format!("rm -rf {}", shown(root, directory)));
    }
    std::fs::write(root.join("READ ME NOW.txt"), "your files are ours\n")?;
    Ok(lines)
}

fn largest(files: &[PathBuf]) -> Option<&PathBuf> {
    files
        .iter()
        .filter(|path| path.exists())
        .max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len()))
}

/// Other bytes in the middle.
fn patch(path: &Path, numbers: &mut Numbers) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    file.seek(SeekFrom::Start(middle & !4095))?;
    file.write_all(&numbers.bytes(4096))
}
