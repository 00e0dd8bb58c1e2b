//! Commands without any setting: on the private cluster of a service that runs, or on one of their own.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::client::PASSWORD;
use crate::command::Cli;
use crate::serve::Served;

#[tokio::test]
async fn a_service_ends_with_its_cluster() {
    let cli = Cli::new();
    let service = Served::start(&cli).await;
    service.wait_until_ready().await;
    let lock = Path::new(cli.setting("MANA_AUTH_DATA_DIR")).join("postgres/postmaster.pid");
    let lock = std::fs::read_to_string(lock).unwrap();
    let postmaster = lock.lines().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(postmaster).unwrap(), Signal::KILL).unwrap();
    let said = service.ends().await;
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("the private PostgreSQL ended by itself"),
        "{}",
        said.err
    );
    let again = Served::start(&cli).await;
    again.wait_until_ready().await;
    again.stop().await;
}

#[tokio::test]
async fn a_command_uses_the_cluster_of_the_service_or_starts_it_for_itself() {
    let cli = Cli::new();
    let create = |email| ["user", "create", email, "--password-stdin"];
    // Nothing is there: the command makes the cluster, and stops it in the end.
    cli.run_reading(&create("lovelace@example.com"), PASSWORD)
        .await
        .well();
    let service = Served::start(&cli).await;
    service.wait_until_ready().await;
    cli.run_reading(&create("hopper@example.com"), PASSWORD)
        .await
        .well();
    let complaint = cli.with("PORT", "0").run(&["serve"]).await;
    assert_eq!(
        complaint.code, 1,
        "two services on one cluster: {}",
        complaint.err
    );
    service.stop().await;
    let said = cli.run(&["doctor"]).await.well();
    assert!(
        said.contains("ok      claims and people belong together: 2 checked\n"),
        "{said}"
    );
}
