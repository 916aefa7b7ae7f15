//! A server of object storage as a process of its own: `moto_server`, named by `REWIND_MOTO` or found in `$PATH`.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the bucket it has.
pub const BUCKET: &str = "bucket";
/// It takes any.
const KEY: &str = "test-key";

/// The server. Dropping it ends it.
pub struct ObjectStore {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
}

impl ObjectStore {
    /// Starts it with an empty bucket; `None`, and says so, where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let program = std::env::var_os("REWIND_MOTO").unwrap_or_else(|| "moto_server".into());
        // A port that was free may be taken by somebody else in between.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let process = match command.spawn() {
                Ok(process) => process,
                Err(error) => {
                    println!("left out: no object store, {} does not start: {error}", program.display());
                    return None;
                }
            };
            let mut store = ObjectStore { address, process };
            if store.answers() {
                store.make_bucket();
                return Some(store);
            }
        }
        panic!("{} was started five times and never answered", program.display());
    }

    /// The variables from which a program knows how to reach it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let pairs = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Stops it: connections are taken and nothing is answered, so whoever asks waits.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.process), Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    fn answers(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until && self.process.try_wait().unwrap().is_none() {
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    fn make_bucket(&self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let request = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.lines().next().unwrap().contains(" 200 "), "{answer}");
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
