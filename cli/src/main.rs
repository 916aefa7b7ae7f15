//! The program around the library: a runtime, a TLS provider, an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers in one graph panic unless one is chosen; an Err says it was.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(cli::execute(std::env::args_os().collect()));
    // A thread may still wait for a key to be pressed.
    runtime.shutdown_background();
    ExitCode::from(exit.number())
}
