//! `mana-auth health`: whether the service on this machine serves, for the health checks of containers.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::Config;

/// A service that does not answer in time does not serve.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nothing to choose: the port is the configured one.
#[derive(Args)]
pub struct Arguments {}

/// Asks the service on this machine whether it is ready; exit code 1 if it is not.
pub async fn run(_: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let host = if config.host.is_unspecified() {
        "127.0.0.1".to_owned()
    } else if config.host.is_ipv6() {
        format!("[{}]", config.host)
    } else {
        config.host.to_string()
    };
    let url = format!("http://{host}:{}/health/ready", config.port);
    // The client wants to know whose cryptography it would use, although nothing here is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()?;
    let answer = match client.get(url).send().await {
        Ok(answer) => answer,
        Err(error) => anyhow::bail!("the service does not answer: {}", error.without_url()),
    };
    let ready = answer.status().is_success();
    println!("{}", answer.text().await?);
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
