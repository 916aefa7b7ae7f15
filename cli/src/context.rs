//! What a verb works with: the daemon, the time it may take, and where output goes.

use crate::args::Global;
use crate::output::Output;
use std::future::Future;
use std::time::Duration;
use tokio::sync::OnceCell;
use tonic::{Response, Status, Streaming};
use wire::{Client, Endpoint, Failure, TlsFiles, codes, v1};

/// How long a call may take unless `--timeout` says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(180);
/// The daemon notices the end of a barrier's time itself and says it better; it is given this much more.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);

/// What a verb works with.
pub struct Context {
    endpoint: Endpoint,
    tls: TlsFiles,
    timeout: Option<Duration>,
    /// Where output goes.
    pub out: Output,
    client: OnceCell<Client>,
}

impl Context {
    /// From the global options.
    ///
    /// # Errors
    /// None now; options that exclude one another would be one.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let tls = TlsFiles { ca: global.ca.clone(), cert: global.cert.clone(), key: global.key.clone() };
        Ok(Context {
            endpoint: global.endpoint.clone().unwrap_or_else(Endpoint::local),
            tls,
            timeout: global.timeout,
            out: Output::new(global),
            client: OnceCell::new(),
        })
    }

    /// The daemon; connects when it is first needed.
    ///
    /// # Errors
    /// Those of [`Client::connect`].
    pub async fn client(&self) -> Result<Client, Failure> {
        let connect = || async {
            self.out.detail(&format!("connecting to {}", self.endpoint));
            Client::connect(&self.endpoint, &self.tls).await
        };
        self.client.get_or_try_init(connect).await.cloned()
    }

    /// How long a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    /// How long a job may take, if the user said so.
    #[must_use]
    pub fn job_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Waits for an answer, as long as it may take.
    ///
    /// # Errors
    /// The daemon's, or `TIMED_OUT`.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout() + TIMEOUT_GRACE, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// The next item of a stream, waited for as long as a call may take.
    ///
    /// # Errors
    /// The daemon's, or `TIMED_OUT`.
    pub async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        match tokio::time::timeout(self.timeout() + TIMEOUT_GRACE, stream.message()).await {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => Err(self.timed_out()),
        }
    }

    fn timed_out(&self) -> Failure {
        let limit = wire::units::format_duration(self.timeout());
        Failure::new(&codes::TIMED_OUT, format!("no answer within {limit}"))
    }

    /// The scenario named, or the only one there is.
    ///
    /// # Errors
    /// `WHICH_SCENARIO` where there is none or more than one.
    pub async fn scenario_or_only(&self, name: Option<String>) -> Result<String, Failure> {
        if let Some(name) = name {
            return Ok(name);
        }
        let mut client = self.client().await?;
        let mut stream = self.call(client.scenarios.list(v1::ListScenariosRequest {})).await?;
        let mut names = Vec::new();
        while let Some(scenario) = self.next(&mut stream).await? {
            names.push(scenario.definition.unwrap_or_default().name);
        }
        match <[String; 1]>::try_from(names) {
            Ok([only]) => Ok(only),
            Err(names) if names.is_empty() => {
                Err(Failure::new(&codes::NO_SUCH_SCENARIO, "there is no scenario"))
            }
            Err(names) => {
                let message = format!("there are {}: {}", names.len(), names.join(", "));
                Err(Failure::new(&codes::WHICH_SCENARIO, message))
            }
        }
    }
}
