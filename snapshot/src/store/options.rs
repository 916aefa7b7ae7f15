//! What a store is opened with besides its address: options kept with the repository, and the process's environment.
//!
//! Options are no secrets: they are stored and shown. Credentials come from the [`Environment`] alone, whose values are
//! never printed. An option nobody knows is refused: a typing error must not become an unlimited bandwidth.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Requests under way at once, unless said otherwise.
pub const CONNECTIONS_DEFAULT: usize = 16;
/// Requests under way at once at most.
pub const CONNECTIONS_MAX: usize = 1024;
/// How long a request is tried again, unless said otherwise.
pub const RETRY_DEFAULT: Duration = Duration::from_secs(180);
/// How long a request is tried again at most: it keeps its signature, which services take for a quarter of an hour.
pub const RETRY_MAX: Duration = Duration::from_secs(600);

/// Why an option was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No option has this name.
    #[error("no option is called {name:?}; known are {}", KNOWN.join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// The value is not of the option's form.
    #[error("{value:?} is no value for the option {name}: {expected}")]
    BadValue {
        /// The option.
        name: &'static str,
        /// The value.
        value: String,
        /// What would be one.
        expected: &'static str,
    },
}

const KNOWN: [&str; 6] = ["endpoint", "region", "allow_http", "bandwidth", "connections", "retry"];

/// Options of a store in the network. A directory has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// `endpoint`: where the service is, if not where the provider has it: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// `region`.
    pub region: Option<String>,
    /// `allow_http`: whether an endpoint without TLS may be used.
    pub allow_http: Option<bool>,
    /// `bandwidth`: bytes a second at most, up and down each; `None` for no limit.
    pub bandwidth: Option<u64>,
    /// `connections`: requests under way at once at most.
    pub connections: usize,
    /// `retry`: how long a request that fails in a way that may pass is tried again, in seconds.
    pub retry: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            allow_http: None,
            bandwidth: None,
            connections: CONNECTIONS_DEFAULT,
            retry: RETRY_DEFAULT,
        }
    }
}

impl StoreOptions {
    /// From names and values as a user typed them.
    ///
    /// # Errors
    /// An unknown name, or a value that is none.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for (name, value) in pairs {
            options.set(name, value)?;
        }
        Ok(options)
    }

    /// Sets one option.
    ///
    /// # Errors
    /// An unknown name, or a value that is none.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let bad = |name, expected| OptionError::BadValue { name, value: value.to_owned(), expected };
        match name {
            "endpoint" => {
                let expected = "an http:// or https:// URL without user and query";
                let url = url::Url::parse(value).map_err(|_| bad("endpoint", expected))?;
                let plain = matches!(url.scheme(), "http" | "https")
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none();
                if !plain {
                    return Err(bad("endpoint", expected));
                }
                self.endpoint = Some(value.trim_end_matches('/').to_owned());
            }
            "region" if !value.is_empty() => self.region = Some(value.to_owned()),
            "region" => return Err(bad("region", "the name of a region")),
            "allow_http" => {
                let parsed = value.parse().map_err(|_| bad("allow_http", "true or false"))?;
                self.allow_http = Some(parsed);
            }
            "bandwidth" => {
                let expected = "bytes a second, as 500K, 20M or 1G (powers of 1024), at least 16K";
                let rate = bytes(value).filter(|rate| *rate >= 16 << 10);
                self.bandwidth = Some(rate.ok_or_else(|| bad("bandwidth", expected))?);
            }
            "connections" => {
                let parsed = value.parse().ok().filter(|count| (1..=CONNECTIONS_MAX).contains(count));
                self.connections = parsed.ok_or_else(|| bad("connections", "a number from 1 to 1024"))?;
            }
            "retry" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds <= RETRY_MAX.as_secs());
                let seconds = seconds.ok_or_else(|| bad("retry", "seconds, 0 to 600"))?;
                self.retry = Duration::from_secs(seconds);
            }
            other => return Err(OptionError::Unknown { name: other.to_owned() }),
        }
        Ok(())
    }
}

/// A number with K, M or G behind it, each optionally with `iB` or `B`.
fn bytes(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at_checked(digits)?;
    let shift = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" if unit.contains('i') => return None,
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Environment variables, of the process or of a test. Values are never printed.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process that are text.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// Exactly these.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of a variable that is not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Names and values of those that begin with `prefix` and are not empty.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests;
