//! Azure's own emulator, Azurite, as a process of its own and with TLS: the script named by `REWIND_AZURITE`.
//!
//! It has an account with a container, and a certificate of an authority that only those trust who are told of it. It is
//! reached by its address, with the account in the path, or through [`Azure::proxy`] as `https://ACCOUNT.blob.core.windows.net`,
//! the only name that programs know which cannot be given an endpoint.

use crate::pair::Authority;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the account it has.
pub const ACCOUNT: &str = "rewindtest";
/// Name of the container it has.
pub const CONTAINER: &str = "container";
const KEY: &str = "bm90IGEgc2VjcmV0OiBhIGtleSBvZiB0ZXN0cyBvbmx5";
/// A shared access signature made with that key, for everything, until 2099.
const SAS: &str = "sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&spr=https%2Chttp\
                   &sig=x4H2Uijqx5UQYTodtCJ3imfkpcRF%2FPcdCTbF1BbkwGE%3D";

/// The emulator. Dropping it ends it.
pub struct Azure {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
    directory: tempfile::TempDir,
}

impl Azure {
    /// Starts it with an empty container; `None`, and says so, where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("REWIND_AZURITE") else {
            println!(
                "left out: no emulator of Azure (npm i azurite, and the path of azurite-blob in REWIND_AZURITE)"
            );
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let host = format!("{ACCOUNT}.blob.core.windows.net");
        Authority::new().issue(directory.path(), "azure", &["127.0.0.1", &host], false);
        let file = |name: &str| directory.path().join(name);
        // A port that was free may be taken by somebody else in between.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut command = Command::new("node");
            command.arg(&program).args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
            command.arg("--location").arg(file("blobs"));
            command.arg("--cert").arg(file("azure.crt")).arg("--key").arg(file("azure.key"));
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string()]);
            command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().expect("REWIND_AZURITE is set, so node has to start");
            if answers(address, &mut process) {
                let azure = Azure { address, process, directory };
                azure.make_container();
                return Some(azure);
            }
        }
        panic!("{} was started five times and never answered", program.display());
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("azure.ca")
    }

    /// The variables from which our programs know how to reach it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("https://{}/{ACCOUNT}", self.address);
        let authority = self.authority().display().to_string();
        let pairs = [
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
            ("AZURE_STORAGE_ENDPOINT", &endpoint),
            ("SSL_CERT_FILE", &authority),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The variables from which restic knows: the account, and a proxy that leads there whatever is asked of it.
    #[must_use]
    pub fn proxied(&self) -> Vec<(String, String)> {
        let proxy = format!("http://{}", proxy(self.address));
        let pairs = [("AZURE_ACCOUNT_NAME", ACCOUNT), ("AZURE_ACCOUNT_KEY", KEY), ("HTTPS_PROXY", &proxy)];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn make_container(&self) {
        let url = format!("https://{}/{ACCOUNT}/{CONTAINER}?restype=container&{SAS}", self.address);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "-X", "PUT", "-H", "Content-Length: 0", "--cacert"]);
        let output = curl.arg(self.authority()).arg(&url).output().expect("curl");
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn answers(address: SocketAddr, process: &mut Child) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until && process.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Where a proxy listens that answers every CONNECT with a connection to one address. It serves until the process ends.
fn proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || tunnel(stream, to));
        }
    });
    address
}

fn tunnel(client: TcpStream, to: SocketAddr) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        line.clear();
    }
    let Ok(server) = TcpStream::connect(to) else { return };
    let mut client = client;
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").is_err() {
        return;
    }
    let (from_server, to_server) = (server.try_clone().unwrap(), server);
    let back = std::thread::spawn(move || copy(from_server, client));
    copy(reader, to_server);
    let _ = back.join();
}

/// Until the one side says no more; the other is told.
fn copy(mut from: impl Read, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
