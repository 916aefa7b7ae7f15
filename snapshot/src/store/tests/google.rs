//! A fake of Google Cloud Storage. It is a fake: no emulator speaks the XML API that `object_store` uses, so what is
//! shown with it is that our side keeps the contract over a server that behaves as Google documents it, not that
//! Google's does.
//!
//! One bucket in memory, over HTTP: put, get, head, delete, list by pages, ranges, uploads in parts, and the condition on
//! generations. What Google refuses is refused: another token, another bucket, a part that is too small, a list of parts
//! that is not what came. A request that nothing of ours should make is answered 501.

use super::super::*;
use super::servers::runtime;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;

pub(super) const TOKEN: &str = "token-of-a-test";
pub(super) const BUCKET: &str = "bucket";
/// Keys on a page of a listing.
const PAGE: usize = 1000;
/// Bytes of each part but the last at least.
const PART_MIN: usize = 5 << 20;

struct Object {
    bytes: Bytes,
    generation: u64,
    modified: Timestamp,
}

#[derive(Default)]
struct Upload {
    name: String,
    /// By number: its tag and its bytes.
    parts: BTreeMap<u32, (String, Bytes)>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Counts up with every change.
    generation: u64,
    /// What requests said who they are, each once.
    bearers: BTreeSet<String>,
    /// Requests answered.
    requests: usize,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) runtime: Runtime,
    bucket: Arc<Mutex<Bucket>>,
    stopped: Arc<AtomicBool>,
}

impl Fake {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bucket, stopped) = (Arc::<Mutex<Bucket>>::default(), Arc::new(AtomicBool::new(false)));
        let (inside, seen) = (bucket.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), bucket) = (stream, inside.clone()) else { continue };
                std::thread::spawn(move || serve(stream, &bucket));
            }
        });
        Self { address, runtime: runtime(), bucket, stopped }
    }

    pub(super) fn store(&self, prefix: &str, more: &[(&str, &str)]) -> RemoteStore {
        self.store_in(BUCKET, prefix, more, &environment(TOKEN)).unwrap()
    }

    pub(super) fn store_in(
        &self,
        bucket: &str,
        prefix: &str,
        more: &[(&str, &str)],
        with: &Environment,
    ) -> Result<RemoteStore, StoreError> {
        let url = format!("gs://{bucket}/{prefix}").parse().unwrap();
        RemoteStore::open(&url, &options(self.address, more), with, self.runtime.handle())
    }

    /// Uploads in parts that were neither completed nor given up.
    pub(super) fn unfinished(&self) -> usize {
        self.bucket.lock().uploads.len()
    }

    pub(super) fn requests(&self) -> usize {
        self.bucket.lock().requests
    }

    /// What the requests said who they are.
    pub(super) fn bearers(&self) -> Vec<String> {
        self.bucket.lock().bearers.iter().cloned().collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

pub(super) fn environment(token: &str) -> Environment {
    Environment::from_pairs([("GOOGLE_BEARER_TOKEN", token)])
}

pub(super) fn options(address: SocketAddr, more: &[(&str, &str)]) -> StoreOptions {
    let endpoint = format!("http://{address}");
    let pairs = [("endpoint", endpoint.as_str()), ("allow_http", "true"), ("retry", "5")];
    StoreOptions::from_pairs(pairs.into_iter().chain(more.iter().copied())).unwrap()
}

/// Requests of one connection, one after the other.
fn serve(stream: TcpStream, bucket: &Mutex<Bucket>) {
    // Else each answer waits for an acknowledgement that the client delays by 40 ms.
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = respond(&request, bucket);
        let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status).into_bytes();
        // A head says how long the body would be.
        let length = answer.headers.iter().any(|(name, _)| *name == "Content-Length");
        if !length {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", answer.body.len()).as_bytes());
        }
        for (name, value) in &answer.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&answer.body);
        if reader.get_mut().write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let url = ::url::Url::parse(&format!("http://fake{target}")).unwrap();
    let query = url.query_pairs().into_owned().collect();
    Some(Request { method, path: decoded(url.path()), query, headers, body: body.into() })
}

/// A path without its percent signs.
fn decoded(path: &str) -> String {
    let as_query = format!("path={}", path.replace('+', "%2B"));
    ::url::form_urlencoded::parse(as_query.as_bytes()).next().unwrap().1.into_owned()
}

