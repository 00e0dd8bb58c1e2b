//! What of the memory of a running service leaves it (S-79).

use std::fs;

use crate::command::Cli;
use crate::harness::wait_until;
use crate::serve::Served;

/// S-79: nothing of a service that is stopped by a fault is written to a file.
#[tokio::test]
async fn no_command_dumps_its_memory_s79() {
    let cli = Cli::new().with(
        "DATABASE_URL",
        "postgres://app:hidden@localhost/auth?host=/nowhere",
    );
    let served = Served::start(&cli).await;
    wait_until("it has begun", async || {
        served.get("/health/ready").await.0 == 503
    })
    .await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", served.process_id())).unwrap();
    let cores = limits
        .lines()
        .find(|line| line.contains("core file"))
        .unwrap();
    let words: Vec<&str> = cores.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{cores}");
}
