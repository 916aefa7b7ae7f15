//! What GNU tar makes of our volumes, with nothing of ours: every place where a medium can end, sparse files, and the
//! order of reading that a person without this program would try.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A tree with what archives are made of, and its archive by GNU tar with our label in front.
struct Tree {
    directory: tempfile::TempDir,
    session: String,
    archive: Vec<u8>,
}

fn tar(arguments: &[&str], directory: &Path) -> std::process::Output {
    let mut command = Command::new("tar");
    command.args(arguments).current_dir(directory).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command.output().unwrap()
}

fn tree(number: u64, rng: &mut Rng) -> Tree {
    let directory = tempfile::tempdir().unwrap();
    let session = session_id(number);
    let src = directory.path().join("src");
    let label = src.join(".rewind").join(part::short(&session));
    fs::create_dir_all(&label).unwrap();
    fs::write(label.join("session.json"), format!("{{\"id\":\"{session}\",\"name\":\"tree\"}}")).unwrap();
    let deep = src.join("srv").join("l\u{e4}nger".repeat(20));
    fs::create_dir_all(&deep).unwrap();
    for (name, size) in [("one", 1500), ("two", 1024), ("none", 0), ("three", 700 + rng.below(9000))] {
        fs::write(deep.join(format!("{name}{}", "n".repeat(rng.below(150)))), noise(size, rng)).unwrap();
    }
    fs::write(src.join("srv/zeros"), vec![0; 5000]).unwrap();
    // As a header of a continuation would look to a careless reader.
    fs::write(src.join("srv/letters"), vec![b'g'; 3000]).unwrap();
    symlink("zeros", src.join("srv/link")).unwrap();
    fs::hard_link(src.join("srv/zeros"), src.join("srv/second")).unwrap();
    let sparse = fs::File::create(src.join("srv/sparse")).unwrap();
    for extent in 0..60 {
        use std::os::unix::fs::FileExt;
        sparse.write_all_at(&noise(10, rng), 20_000 + extent * 16_384).unwrap();
    }
    sparse.set_len(2 << 20).unwrap();
    let pack = ["--format=pax", "-S", "--sparse-version=1.0", "-b1", "-cf", "../all.tar"];
    let label = format!(".rewind/{}/session.json", part::short(&session));
    let output = tar(&[&pack[..], &[&label, "srv"]].concat(), &src);
    assert!(output.status.success(), "{output:?}");
    let archive = fs::read(directory.path().join("all.tar")).unwrap();
    Tree { directory, session, archive }
}

fn noise(bytes: usize, rng: &mut Rng) -> Vec<u8> {
    (0..bytes).map(|_| rng.next() as u8).collect()
}

impl Tree {
    /// Writes the archive to volumes, and puts their tape files into files.
    fn volumes(&self, sizes: &[u64], block: usize, early_warning: u64) -> Vec<PathBuf> {
        let disk = SimDisk::default();
        let mut drive = open(&disk);
        labelled(&mut drive, sizes, block, early_warning);
        let written = write(&mut drive, &self.session, &self.archive).unwrap();
        let parts = parts_of(&take_stock(&mut drive), &self.session).unwrap();
        assert_eq!(parts, written.parts);
        let mut paths = Vec::new();
        for part in parts {
            let name = format!("{}/{:06}.tar", part.media, part.file);
            let path = self.directory.path().join(name.replace('/', "-"));
            fs::write(&path, disk.bytes(&Path::new(DIRECTORY).join(name))).unwrap();
            paths.push(path);
        }
        paths
    }

