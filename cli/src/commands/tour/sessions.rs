//! The second half of the tour: backups, finding what is gone, restoring it in every way, and doing so with nothing but the
//! repository.

use super::{Tally, Tour, blocking, landed};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use wire::Failure;

/// What a command line is made of: words, and paths that may hold anything.
fn words(words: &[&str], path: &Path, more: &[&str]) -> Vec<OsString> {
    let before = words.iter().map(OsString::from);
    let after = more.iter().map(OsString::from);
    before.chain([path.as_os_str().to_owned()]).chain(after).collect()
}

/// Where the repository lies, and what opens it.
struct Vault {
    directory: PathBuf,
    password: PathBuf,
}

impl Vault {
    fn url(&self) -> OsString {
        let mut url = OsString::from("file://");
        url.push(&self.directory);
        url
    }
}

impl Tour<'_> {
    fn vault(&self) -> Vault {
        let place = self.data.parent().unwrap_or(&self.data);
        Vault { directory: place.join("vault"), password: place.join("vault.password") }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.data.with_file_name(name)
    }

    /// Backs up the bookmark and the present.
    pub(super) async fn back_up(&self) -> Result<(), Failure> {
        let vault = self.vault();
        self.say("Copies elsewhere: a repository in the format of restic, opened by a password:");
        let password = vault.password.clone();
        self.show(&format!(
            "(umask 077; head -c 24 /dev/urandom | base64 > {})",
            super::quote(&password.to_string_lossy())
        ));
        blocking(move || write_password(&password)).await?;
        let mut line: Vec<OsString> = ["repository", "add", "vault"].map(OsString::from).into();
        line.push(vault.url());
        line.extend(words(&["--password-file"], &vault.password, &[]));
        self.command(&line).await?;
        self.say("A backup of the bookmark, and one of now, which reads only what changed since:");
        self.line("backup tour --to vault --at before-upgrade").await?;
        self.line("backup tour --to vault").await?;
        self.line("session list").await
    }

    /// Finds and restores: `first` and `second` are what the two backups were made of.
    pub(super) async fn restore(
        &self,
        tally: &mut Tally,
        first: &Path,
        second: &Path,
    ) -> Result<(), Failure> {
        self.say("What is gone? The catalog knows the names in all backups and in the journal:");
        self.line("catalog query *.txt --deleted --limit 5").await?;
        self.say("Something that was there at the first backup only, into a directory, by its name:");
        let found = self.beside("found");
        self.command(&words(&["restore", "query", "*new project", "--onto"], &found, &[])).await?;
        let (kept, got) = (first.join("new project"), landed(&found, &self.master).join("new project"));
        self.compare(tally, "what was found and the bookmark", &kept, &got).await?;

        self.say("The whole tree of the newest backup, into a directory:");
        let whole = self.beside("whole");
        let mut line = words(&["restore", "tree"], &self.master, &["--verify"]);
        line.extend(words(&["--onto"], &whole, &[]));
        self.command(&line).await?;
        self.compare(tally, "directory and backup", second, &landed(&whole, &self.master)).await?;

        self.say("Onto the replica, where only what differs is read; then it follows its master again:");
        self.command(&words(&["restore", "tree"], &self.master, &["--delete", "--yes"])).await?;
        self.compare(tally, "replica and backup", second, &self.replica).await?;
        self.line("scenario resume tour").await?;
        self.line("flush tour").await?;
        self.compare(tally, "replica and master", &self.master, &self.replica).await?;

        self.say("And onto the master, whose ruin this ends; replication goes on meanwhile:");
        let options = ["--delete", "--onto", "master", "--verify", "--yes"];
        self.command(&words(&["restore", "tree"], &self.master, &options)).await?;
        self.compare(tally, "master and backup", second, &self.master).await?;
        self.line("flush tour").await?;
        self.compare(tally, "replica and master", &self.master, &self.replica).await
    }

    /// The last backup with the daemon gone.
    pub(super) async fn rescue(&self, tally: &mut Tally, kept: &Path) -> Result<(), Failure> {
        let (vault, rescued) = (self.vault(), self.beside("rescued"));
        self.say("The worst day: daemon, journal and catalog are gone. Repository and password are enough:");
        self.show("kill %1");
        let mut line = vec![OsString::from("rescue"), vault.url(), "latest".into()];
        line.extend(words(&["--onto"], &rescued, &[]));
        line.extend(words(&["--password-file"], &vault.password, &[]));
        self.command(&line).await?;
        self.compare(tally, "rescued directory and backup", kept, &landed(&rescued, &self.master)).await
    }
}

/// A password that nobody else can read.
fn write_password(path: &Path) -> io::Result<()> {
    let mut random = [0_u8; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}
