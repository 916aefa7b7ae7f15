//! Azure Blob Storage: which account, which credentials, which endpoint.
//!
//! Owns the names that other programs give to the same variables (`az`, restic), so that one file of them serves all.
//! Refused at once: no account, and an endpoint of its own without credentials. Everything else goes to the client of
//! `object_store`, which asks, in this order: a bearer token, the account's key, a workload identity, a client's secret,
//! a shared access signature, and last the instance's identity.

use super::{backend, bad_credentials, client_of, retry, settings};
use crate::store::cause::{Cause, failed};
use crate::store::options::{Environment, StoreOptions};
use crate::store::remote::http::Layer;
use crate::store::remote::service::Backend;
use crate::store::{StoreError, StoreErrorKind, StoreUrl};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

/// Variables of other programs, and what they set. Those that `object_store` knows by itself come after them and win.
const ALIASES: [(&str, AzureConfigKey); 5] = [
    ("AZURE_ACCOUNT_NAME", AzureConfigKey::AccountName),
    ("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName),
    ("AZURE_ACCOUNT_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ("AZURE_ACCOUNT_SAS", AzureConfigKey::SasKey),
];
/// What says that the instance's own identity is meant.
const IDENTITY: [&str; 5] = [
    "IDENTITY_ENDPOINT",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_MSI_ENDPOINT",
    "AZURE_OBJECT_ID",
    "AZURE_MSI_RESOURCE_ID",
];
/// What a setting can be that says where credentials come from.
const CREDENTIALS: [AzureConfigKey; 8] = [
    AzureConfigKey::AccessKey,
    AzureConfigKey::SasKey,
    AzureConfigKey::Token,
    AzureConfigKey::ClientId,
    AzureConfigKey::UseAzureCli,
    AzureConfigKey::CredentialType,
    AzureConfigKey::SkipSignature,
    AzureConfigKey::FabricSessionToken,
];
const NO_ACCOUNT: &str =
    "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN";
const NO_CREDENTIALS: &str =
    "set AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or a client's id, secret and tenant";

pub(super) fn azure(
    url: &StoreUrl,
    container: &str,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<Backend, StoreError> {
    let none = |wanted| {
        failed("open", &url.to_string(), StoreErrorKind::NotPermitted, Cause::NoCredentials { wanted })
    };
    let aliases = ALIASES.iter().filter_map(|(name, key)| Some((*key, environment.get(name)?)));
    let known: Vec<(AzureConfigKey, &str)> =
        aliases.chain(settings(environment, "AZURE_")).filter(|(key, _)| is_ours(key)).collect();
    let set = |wanted: &AzureConfigKey| {
        known.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| (*value).to_owned())
    };
    let account = set(&AzureConfigKey::AccountName).ok_or_else(|| none(NO_ACCOUNT))?;
    let endpoint = options.endpoint.clone().or_else(|| set(&AzureConfigKey::Endpoint));
    let suffix = environment.get("AZURE_ENDPOINT_SUFFIX");
    let has_credentials = CREDENTIALS.iter().any(|key| set(key).is_some())
        || IDENTITY.iter().any(|name| environment.get(name).is_some());
    if endpoint.is_some() && !has_credentials {
        return Err(none(NO_CREDENTIALS));
    }
    let endpoint = endpoint.or_else(|| suffix.map(|suffix| format!("https://{account}.blob.{suffix}")));

    let (client, allow_http) = client_of(url, options, endpoint.as_deref(), environment, "AZURE_ALLOW_HTTP")?;
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(client);
    for (key, value) in known {
        builder = builder.with_config(key, value);
    }
    if let Some(identity) = environment.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(identity);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let built = builder
        .with_container_name(container)
        .with_allow_http(allow_http)
        .with_retry(retry(options))
        .with_http_connector(Layer)
        .build();
    backend(url, built).map_err(bad_credentials)
}

/// Not what would send requests past the endpoint that was checked.
fn is_ours(key: &AzureConfigKey) -> bool {
    !matches!(key, AzureConfigKey::UseEmulator | AzureConfigKey::ContainerName)
}
