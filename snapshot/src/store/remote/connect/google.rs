//! Google Cloud Storage: which credentials, which endpoint.
//!
//! Credentials are, in this order: a bearer token, the key of a service account, the application default credentials (a
//! file that a variable names, else where `gcloud` writes it), and last the instance's own account. Refused at once: an
//! endpoint of its own with none of them. Files are looked for by the given environment, not by the process's.

use super::{backend, bad_credentials, client_of, retry, settings};
use crate::store::cause::{Cause, failed};
use crate::store::options::{Environment, StoreOptions};
use crate::store::remote::http::Layer;
use crate::store::remote::service::Backend;
use crate::store::{StoreError, StoreErrorKind, StoreUrl};
use object_store::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use std::path::Path;

/// Variables of other programs, and what they set.
const ALIASES: [(&str, GoogleConfigKey); 2] = [
    ("GOOGLE_ACCESS_TOKEN", GoogleConfigKey::BearerToken),
    ("SERVICE_ACCOUNT", GoogleConfigKey::ServiceAccount),
];
/// What a setting can be that says where credentials come from.
const CREDENTIALS: [GoogleConfigKey; 4] = [
    GoogleConfigKey::BearerToken,
    GoogleConfigKey::ServiceAccount,
    GoogleConfigKey::ServiceAccountKey,
    GoogleConfigKey::ApplicationCredentials,
];
/// What says that the instance's own account is meant.
const IDENTITY: [&str; 3] = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"];
/// Where `gcloud auth application-default login` writes, below the home directory.
const DEFAULT_FILE: &str = ".config/gcloud/application_default_credentials.json";
const NO_CREDENTIALS: &str =
    "set GOOGLE_APPLICATION_CREDENTIALS to the file with the key of a service account";

pub(super) fn gcs(
    url: &StoreUrl,
    bucket: &str,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<Backend, StoreError> {
    let aliases = ALIASES.iter().filter_map(|(name, key)| Some((*key, environment.get(name)?)));
    let mut known: Vec<(GoogleConfigKey, String)> = aliases
        .chain(settings(environment, "GOOGLE_"))
        .filter(|(key, _)| is_ours(key))
        .map(|(key, value)| (key, value.to_owned()))
        .collect();
    if !known.iter().any(|(key, _)| CREDENTIALS.contains(key))
        && let Some(file) = default_file(environment)
    {
        known.push((GoogleConfigKey::ApplicationCredentials, file));
    }
    let has_credentials = known.iter().any(|(key, _)| CREDENTIALS.contains(key))
        || IDENTITY.iter().any(|name| environment.get(name).is_some());
    let set = |wanted| known.iter().rev().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone());
    let endpoint = options.endpoint.clone().or_else(|| set(GoogleConfigKey::BaseUrl));
    if endpoint.is_some() && !has_credentials {
        let cause = Cause::NoCredentials { wanted: NO_CREDENTIALS };
        return Err(failed("open", &url.to_string(), StoreErrorKind::NotPermitted, cause));
    }

    let (client, _) = client_of(url, options, endpoint.as_deref(), environment, "GOOGLE_ALLOW_HTTP")?;
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(client);
    for (key, value) in known {
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
    }
    let built =
        builder.with_bucket_name(bucket).with_retry(retry(options)).with_http_connector(Layer).build();
    backend(url, built).map_err(bad_credentials)
}

fn default_file(environment: &Environment) -> Option<String> {
    let file = Path::new(environment.get("HOME")?).join(DEFAULT_FILE);
    file.exists().then(|| file.to_str().map(str::to_owned)).flatten()
}

/// Not what was decided before the settings are looked at.
fn is_ours(key: &GoogleConfigKey) -> bool {
    let decided = [GoogleConfigKey::Bucket, GoogleConfigKey::Client(ClientConfigKey::AllowHttp)];
    !decided.contains(key)
}
