//! restic as another reader and writer of our repositories.

use std::path::Path;
use std::process::Command;

/// A repository as restic is told of it.
#[derive(Clone, Debug)]
pub struct Restic {
    repository: String,
    password: String,
    environment: Vec<(String, String)>,
}

impl Restic {
    /// A repository in a directory, or at a URL in restic's words, and the file with its password.
    #[must_use]
    pub fn new(repository: impl AsRef<Path>, password: impl AsRef<Path>) -> Self {
        let text = |path: &Path| path.display().to_string();
        let (repository, password) = (text(repository.as_ref()), text(password.as_ref()));
        Restic { repository, password, environment: Vec::new() }
    }

    /// The same, with these variables.
    #[must_use]
    pub fn with(self, environment: Vec<(String, String)>) -> Self {
        Restic { environment, ..self }
    }

    /// Runs it; it has to succeed. What it prints; `None`, and says so, where it is not installed.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("restic");
        command.args(["-r", &self.repository, "--password-file", &self.password, "--no-cache", "-q"]);
        command.args(arguments).envs(self.environment.iter().cloned());
        let output = match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("left out: the program restic is not installed");
                return None;
            }
            output => output.unwrap(),
        };
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "restic {arguments:?}: {out}{err}");
        Some(out.into_owned())
    }
}
