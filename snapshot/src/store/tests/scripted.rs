//! A server whose every answer a test decides: bytes as they go over the wire, one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// The header `range`; empty if there is none.
    pub(super) range: String,
}

pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Scripted {
    /// `answer` is called in a thread of its own for every request.
    pub(super) fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (answer, seen) = (Arc::new(answer), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), answer) = (stream, answer.clone()) else { continue };
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { address, stopped }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Request) -> Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ');
    let mut request = Request {
        method: words.next().unwrap().to_owned(),
        target: words.next().unwrap().to_owned(),
        range: String::new(),
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "range" => request.range = value.trim().to_owned(),
            _ => {}
        }
    }
    let _ = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
    let _ = reader.into_inner().write_all(&answer(&request));
}

/// A whole answer.
pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\nETag: \"e\"\r\n\
         Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A refusal as S3 writes it.
pub(super) fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    answer(status, "", body.as_bytes())
}
