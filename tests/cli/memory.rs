//! What of the memory of a running service leaves it (S-79).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::UNVERIFIED;
use crate::command::Cli;
use crate::harness::{TestApp, wait_until};
use crate::kek::vault;
use crate::place::beside;
use crate::serve::Served;

const PAGE: usize = 4096;
/// Read at a time.
const PART: usize = 256 * PAGE;

/// How often each of these words stands in the memory that a process may write to.
fn count(process: u32, wanted: &[&[u8]]) -> Vec<usize> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut found = vec![0; wanted.len()];
    let mut part = vec![0; PART];
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (begin, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        // Parts overlap by more than what is looked for.
        for at in (begin..end).step_by(PART - PAGE) {
            let length = PART.min(usize::try_from(end - at).unwrap());
            // Some of it was never used, and goes away at any time.
            let Ok(read) = memory.read_at(&mut part[..length], at) else {
                continue;
            };
            let new = read.min(PART - PAGE);
            for (number, page) in part[..new].chunks(PAGE).enumerate() {
                // Most pages are empty; the rest of the word may be on the next one.
                if page.iter().step_by(8).all(|byte| *byte == 0)
                    && page.iter().all(|byte| *byte == 0)
                {
                    continue;
                }
                let begin = number * PAGE;
                let reach = read.min(begin + PAGE + 64);
                for (word, found) in wanted.iter().zip(&mut found) {
                    let within = &part[begin..reach.min(begin + page.len() + word.len() - 1)];
                    *found += within
                        .windows(word.len())
                        .filter(|part| part == word)
                        .count();
                }
            }
        }
    }
    found
}

/// S-79: keys of vaults are gone from the memory of a service once they were given out, in the two forms that they have
/// there. What has to stay there is found, so the search is able to. Whoever is not root is not let in.
#[tokio::test]
async fn keys_that_were_given_out_are_not_left_in_memory_s79() {
    let kek = [0x5a; 32].map(|byte: u8| byte ^ 0x0f);
    let kek_text = STANDARD.encode(kek);
    let settings = [UNVERIFIED, ("MANA_AUTH_KEK", kek_text.as_str())];
    let app = TestApp::start(&settings).await;
    let cli = beside(&app).with("MANA_AUTH_KEK", &kek_text);
    let served = Served::start(&cli).await;
    served.wait_until_ready().await;
    let ada = app.signed_in("lovelace").await;
    let mut keys = BTreeSet::new();
    for (method, path) in [("POST", "/init"), ("POST", "/rotate"), ("GET", "/key")] {
        let given = vault(served.base(), &app, &ada, method, path).await;
        keys.insert(given["masterKey"].as_str().unwrap().to_owned());
    }
    let process = served.process_id();
    if !mana_auth::process::is_root() {
        let refused = File::open(format!("/proc/{process}/mem")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        return;
    }
    let raw: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| STANDARD.decode(key).unwrap())
        .collect();
    let mut wanted: Vec<&[u8]> = vec![&kek];
    wanted.extend(raw.iter().map(Vec::as_slice));
    wanted.extend(keys.iter().map(String::as_bytes));
    wait_until("the answers are sent and wiped", async || {
        let found = count(process, &wanted);
        assert!(found[0] > 0, "the key-encryption key is there");
        found[1..].iter().all(|times| *times == 0)
    })
    .await;
}

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
