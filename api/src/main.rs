//! `rewindd`: options, logging, signals. Everything else is in the library.

use anyhow::Context;
use api::config::Options;
use api::daemon::Daemon;
use api::engine::EngineError;
use api::notify::{READY, STOPPING, notify, reloading};
use api::wiring::ProductWiring;
use clap::{Parser, ValueEnum};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The daemon of Rewind: captures changes on a master, journals and applies them on a replica, serves restorectl.
#[derive(Parser)]
#[command(name = "rewindd", version)]
struct Args {
    /// Master and replica in one process, with defaults for everything else
    #[arg(long, requires = "data", conflicts_with = "config", required_unless_present = "config")]
    standalone: bool,
    /// Directory of journals, projections and socket
    #[arg(long, value_name = "DIR", requires = "standalone")]
    data: Option<PathBuf>,
    /// Also listen on this TCP address; loopback only, for want of certificates
    #[arg(long, value_name = "ADDR", requires = "standalone")]
    listen: Option<SocketAddr>,
    /// Configuration file, documented in config.example.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the configuration and the certificates it names, and exit
    #[arg(long, requires = "config")]
    check: bool,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    // Before the first thread.
    sys::limit_heap();
    raise_open_files();
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(report(&error)),
    }
}

/// Recovery and removal hold directories open as they go, and what they meet may be deep or much: the soft limit of
/// 1,024 is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // It works with what it has, then.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Shows an error as restorectl would and says what to exit with.
fn report(error: &anyhow::Error) -> u8 {
    let Some(engine) = error.downcast_ref::<EngineError>() else {
        eprintln!("error: {error:#}");
        return 1;
    };
    let failure = engine.to_failure();
    eprintln!("error[{}]: {}", failure.code, failure.message);
    eprintln!("  reason: {}", failure.reason);
    eprintln!("  action: {}", failure.action);
    failure.exit.number()
}

fn options(args: &Args) -> anyhow::Result<Options> {
    if let Some(path) = &args.config {
        return Ok(Options::read(path)?);
    }
    let data = args.data.clone().context("--data is missing")?;
    let data = std::path::absolute(&data).with_context(|| format!("find {}", data.display()))?;
    Ok(Options::standalone(data, args.listen))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let options = options(args)?;
    // Two providers in one graph panic unless one is chosen; an Err says it was.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    if args.check {
        if let Some(files) = &options.tls {
            api::listen::server_config(files)?;
        }
        if let Some(replica) = options.master.as_ref().and_then(|master| master.replica.as_ref()) {
            api::master::check(replica)?;
        }
        println!("configuration is valid");
        return Ok(());
    }
    let log = start_log(args.log_format, &options.log);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(serve(options, args.config.as_deref(), log));
    // A thread that still blocks must not hold up the end: the next start copes with it as with a crash.
    runtime.shutdown_background();
    result
}

type LogHandle = reload::Handle<EnvFilter, Registry>;

/// `RUST_LOG` wins over the configuration; a filter that makes no sense is the default.
fn log_filter(configured: &str) -> EnvFilter {
    EnvFilter::try_from_default_env()
        // The tables say much about themselves that concerns nobody; what is configured comes later and wins.
        .or_else(|_| EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{configured}")))
        .unwrap_or_else(|_| EnvFilter::new("info"))
}

fn start_log(format: LogFormat, configured: &str) -> LogHandle {
    let (filter, handle) = reload::Layer::new(log_filter(configured));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(std::io::stderr)).init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
    handle
}

async fn serve(options: Options, config: Option<&Path>, log: LogHandle) -> anyhow::Result<()> {
    // Before anything that takes time: a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("handle SIGHUP")?;
    let mut daemon = Daemon::start(options, Arc::new(ProductWiring)).await?;
    tracing::info!("{}", daemon.ready_line());
    // Nobody may be reading; the daemon serves all the same.
    let mut stdout = std::io::stdout();
    drop(writeln!(stdout, "{}", daemon.ready_line()).and_then(|()| stdout.flush()));
    notify(READY);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                notify(&reloading());
                reload_all(&daemon, config, &log);
                notify(READY);
            }
            error = daemon.failed() => return Err(error.into()),
        }
    }
    tracing::info!("stopping");
    notify(STOPPING);
    daemon.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// A configuration that cannot be used changes nothing: a daemon that works is worth more than a new certificate.
fn reload_all(daemon: &Daemon, config: Option<&Path>, log: &LogHandle) {
    let Some(path) = config else { return };
    let reloaded = Options::read(path).and_then(|options| {
        daemon.reload(&options)?;
        Ok(options)
    });
    match reloaded {
        Ok(options) => {
            drop(log.reload(log_filter(&options.log)));
            tracing::info!("read certificates, operators, masters and log level again");
        }
        Err(error) => tracing::error!(error = %error.to_failure(), "the configuration stays as it was"),
    }
}