    /// Runs tar over tape files; what it said of what went wrong.
    fn run(&self, what: &str, files: &[PathBuf], block: usize) -> Result<(), String> {
        let out = self.directory.path().join("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        let factor = (block / UNIT).to_string();
        let mut arguments = vec![what, "-b", &factor];
        for file in files {
            arguments.extend(["-f", file.to_str().unwrap()]);
        }
        let output = tar(&arguments, &out);
        match output.status.success() && output.stderr.is_empty() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Compares what was restored.
    fn compare(&self) -> Result<(), String> {
        let mut command = Command::new("diff");
        command.args(["-r", "--no-dereference", "src", "out"]).current_dir(self.directory.path());
        let output = command.output().unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    }

    fn check(&self, sizes: &[u64], block: usize, early_warning: u64) -> Vec<PathBuf> {
        let files = self.volumes(sizes, block, early_warning);
        let what = format!("volumes of {sizes:?} blocks of {block}: ");
        self.run("-xM", &files, block).map_err(|error| format!("{what}{error}")).unwrap();
        self.compare().map_err(|error| format!("{what}{error}")).unwrap();
        files
    }
}

#[test]
fn tar_restores_a_session_from_three_volumes() {
    let mut rng = Rng::new(seed());
    let tree = tree(1, &mut rng);
    let blocks = (tree.archive.len() / 4096) as u64;
    for early_warning in [0, 5000] {
        for _ in 0..10 {
            let (first, second) = (2 + rng.below(blocks as usize / 2), 2 + rng.below(blocks as usize / 3));
            let sizes = [first as u64, second as u64, blocks + 8];
            assert_eq!(tree.check(&sizes, 4096, early_warning).len(), 3, "{sizes:?}");
        }
    }
    // One volume, blocks as real ones.
    assert_eq!(tree.check(&[100], 256 << 10, 0).len(), 1);
}

#[test]
fn tar_restores_whatever_the_cut_went_through() {
    let mut rng = Rng::new(seed());
    let tree = tree(2, &mut rng);
    let blocks = (tree.archive.len() / UNIT) as u64;
    // The headers, the map of the sparse file, the end: each block of 512 bytes there is the first of a part once. Inside
    // of contents one cut is like the other.
    let step = |at: u64| if tree.is_plain(at) { 7 } else { 1 };
    let mut at = 1;
    while at < blocks {
        let files = tree.check(&[at, blocks + 20, blocks + 20], UNIT, 0);
        // A reader that has nothing but what follows comes to the next member, if there is one.
        let is_inside = fs::metadata(&files[0]).unwrap().len() + (UNIT as u64) < tree.end();
        if let Some(last) = files.get(1..).filter(|last| !last.is_empty() && is_inside) {
            tree.run("-t", last, UNIT)
                .map_err(|error| format!("part 2 alone, cut at block {at}: {error}"))
                .unwrap();
        }
        at += step(at);
    }
}

impl Tree {
    /// Bytes of the archive up to and with the two zero blocks.
    fn end(&self) -> u64 {
        let last = self.archive.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        (last.next_multiple_of(UNIT) + 2 * UNIT) as u64
    }

    /// Whether a block of the archive lies well inside the content of the sparse file, which is most of it.
    fn is_plain(&self, at: u64) -> bool {
        let at = at as usize * UNIT;
        let around = self.archive.get(at.saturating_sub(4 * UNIT)..at + 8 * UNIT);
        around.is_some_and(|around| {
            around.chunks(UNIT).all(|unit| header::parse(unit.try_into().unwrap()).is_none())
        }) && around.is_some_and(|around| !around.is_ascii())
    }
}

#[test]
fn tar_lists_and_compares() {
    let mut rng = Rng::new(seed());
    let tree = tree(3, &mut rng);
    let blocks = (tree.archive.len() / 4096) as u64;
    let files = tree.volumes(&[blocks / 3, blocks / 3 + 3, blocks], 4096, 0);
    assert_eq!(files.len(), 3);
    tree.run("-tM", &files, 4096).unwrap();
    // A volume by itself gives the members that begin on it, and the rest of the one that was cut as a file.
    tree.run("-x", &files[2..], 4096).unwrap();
    let rest = tree.directory.path().join("out/.rewind").join(part::short(&tree.session)).join("rest-0003");
    assert!(rest.is_file());
    // Not in another order.
    assert!(tree.run("-xM", &[files[0].clone(), files[2].clone()], 4096).is_err());
}
