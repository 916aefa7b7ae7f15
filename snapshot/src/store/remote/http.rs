//! A layer between `object_store` and its HTTP client: what can only be done where single requests are seen.
//!
//! - *Time.* A request has to be answered within a minute, and the time its body takes at the slowest rate we put up
//!   with; one limit for all would cut off large parts on a slow line or wait for ages for a dead server. (That the
//!   body of an answer goes on coming is watched where it is read.)
//! - *Reasons.* `object_store` tells most refusals as one generic error that cannot be looked into. Here an answer that
//!   refuses becomes an [`Answer`] in the error's chain, marked so that `object_store` tries again exactly what may
//!   pass: 408, 429 and 5xx.
//! - *Removals of Azure.* `object_store` sends each as a batch of one, whose answer is a success that has the real answer
//!   as a part; a refusal in there is taken out and treated as any other.
//! - *Size.* Bodies of refusals and of listings are read by `object_store` as a whole, whatever their length; here
//!   they are cut off at a limit. (Bodies of objects are counted where they are read.)

use crate::store::StoreErrorKind;
use bytes::{Bytes, BytesMut};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use std::pin::Pin;
use std::time::Duration;
use tokio_stream::StreamExt;

/// How long the beginning of an answer may take, after the body was sent.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Bytes a second that sending a body takes at the slowest.
const SLOWEST: u64 = 64 << 10;
/// Bytes of a refusal that are read at most.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a page of a listing that are read at most; a thousand long names are less than a tenth of it.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Where Azure has the code of a refusal.
const CODE_HEADER: &str = "x-ms-error-code";
/// Code of a refusal of an upload in parts that was completed or given up before.
const NO_UPLOAD: &str = "NoSuchUpload";
/// Characters of the server's own words that are kept.
const MESSAGE_MAX: usize = 300;

/// An answer that refuses.
#[derive(Debug, thiserror::Error)]
#[error("the server answers {status} {code} {message}")]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The code in the body; empty if it has none.
    pub code: String,
    /// The message in the body; empty if it has none.
    pub message: String,
}

/// No answer within its time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {waited:?}")]
struct NoAnswer {
    waited: Duration,
}

/// A body longer than it may be.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {limit} bytes")]
struct TooLong {
    limit: usize,
}

impl Answer {
    fn new(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        Self { status, code: element(&body, "Code"), message: element(&body, "Message") }
    }

    /// Azure has the code in a header too, where there is no body: in answers to a question for a size.
    fn or_code(mut self, header: Option<&[u8]>) -> Self {
        if self.code.is_empty() {
            self.code = cleaned(&String::from_utf8_lossy(header.unwrap_or_default()));
        }
        self
    }

    /// Whether what is not found is an upload in parts, neither an object nor a bucket: a completion whose answer was lost
    /// has been sent again, or somebody gave the upload up.
    pub(crate) fn is_no_upload(&self) -> bool {
        (self.status, self.code.as_str()) == (404, NO_UPLOAD)
    }

    /// What kind of failure it is.
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match (self.status, self.code.as_str()) {
            (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "StorageFull") => {
                StoreErrorKind::Full
            }
            (404, "NoSuchBucket" | "ContainerNotFound") => StoreErrorKind::NoBucket,
            (401 | 403, _)
            // Kept from being removed or replaced until a time.
            | (409, "BlobImmutableDueToPolicy")
            | (
                400,
                "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidAccessKeyId"
                | "AuthorizationHeaderMalformed",
            ) => StoreErrorKind::NotPermitted,
            (408 | 429 | 500..=599, _) => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Other,
        }
    }
}

/// The text of an XML element without attributes.
fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let text = body.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    let text = text.map_or("", |(text, _)| text);
    cleaned(text)
}

/// Words of a server, shortened, control characters replaced.
fn cleaned(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Makes HTTP clients that have the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer;

impl HttpConnector for Layer {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { inner }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
}

impl HttpService for Service {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.execute(request))
    }
}

impl Service {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let length = request.body().content_length() as u64;
        let asks = |wanted: &[&str]| {
            let query = request.uri().query().unwrap_or_default();
            query.split('&').any(|pair| wanted.contains(&pair))
        };
        let (is_listing, is_batch) = (asks(&["list-type=2", "comp=list"]), asks(&["comp=batch"]));
        let waited = ANSWER_WITHIN + Duration::from_secs(length / SLOWEST);
        let response = tokio::time::timeout(waited, self.inner.execute(request))
            .await
            .map_err(|_| HttpError::new(HttpErrorKind::Timeout, NoAnswer { waited }))??;
        let status = response.status().as_u16();
        match status {
            200..=299 if is_batch => {
                let (response, body) = read_body(response, REFUSAL_BYTES_MAX).await?;
                match refused_part(&body) {
                    Some(answer) => refuse(response, answer, false),
                    None => Ok(response),
                }
            }
            200..=299 if !is_listing => Ok(response),
            304 => Ok(response),
            200..=299 => read_body(response, PAGE_BYTES_MAX).await.map(|(response, _)| response),
            _ => {
                let (response, body) = read_body(response, REFUSAL_BYTES_MAX).await?;
                let header = response.headers().get(CODE_HEADER).map(|value| value.as_bytes());
                let answer = Answer::new(status, &body).or_code(header);
                refuse(response, answer, is_listing)
            }
        }
    }
}

/// The refusal in the answer to a batch of one request: headers of the part, a status line, headers, a body.
fn refused_part(body: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(body);
    let (_, part) = text.split_once("HTTP/1.1 ")?;
    let status = part.get(..3)?.parse().ok()?;
    let header = part.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(CODE_HEADER).then(|| value.trim())
    });
    let answer = Answer::new(status, part.as_bytes()).or_code(header.map(str::as_bytes));
    (!(200..300).contains(&status)).then_some(answer)
}

/// Which refusals `object_store` has to see itself (they have a meaning for some of its calls), and which it is told.
fn refuse(response: HttpResponse, answer: Answer, is_listing: bool) -> Result<HttpResponse, HttpError> {
    let kind = answer.kind();
    let is_told_here = is_listing || answer.is_no_upload() || kind != StoreErrorKind::Other;
    match answer.status {
        404 | 409 | 412 if !is_told_here => Ok(response),
        // `Request` is tried again, `Unknown` is not.
        _ if kind == StoreErrorKind::Unavailable => Err(HttpError::new(HttpErrorKind::Request, answer)),
        _ => Err(HttpError::new(HttpErrorKind::Unknown, answer)),
    }
}

/// Reads a whole body of at most `limit` bytes; the answer is as before.
async fn read_body(response: HttpResponse, limit: usize) -> Result<(HttpResponse, Bytes), HttpError> {
    let (parts, body) = response.into_parts();
    let mut stream = body.bytes_stream();
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if bytes.len() + chunk.len() > limit {
                return Err(HttpError::new(HttpErrorKind::Decode, TooLong { limit }));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let waited = ANSWER_WITHIN;
    tokio::time::timeout(waited, read)
        .await
        .map_err(|_| HttpError::new(HttpErrorKind::Timeout, NoAnswer { waited }))??;
    let bytes = bytes.freeze();
    Ok((HttpResponse::from_parts(parts, HttpResponseBody::from(bytes.clone())), bytes))
}

#[cfg(test)]
mod tests;
