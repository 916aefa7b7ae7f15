//! The emulator of Azure Blob Storage, Azurite: a process of its own that speaks the real protocol over HTTP.

use super::super::*;
use super::servers::{answers, put, runtime};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use tokio::runtime::Runtime;

pub(super) const ACCOUNT: &str = "rewindtest";
pub(super) const KEY: &str = "bm90IGEgc2VjcmV0OiBhIGtleSBvZiB0ZXN0cyBvbmx5";
/// A shared access signature made with that key, for everything, until 2099.
pub(super) const SAS: &str = "sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&spr=https%2Chttp\
                              &sig=x4H2Uijqx5UQYTodtCJ3imfkpcRF%2FPcdCTbF1BbkwGE%3D";
pub(super) const CONTAINER: &str = "container";

/// The account and its key, by the names that Azure's documents use.
pub(super) fn environment(key: &str) -> Environment {
    Environment::from_pairs([("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", key)])
}

/// Options for an emulator: the account is part of its paths.
pub(super) fn options(address: SocketAddr, more: &[(&str, &str)]) -> StoreOptions {
    let endpoint = format!("http://{address}/{ACCOUNT}");
    let pairs = [("endpoint", endpoint.as_str()), ("allow_http", "true"), ("retry", "5")];
    StoreOptions::from_pairs(pairs.into_iter().chain(more.iter().copied())).unwrap()
}

pub(super) struct Azurite {
    pub(super) address: SocketAddr,
    pub(super) runtime: Runtime,
    process: Child,
    _directory: tempfile::TempDir,
}

impl Azurite {
    /// Starts it if it is installed; says so if it is not.
    pub(super) fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("REWIND_AZURITE") else {
            println!(
                "left out: not tested against Azure (npm i azurite, and the path of azurite-blob in REWIND_AZURITE)"
            );
            return None;
        };
        // The port may be taken by somebody else in between: then another is tried.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let process = Command::new("node")
                .arg(&program)
                .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location"])
                .arg(directory.path())
                .args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string()])
                .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("REWIND_AZURITE is set, but node does not start: {error}"));
            let mut server = Self { address, runtime: runtime(), process, _directory: directory };
            if answers(server.address, &mut server.process) {
                server.make_container();
                return Some(server);
            }
        }
        panic!("{program:?} was started five times and never answered");
    }

    fn make_container(&self) {
        put(self.address, &format!("/{ACCOUNT}/{CONTAINER}?restype=container&{SAS}"), 201);
    }

    pub(super) fn store(&self, prefix: &str, more: &[(&str, &str)]) -> RemoteStore {
        self.store_in(CONTAINER, prefix, more, &environment(KEY)).unwrap()
    }

    pub(super) fn store_in(
        &self,
        container: &str,
        prefix: &str,
        more: &[(&str, &str)],
        with: &Environment,
    ) -> Result<RemoteStore, StoreError> {
        let url = format!("az://{container}/{prefix}").parse().unwrap();
        RemoteStore::open(&url, &options(self.address, more), with, self.runtime.handle())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
