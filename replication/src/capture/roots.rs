//! Roots: held open, so that they are the same directories for as long as the agent runs.
//!
//! Which directories they are is remembered beyond that ([`Origins`]), outside the projections: a path whose file
//! system is not mounted leads to an empty directory, and that must not be taken for everything having been removed.
//! Only a synchronization that somebody asked for takes another directory in place of the one that was protected.

use super::look::{DIRECTORY, Look, device_of, look_open, origin_of};
use super::{CaptureError, CaptureRoot};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use journal::{Origin, RootNo};
use rustix::fs::{CWD, Mode};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A root while the agent runs.
pub(super) struct Root {
    pub number: RootNo,
    pub path: PathBuf,
    pub fd: Rc<OwnedFd>,
    pub origin: Origin,
    /// Number of its file system, see [`device_of`].
    pub device: u64,
    /// Device number as the kernel has it now.
    pub raw_device: u64,
    pub mount: u64,
    /// Its path does not lead to it any more: nothing of it is captured until it does.
    pub lost: bool,
    /// The directory that was protected last.
    expected: Option<Origin>,
    exclude: Option<Exclude>,
}

struct Exclude {
    relative: GlobSet,
    names: GlobSet,
    absolute: GlobSet,
}

fn open(path: &Path) -> Result<(OwnedFd, Look, u64, Origin), CaptureError> {
    let failed = |errno: rustix::io::Errno| CaptureError::File {
        operation: "open the root",
        path: path.to_owned(),
        source: errno.into(),
    };
    // The path of a root is an operator's: links in it are followed, also the last one.
    let flags = DIRECTORY.difference(rustix::fs::OFlags::NOFOLLOW);
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    let look = look_open(fd.as_fd()).map_err(failed)?;
    let device = device_of(&fd, &look);
    let origin = origin_of(fd.as_fd(), b"", &look, device);
    Ok((fd, look, device, origin))
}

impl Root {
    pub(super) fn open(config: &CaptureRoot) -> Result<Self, CaptureError> {
        let (fd, look, device, origin) = open(&config.path)?;
        Ok(Root {
            number: config.number,
            path: config.path.clone(),
            fd: Rc::new(fd),
            origin,
            device,
            raw_device: look.device,
            mount: look.mount,
            lost: false,
            expected: None,
            exclude: Exclude::new(&config.exclude)?,
        })
    }

    /// Says which directory it has to be; it is lost if it is another one.
    pub(super) fn expect(&mut self, expected: Option<Origin>) {
        self.expected = expected;
        self.lost |= expected.is_some_and(|expected| expected != self.origin);
    }

    /// Whether the path still leads to the directory held open, and its file system honours the descriptor.
    pub(super) fn is_there(&self) -> bool {
        look_open(self.fd.as_fd()).is_ok()
            && open(&self.path)
                .is_ok_and(|(_, look, _, origin)| origin == self.origin && look.mount == self.mount)
    }

    /// Takes the directory that the path leads to now, if it is the one that was protected, or `any`.
    pub(super) fn reopen(&mut self, any: bool) -> bool {
        let Ok((fd, look, device, origin)) = open(&self.path) else { return false };
        if !any && self.expected.is_some_and(|expected| expected != origin) {
            return false;
        }
        self.expected = Some(origin);
        self.fd = Rc::new(fd);
        (self.device, self.raw_device, self.mount, self.origin) = (device, look.device, look.mount, origin);
        self.lost = false;
        true
    }

    /// The file system number of something found below this root: btrfs subvolumes have inodes of their own.
    pub(super) fn device_of(&self, look: &Look) -> u64 {
        if look.device == self.raw_device { self.device } else { self.device ^ look.device.rotate_left(32) }
    }

    pub(super) fn has_excludes(&self) -> bool {
        self.exclude.is_some()
    }

    /// Whether what stands at this path (relative to the root) is left out.
    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        let Some(exclude) = &self.exclude else { return false };
        let relative = Path::new(std::ffi::OsStr::from_bytes(path));
        exclude.relative.is_match(relative)
            || relative.file_name().is_some_and(|name| exclude.names.is_match(name))
            || (!exclude.absolute.is_empty() && exclude.absolute.is_match(self.path.join(relative)))
    }
}

/// Which directories the roots were, in a small file.
pub(super) struct Origins {
    path: PathBuf,
    known: BTreeMap<RootNo, Origin>,
}

impl Origins {
    /// Reads the file. One that is missing or damaged says nothing.
    pub(super) fn open(path: &Path) -> Self {
        let known = std::fs::read_to_string(path).ok().and_then(|text| parse(&text)).unwrap_or_default();
        Origins { path: path.to_owned(), known }
    }

    pub(super) fn get(&self, root: RootNo) -> Option<Origin> {
        self.known.get(&root).copied()
    }

    /// Remembers these, durably.
    ///
    /// # Errors
    /// `File`.
    pub(super) fn set<'r>(&mut self, roots: impl Iterator<Item = &'r Root>) -> Result<(), CaptureError> {
        let found: BTreeMap<RootNo, Origin> = roots.map(|root| (root.number, root.origin)).collect();
        if found == self.known {
            return Ok(());
        }
        self.known = found;
        let line = |(root, o): (&RootNo, &Origin)| {
            format!("{} {} {} {} {}\n", root.0, o.device, o.inode, o.generation, o.birth)
        };
        let text: String = self.known.iter().map(line).collect();
        let checked = format!("{} {}\n{text}", MAGIC, blake3::hash(text.as_bytes()).to_hex());
        let failed = |source| CaptureError::File {
            operation: "remember the roots in",
            path: self.path.clone(),
            source,
        };
        let temporary = self.path.with_extension("new");
        std::fs::write(&temporary, checked).map_err(failed)?;
        std::fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(failed)?;
        std::fs::rename(&temporary, &self.path).map_err(failed)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

/// First word of the file: what it is, and its version.
const MAGIC: &str = "rewind-roots-1";

fn parse(text: &str) -> Option<BTreeMap<RootNo, Origin>> {
    let (head, rest) = text.split_once('\n')?;
    let hash = head.strip_prefix(MAGIC)?.trim();
    if blake3::hash(rest.as_bytes()).to_hex().as_str() != hash {
        return None;
    }
    let root = |line: &str| {
        let mut words = line.split(' ');
        let number = RootNo(words.next()?.parse().ok()?);
        let mut number_of = || words.next()?.parse().ok();
        let (device, inode, generation) = (number_of()?, number_of()?, number_of()?);
        let birth = words.next()?.parse().ok()?;
        Some((number, Origin { device, inode, generation, birth }))
    };
    rest.lines().map(root).collect()
}

impl Exclude {
    /// Patterns without a slash are about names anywhere, as in other tools; `*` does not cross a slash.
    fn new(patterns: &[String]) -> Result<Option<Self>, CaptureError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let [mut relative, mut names, mut absolute] = [(); 3].map(|()| GlobSetBuilder::new());
        for pattern in patterns {
            let failed = |source| CaptureError::Exclude { pattern: pattern.clone(), source };
            let text = if pattern.len() > 1 { pattern.trim_end_matches('/') } else { pattern };
            let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(failed)?;
            let set = match (text.starts_with('/'), text.contains('/')) {
                (true, _) => &mut absolute,
                (false, true) => &mut relative,
                (false, false) => &mut names,
            };
            set.add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|source| CaptureError::Exclude { pattern: patterns.join(", "), source })
        };
        Ok(Some(Exclude { relative: build(relative)?, names: build(names)?, absolute: build(absolute)? }))
    }
}