fn answer(status: &'static str, body: impl Into<Bytes>) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into() }
}

fn refusal(status: &'static str, code: &str) -> Answer {
    answer(
        status,
        format!(
            "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        ),
    )
}

fn respond(request: &Request, bucket: &Mutex<Bucket>) -> Answer {
    let mut bucket = bucket.lock();
    let bearer = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let bearer = bearer.unwrap_or_default();
    bucket.requests += 1;
    bucket.bearers.insert(bearer.to_owned());
    // The key of a service account signs tokens of three parts; the signature is not checked.
    let signed = bearer.starts_with("ey") && bearer.split('.').filter(|part| !part.is_empty()).count() == 3;
    if bearer != TOKEN && !signed {
        return refusal("401 Unauthorized", "AuthenticationRequired");
    }
    let path = request.path.trim_start_matches('/');
    let (named, object) = path.split_once('/').unwrap_or((path, ""));
    if named != BUCKET {
        return refusal("404 Not Found", "NoSuchBucket");
    }
    let has = |name: &str| request.query.contains_key(name);
    match (request.method.as_str(), object) {
        ("GET", "") if request.query.get("list-type").is_some_and(|kind| kind == "2") => {
            bucket.list(&request.query)
        }
        (_, "") => refusal("501 Not Implemented", "NotImplemented"),
        ("PUT", name) if has("partNumber") => bucket.put_part(name, request),
        ("PUT", name) if request.query.is_empty() => bucket.put(name, request),
        ("POST", name) if has("uploads") => bucket.begin(name),
        ("POST", name) if has("uploadId") => bucket.complete(name, request),
        ("DELETE", name) if has("uploadId") => bucket.give_up(name, &request.query["uploadId"]),
        ("DELETE", name) if request.query.is_empty() => match bucket.objects.remove(name) {
            Some(_) => answer("204 No Content", ""),
            None => refusal("404 Not Found", "NoSuchKey"),
        },
        ("GET" | "HEAD", name) if request.query.is_empty() => bucket.get(name, request),
        _ => refusal("501 Not Implemented", "NotImplemented"),
    }
}

impl Bucket {
    fn store(&mut self, name: &str, bytes: Bytes) -> Vec<(&'static str, String)> {
        self.generation += 1;
        let object = Object { bytes, generation: self.generation, modified: Timestamp::now() };
        let headers = object.headers();
        self.objects.insert(name.to_owned(), object);
        headers
    }

    fn put(&mut self, name: &str, request: &Request) -> Answer {
        if let Some(wanted) = request.headers.get("x-goog-if-generation-match") {
            let there = self.objects.get(name).map_or(0, |object| object.generation);
            if wanted.parse() != Ok(there) {
                return refusal("412 Precondition Failed", "PreconditionFailed");
            }
        }
        if !request.headers.contains_key("content-length") {
            return refusal("411 Length Required", "MissingContentLength");
        }
        let headers = self.store(name, request.body.clone());
        Answer { headers, ..answer("200 OK", "") }
    }

    fn get(&self, name: &str, request: &Request) -> Answer {
        let Some(object) = self.objects.get(name) else { return refusal("404 Not Found", "NoSuchKey") };
        let mut headers = object.headers();
        let size = object.bytes.len();
        let Some(range) = request.headers.get("range") else {
            if request.method == "HEAD" {
                headers.push(("Content-Length", size.to_string()));
                return Answer { headers, ..answer("200 OK", "") };
            }
            return Answer { headers, ..answer("200 OK", object.bytes.clone()) };
        };
        let (start, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = last.parse::<usize>().map_or(size, |last| size.min(last + 1));
        if start >= size {
            return refusal("416 Requested range not satisfiable", "InvalidRange");
        }
        headers.push(("Content-Range", format!("bytes {start}-{}/{size}", end - 1)));
        Answer { headers, ..answer("206 Partial Content", object.bytes.slice(start..end)) }
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let of = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, token) = (of("prefix"), of("continuation-token"));
        let mut keys =
            self.objects.iter().filter(|(name, _)| name.starts_with(prefix) && name.as_str() > token);
        let page: Vec<_> = keys.by_ref().take(PAGE).collect();
        let next = keys.next().and(page.last()).map(|(name, _)| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{name}</NextContinuationToken>")
        });
        let mut text = format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>\
             <Name>{BUCKET}</Name><Prefix>{prefix}</Prefix>{}",
            next.unwrap_or_else(|| "<IsTruncated>false</IsTruncated>".to_owned())
        );
        for (name, object) in page {
            let (generation, tag, size) = (object.generation, object.tag(), object.bytes.len());
            text += &format!(
                "<Contents><Key>{name}</Key><Generation>{generation}</Generation><MetaGeneration>1</MetaGeneration>\
                 <LastModified>{:.3}</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>",
                object.modified
            );
        }
        answer("200 OK", text + "</ListBucketResult>")
    }

    fn begin(&mut self, name: &str) -> Answer {
        self.generation += 1;
        let id = format!("upload-{}", self.generation);
        self.uploads.insert(id.clone(), Upload { name: name.to_owned(), parts: BTreeMap::new() });
        answer(
            "200 OK",
            format!(
                "<?xml version='1.0' encoding='UTF-8'?><InitiateMultipartUploadResult \
                 xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Bucket>{BUCKET}</Bucket><Key>{name}</Key>\
                 <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ),
        )
    }

    fn put_part(&mut self, name: &str, request: &Request) -> Answer {
        self.generation += 1;
        let tag = format!("\"part-{}\"", self.generation);
        let number: u32 = request.query["partNumber"].parse().unwrap();
        let upload = self.uploads.get_mut(&request.query["uploadId"]).filter(|upload| upload.name == name);
        let Some(upload) = upload else { return refusal("404 Not Found", "NoSuchUpload") };
        if !(1..=10_000).contains(&number) {
            return refusal("400 Bad Request", "InvalidArgument");
        }
        upload.parts.insert(number, (tag.clone(), request.body.clone()));
        Answer { headers: vec![("ETag", tag)], ..answer("200 OK", "") }
    }

    fn complete(&mut self, name: &str, request: &Request) -> Answer {
        let id = &request.query["uploadId"];
        let Some(upload) = self.uploads.get(id).filter(|upload| upload.name == name) else {
            return refusal("404 Not Found", "NoSuchUpload");
        };
        let text = String::from_utf8(request.body.to_vec()).unwrap();
        let element = |text: &str, name: &str| {
            let rest = text.split_once(&format!("<{name}>")).unwrap().1;
            rest.split_once(&format!("</{name}>")).unwrap().0.to_owned()
        };
        let listed: Vec<(u32, String)> = text
            .split("<Part>")
            .skip(1)
            .map(|part| (element(part, "PartNumber").parse().unwrap(), element(part, "ETag")))
            .collect();
        let came = upload.parts.iter().map(|(number, (tag, _))| (*number, tag.clone()));
        if listed.is_empty() || !came.eq(listed) {
            return refusal("400 Bad Request", "InvalidPart");
        }
        let whole: Vec<&Bytes> = upload.parts.values().map(|(_, bytes)| bytes).collect();
        if whole.iter().rev().skip(1).any(|part| part.len() < PART_MIN) {
            return refusal("400 Bad Request", "EntityTooSmall");
        }
        let bytes = whole.into_iter().fold(Vec::new(), |mut all, part| {
            all.extend_from_slice(part);
            all
        });
        self.uploads.remove(id);
        let headers = self.store(name, bytes.into());
        let tag = self.objects[name].tag();
        Answer {
            headers,
            ..answer(
                "200 OK",
                format!(
                    "<?xml version='1.0' encoding='UTF-8'?><CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket>\
                     <Key>{name}</Key><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
                ),
            )
        }
    }

    fn give_up(&mut self, name: &str, id: &str) -> Answer {
        match self.uploads.get(id).is_some_and(|upload| upload.name == name) {
            true => {
                self.uploads.remove(id);
                answer("204 No Content", "")
            }
            false => refusal("404 Not Found", "NoSuchUpload"),
        }
    }
}

impl Object {
    fn tag(&self) -> String {
        format!("\"tag-{}\"", self.generation)
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let modified = self.modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        vec![
            ("ETag", self.tag()),
            ("Last-Modified", modified),
            ("x-goog-generation", self.generation.to_string()),
        ]
    }
}
