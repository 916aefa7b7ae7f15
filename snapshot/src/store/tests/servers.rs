//! Servers that speak S3 over HTTP: one within the test's process, one as a process of its own.

use super::super::*;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

pub(super) const KEY: &str = "test-key";
pub(super) const SECRET: &str = "test-secret";
pub(super) const BUCKET: &str = "bucket";

/// Threads for whatever a test has asynchronous.
pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Credentials as a user's environment has them, and nothing else of this process's.
pub(super) fn environment(secret: &str) -> Environment {
    Environment::from_pairs([
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "us-east-1"),
    ])
}

pub(super) fn url(prefix: &str) -> StoreUrl {
    format!("s3://{BUCKET}/{prefix}").parse().unwrap()
}

/// Options for a server on this machine.
pub(super) fn options(address: SocketAddr, more: &[(&str, &str)]) -> StoreOptions {
    let endpoint = format!("http://{address}");
    let pairs = [("endpoint", endpoint.as_str()), ("allow_http", "true"), ("retry", "5")];
    StoreOptions::from_pairs(pairs.into_iter().chain(more.iter().copied())).unwrap()
}

/// Whether a server that was started takes connections, before it ends and within a minute.
pub(super) fn answers(address: SocketAddr, process: &mut Child) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until && process.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Puts nothing under a path, which must be answered with this status.
pub(super) fn put(address: SocketAddr, path: &str, status: u16) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("PUT {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.lines().next().unwrap().contains(&format!(" {status} ")), "{answer}");
}

/// A server within this process; a bucket is a directory. Signatures are checked.
pub(super) struct InProcess {
    pub(super) address: SocketAddr,
    pub(super) runtime: Runtime,
    pub(super) directory: tempfile::TempDir,
}

impl InProcess {
    pub(super) fn start() -> Self {
        let runtime = runtime();
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let service = {
            let files = s3s_fs::FileSystem::new(directory.path()).unwrap();
            let mut builder = s3s::service::S3ServiceBuilder::new(files);
            builder.set_auth(s3s::auth::SimpleAuth::from_single(KEY, SECRET));
            builder.build()
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Else each answer waits for an acknowledgement that the client delays by 40 ms.
                let _ = stream.set_nodelay(true);
                let service = service.clone();
                tokio::spawn(async move {
                    let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, runtime, directory }
    }

    pub(super) fn store(&self, prefix: &str, more: &[(&str, &str)]) -> RemoteStore {
        self.store_in(prefix, more, &environment(SECRET))
    }

    pub(super) fn store_in(&self, prefix: &str, more: &[(&str, &str)], with: &Environment) -> RemoteStore {
        RemoteStore::open(&url(prefix), &options(self.address, more), with, self.runtime.handle()).unwrap()
    }
}

/// `moto_server`, a process.
pub(super) struct Moto {
    pub(super) address: SocketAddr,
    pub(super) runtime: Runtime,
    process: Child,
}

impl Moto {
    /// Starts it if it is installed; says so if it is not.
    pub(super) fn start() -> Option<Self> {
        let program =
            std::env::var_os("REWIND_MOTO").map_or_else(|| PathBuf::from("moto_server"), PathBuf::from);
        // The port may be taken by somebody else in between: then it does not answer, and another is tried.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let started = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let process = match started {
                Ok(process) => process,
                Err(error) => {
                    eprintln!(
                        "not tested against S3 as a process: {} does not start: {error} (pip install 'moto[server,s3]', \
                         and its path in REWIND_MOTO)",
                        program.display()
                    );
                    return None;
                }
            };
            let mut server = Self { address, runtime: runtime(), process };
            if answers(server.address, &mut server.process) {
                server.make_bucket();
                return Some(server);
            }
        }
        panic!("{} was started five times and never answered", program.display());
    }

    fn make_bucket(&self) {
        put(self.address, &format!("/{BUCKET}"), 200);
    }

    pub(super) fn store(&self, prefix: &str, more: &[(&str, &str)]) -> RemoteStore {
        let options = options(self.address, more);
        RemoteStore::open(&url(prefix), &options, &environment(SECRET), self.runtime.handle()).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
