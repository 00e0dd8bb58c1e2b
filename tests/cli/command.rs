//! Runs the real binary with exactly the settings that a test gives it, and keeps what it said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::harness::{PATIENCE, Shared};

/// The command line and its environment.
#[derive(Clone)]
pub struct Cli {
    settings: BTreeMap<String, String>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Cli {
    /// A development service on no database in particular, with a data folder of its own.
    pub fn new() -> Cli {
        let cli = Cli {
            settings: BTreeMap::new(),
        };
        cli.with("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .with("NODE_ENV", "test")
            .with("MANA_AUTH_HASH_THREADS", "1")
            .with("MANA_AUTH_DATA_DIR", &fresh_path("data").to_string_lossy())
    }

    /// The same with another setting.
    pub fn with(&self, name: &str, value: &str) -> Cli {
        let mut cli = self.clone();
        cli.settings.insert(name.to_owned(), value.to_owned());
        cli
    }

    /// What a setting is.
    pub fn setting(&self, name: &str) -> &str {
        &self.settings[name]
    }

    /// Runs a command with nothing to read.
    pub async fn run(&self, arguments: &[&str]) -> Said {
        self.run_reading(arguments, "").await
    }

    /// Runs a command that reads this from standard input.
    pub async fn run_reading(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self.start(arguments);
        let mut pipe = child.stdin.take().unwrap();
        // Most commands read nothing and may have ended by now.
        let _ = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
        end(child).await
    }

    /// Starts a command; it does not outlive the test.
    pub fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_mana-auth"))
            .args(arguments)
            .env_clear()
            .envs(&self.settings)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}

impl Said {
    /// What it said, of a command that did what it was asked and complained of nothing.
    pub fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// Its complaint, of a command that was refused with this code and said nothing else.
    pub fn refused(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        self.err
    }

    /// The lines of JSON that it said.
    pub fn json(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Waits for the end of a command.
pub async fn end(child: Child) -> Said {
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = ended.await.expect("the command ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        code: code(output.status),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Sends a signal, such as `TERM`, to a command that runs.
pub async fn signal(child: &Child, signal: &str) {
    let kill = format!("kill -{signal} {}", child.id().unwrap());
    let sent = Command::new("/bin/sh").args(["-c", &kill]).status().await;
    assert!(sent.unwrap().success());
}

/// A path in the folder of this run that nobody else uses.
pub fn fresh_path(name: &str) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Shared::get().folder.join(format!("cli-{number}-{name}"))
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| panic!("the command ended by itself, not {status}"))
}
