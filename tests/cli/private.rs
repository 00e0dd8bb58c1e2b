//! Commands without any setting: on the private cluster of a service that runs, or on one of their own.

use crate::client::PASSWORD;
use crate::command::Cli;
use crate::serve::Served;

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
