//! Outbound webhook delivery: see `ringback --help`.

use std::process::ExitCode;

use clap::Parser;
use ringback::{cli, exit, logging};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    logging::start();
    // One provider for the whole process; a second `install` is the only way to fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if exit::is_quiet(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::code(&error))
        }
    }
}
