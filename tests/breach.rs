//! S-06 from outside: the command that makes the filter, and a service that is given a bad one.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mana_auth::app::{self, Parts};
use mana_auth::clock::Clock;
use mana_auth::config::Config;
use mana_auth::crypto::password::breach::BreachFilter;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;

/// SHA-1 of `password` and of `123456`, as public lists have them.
const LIST: &str = "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:10434004\r\n\
                    7c4a8d09ca3762af61e59520943dc26494f8941b\n";

/// Runs `mana-auth breach build` with a list on standard input.
fn build(arguments: &[&str], file: &Path, list: &[u8]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_mana-auth"))
        .args(["breach", "build"])
        .args(arguments)
        .arg(file)
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    // A command that refuses its arguments does not wait for the list.
    let _ = input.write_all(list);
    drop(input);
    process.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// S-06.
#[test]
fn a_list_of_passwords_becomes_a_filter_s06() {
    let folder = tempfile::tempdir().unwrap();
    let (list, filter) = (folder.path().join("list"), folder.path().join("filter"));
    // A repeated line, an empty one, a byte that is no UTF-8, and no end of the last line.
    let lines = b"trustno1\r\n\nletmein1\ntrustno1\n\xffword\n with spaces ";
    fs::write(&list, lines).unwrap();
    let from = [
        "--format",
        "passwords",
        "--from",
        list.to_str().unwrap(),
        "--json",
    ];
    let built = build(&from, &filter, b"");
    assert!(built.status.success(), "{}", text(&built.stderr));
    let said: Value = serde_json::from_str(text(&built.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&said["entries"], &said["lines"]), (&4.into(), &6.into()));
    assert_eq!(said["bytes"], fs::metadata(&filter).unwrap().len());
    let filter = BreachFilter::open(&filter).unwrap();
    assert_eq!(filter.entries(), 4);
    let wanted = ["trustno1", "letmein1", " with spaces "];
    assert!(wanted.iter().all(|password| filter.contains(password)));
    assert!(!filter.contains("with spaces") && !filter.contains(""));
}

/// S-06.
#[test]
fn a_list_of_hashes_becomes_a_filter_s06() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter");
    let built = build(&["--format", "sha1"], &file, LIST.as_bytes());
    let said = text(&built.stdout);
    assert!(said.contains(": 2 entries from 2 lines, "), "{said}");
    let filter = BreachFilter::open(&file).unwrap();
    assert!(filter.contains("password") && filter.contains("123456"));
    assert!(!filter.contains("1234567"));
}

#[test]
fn what_is_no_list_makes_no_filter_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter");
    let secret = format!("{LIST}hunter2\n");
    let ntlm = format!("{LIST}8846F7EAEE8FB117AD06BDD830B7586C:7\n");
    let count = format!("{}:many\n", &LIST[..40]);
    for (list, problem) in [
        (secret.as_str(), "line 3 is not a SHA-1"),
        (&ntlm, "line 3 is not a SHA-1"),
        (&count, "line 1 is not a SHA-1"),
        ("\n\n", "the list is empty"),
    ] {
        let refused = build(&["--format", "sha1"], &file, list.as_bytes());
        let said = text(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(problem),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
    let nowhere = folder.path().join("nowhere/filter");
    let refused = build(&["--format", "sha1"], &nowhere, b"not looked at");
    assert!(text(&refused.stderr).contains("there is no folder for"));
    let refused = build(&[], &file, b"");
    assert!(text(&refused.stderr).contains("--format"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// S-06: a service that was told to refuse breached passwords does not start without the list.
#[tokio::test]
async fn a_service_does_not_start_with_a_bad_filter_s06() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter");
    let set = BTreeMap::from([
        ("HOME", folder.path().to_str().unwrap()),
        ("MANA_AUTH_BREACHED_PASSWORDS", file.to_str().unwrap()),
    ]);
    let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    let config = Config::from_values(&set.collect(), None).unwrap();
    let start = async || {
        let parts = Parts {
            clock: Clock::system(),
            // Nobody is asked: the list comes first.
            database: PgConnectOptions::new_without_pgpass().port(1),
        };
        let refused = app::start(config.clone(), parts).await.err().unwrap();
        format!("{refused:#}")
    };
    let missing = start().await;
    let named = format!("opening MANA_AUTH_BREACHED_PASSWORDS, {}: ", file.display());
    assert!(missing.starts_with(&named), "{missing}");
    fs::write(&file, LIST).unwrap();
    let foreign = start().await;
    assert!(foreign.starts_with(&named), "{foreign}");
    assert!(
        foreign.contains("no filter of breached passwords"),
        "{foreign}"
    );
}
