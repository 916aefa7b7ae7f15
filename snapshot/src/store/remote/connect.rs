//! Clients of the services: which credentials, which endpoint.
//!
//! An option kept with the repository decides before a variable, a variable before a file. The credentials files of S3
//! are read only if no variable says where credentials come from. With an endpoint of its own and no credentials a store
//! is refused at once: the metadata service of a cloud, which is asked last, has none for it, and asking where there is
//! none takes minutes. S3 is here, [`azure`] and [`google`] have files of their own.

mod azure;
mod google;

use super::http::Layer;
use super::service::{Backend, failed_call};
use crate::store::cause::{Cause, failed};
use crate::store::options::{Environment, StoreOptions};
use crate::store::profile::{self, Profile};
use crate::store::{StoreError, StoreErrorKind, StoreUrl};
use object_store::aws::AmazonS3Builder;
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Variables that say where S3 credentials come from.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
/// Variables that say where S3 is, the strongest first.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
const NO_CREDENTIALS: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to the shared credentials file";

/// A client of the service that the address names. Nothing is asked of it yet.
pub(super) fn connect(
    url: &StoreUrl,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<(Backend, String), StoreError> {
    let (backend, prefix) = match url {
        StoreUrl::S3 { bucket, prefix } => (s3(url, bucket, options, environment)?, prefix),
        StoreUrl::Azure { container, prefix } => {
            (azure::azure(url, container, options, environment)?, prefix)
        }
        StoreUrl::Gcs { bucket, prefix } => (google::gcs(url, bucket, options, environment)?, prefix),
        StoreUrl::Directory(_) | StoreUrl::Tape(_) | StoreUrl::Memory => {
            let cause = Cause::NotInTheNetwork;
            return Err(failed("open", &url.to_string(), StoreErrorKind::Other, cause));
        }
    };
    Ok((backend, prefix.clone()))
}

fn s3(
    url: &StoreUrl,
    bucket: &str,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<Backend, StoreError> {
    let refuse = |kind, cause: Cause| failed("open", &url.to_string(), kind, cause);
    let profile = if CREDENTIALS.iter().any(|name| environment.get(name).is_some()) {
        Profile::default()
    } else {
        profile::read(environment)
            .map_err(|error| failed("open", &url.to_string(), StoreErrorKind::NotPermitted, error))?
    };
    let endpoint = options
        .endpoint
        .clone()
        .or_else(|| ENDPOINTS.iter().find_map(|name| environment.get(name)).map(str::to_owned))
        .or(profile.endpoint);
    let allow_http = allows_http(url, options, endpoint.as_deref(), environment, "AWS_ALLOW_HTTP")?;
    let unsigned = environment.get("AWS_SKIP_SIGNATURE").is_some_and(|value| value != "false");
    let none = profile.keys.is_none() && !CREDENTIALS.iter().any(|name| environment.get(name).is_some());
    if endpoint.is_some() && none && !unsigned {
        return Err(refuse(StoreErrorKind::NotPermitted, Cause::NoCredentials { wanted: NO_CREDENTIALS }));
    }

    let mut builder = AmazonS3Builder::new()
        .with_client_options(client_options(options, allow_http))
        // Some services do not know how to remove several objects in one request.
        .with_disable_bulk_delete(true);
    if let Some((id, secret)) = profile.keys {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    if let Some(token) = profile.token {
        builder = builder.with_token(token);
    }
    if let Some(region) = profile.region {
        builder = builder.with_region(region);
    }
    for (name, value) in environment.with_prefix("AWS_") {
        match name.to_ascii_lowercase().parse() {
            Ok(key) if !ENDPOINTS.contains(&name) => builder = builder.with_config(key, value),
            _ => {}
        }
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_allow_http(allow_http)
        .with_retry(retry(options))
        .with_http_connector(Layer)
        .build();
    backend(url, built)
}

/// What was built, as both of the things that are wanted of it.
fn backend<S: ObjectStore + PaginatedListStore>(
    url: &StoreUrl,
    built: object_store::Result<S>,
) -> Result<Backend, StoreError> {
    let store = Arc::new(built.map_err(|error| failed_call("open", &url.to_string(), error))?);
    Ok(Backend { objects: store.clone(), pages: store })
}

/// What the clients of Azure and Google refuse when they are built: the endpoint was looked at before, so what is left to
/// be wrong is what says who asks.
fn bad_credentials(error: StoreError) -> StoreError {
    StoreError { kind: StoreErrorKind::NotPermitted, ..error }
}

/// The client of a service at an endpoint, if that may be used; and whether without TLS.
fn client_of(
    url: &StoreUrl,
    options: &StoreOptions,
    endpoint: Option<&str>,
    environment: &Environment,
    variable: &'static str,
) -> Result<(ClientOptions, bool), StoreError> {
    let allow_http = allows_http(url, options, endpoint, environment, variable)?;
    Ok((client_options(options, allow_http), allow_http))
}

/// Variables with a prefix that the service's client knows, as settings.
fn settings<'e, K: FromStr>(
    environment: &'e Environment,
    prefix: &'e str,
) -> impl Iterator<Item = (K, &'e str)> {
    let known = |(name, value): (&'e str, &'e str)| Some((name.to_ascii_lowercase().parse().ok()?, value));
    environment.with_prefix(prefix).filter_map(known)
}

/// Whether requests may go without TLS; refused if the endpoint is one without it and nobody allowed that.
fn allows_http(
    url: &StoreUrl,
    options: &StoreOptions,
    endpoint: Option<&str>,
    environment: &Environment,
    variable: &'static str,
) -> Result<bool, StoreError> {
    let said = environment.get(variable).is_some_and(|value| matches!(value, "true" | "1" | "yes" | "on"));
    let allow_http = options.allow_http.unwrap_or(said);
    match endpoint {
        Some(endpoint) if !allow_http && !endpoint.starts_with("https://") => {
            let cause = Cause::PlainHttp { endpoint: endpoint.to_owned(), variable };
            Err(failed("open", &url.to_string(), StoreErrorKind::Unencrypted, cause))
        }
        _ => Ok(allow_http),
    }
}

/// No limit of the client's own to the whole of a request: [`super::http`] has one that grows with the body.
fn client_options(options: &StoreOptions, allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_WITHIN)
        .with_pool_max_idle_per_host(options.connections)
        .with_allow_http(allow_http)
}

/// Time decides when to stop, not a number of attempts.
fn retry(options: &StoreOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2.0 },
        max_retries: if options.retry.is_zero() { 0 } else { usize::MAX },
        retry_timeout: options.retry,
    }
}
