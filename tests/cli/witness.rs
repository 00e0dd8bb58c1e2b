//! `audit witness`: cosigns what has only grown, and tells when the log has two histories.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mana_auth::transparency::builder::{Builder, Step};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::audit::checkpoint;
use crate::client::UNVERIFIED;
use crate::command::{Cli, Said, fresh_path};
use crate::harness::{TestApp, wait_until};
use crate::place::{beside, tamper};
use crate::tables::number;

const NAME: &str = "witness.example.org";

/// A witness of a log, on another machine.
struct Witness {
    cli: Cli,
    log: String,
    key: String,
    folder: PathBuf,
}

impl Witness {
    async fn of(app: &TestApp) -> Witness {
        checkpoint(app).await;
        Witness {
            cli: Cli::new().with("DATABASE_URL", "nowhere"),
            log: format!("{}/log", app.base),
            key: app.get("/log/key").await.text.trim_end().to_owned(),
            folder: fresh_path("witness"),
        }
    }

    async fn looks(&self, more: &[&str]) -> Said {
        let folder = self.folder.to_str().unwrap();
        let looks = ["audit", "witness", &self.log, "--key", &self.key];
        let keeps = ["--keep", folder, "--name", NAME];
        self.cli.run(&[&looks[..], &keeps, more].concat()).await
    }

    fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let mut kept: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "checkpoint"))
            .collect();
        kept.sort();
        kept
    }

    /// The same with all that it has seen so far.
    fn copy(&self) -> Witness {
        let folder = fresh_path("witness");
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(&self.folder).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        Witness {
            cli: self.cli.clone(),
            log: self.log.clone(),
            key: self.key.clone(),
            folder,
        }
    }

    /// It tells that something is wrong, now and from now on, and signs nothing any more.
    async fn alarms(&self, words: &str) {
        let kept = self.kept();
        let said = self.looks(&["--json"]).await;
        assert_eq!(said.code, 3, "{} {}", said.out, said.err);
        let found = said.json().pop().unwrap();
        assert_eq!(
            (&found["cosigned"], &found["alarm"]),
            (&Value::Null, &json!(words))
        );
        assert!(
            said.err.starts_with("ALARM: ") && said.err.contains(words),
            "{}",
            said.err
        );
        let alarm = fs::read_to_string(self.folder.join("ALARM")).unwrap();
        let origin = self.key.split_once('+').unwrap().0;
        assert!(alarm.starts_with(words), "{alarm}");
        assert_eq!(
            alarm.lines().filter(|line| *line == origin).count(),
            2,
            "both: {alarm}"
        );
        let again = self.looks(&[]).await.refused(3);
        assert!(again.starts_with("ALARM: "), "{again}");
        assert_eq!(self.kept(), kept);
    }
}

/// The time of a cosignature that is good, read as C2SP tlog-cosignature has it.
fn cosigned_at(path: &Path, key: &str) -> u64 {
    let note = fs::read_to_string(path).unwrap();
    let (text, signatures) = note.split_once("\n\n").unwrap();
    let prefix = format!("\u{2014} {NAME} ");
    let line = signatures
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap();
    let bytes = STANDARD.decode(line).unwrap();
    let (id, key) = key
        .strip_prefix(&format!("{NAME}+"))
        .unwrap()
        .split_once('+')
        .unwrap();
    let key = STANDARD.decode(key).unwrap();
    assert_eq!(
        (key[0], u32::from_be_bytes(bytes[..4].try_into().unwrap())),
        (4, u32::from_str_radix(id, 16).unwrap())
    );
    let time = u64::from_be_bytes(bytes[4..12].try_into().unwrap());
    let signed = format!("cosignature/v1\ntime {time}\n{text}\n");
    let key = UnparsedPublicKey::new(&ED25519, &key[1..]);
    key.verify(signed.as_bytes(), &bytes[12..]).unwrap();
    time
}

#[tokio::test]
async fn what_has_only_grown_is_cosigned_and_can_be_compared_with() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let witness = Witness::of(&app).await;
    let first = number(&app.admin, "select max(size) from followers.checkpoints").await;
    let said = witness.looks(&[]).await.well();
    let file = witness.folder.join(format!("{first:020}.checkpoint"));
    assert_eq!(
        said,
        format!("cosigned {first} events: {}\n", file.display())
    );
    // Nothing has happened: it is the same checkpoint, seen once more.
    witness.looks(&[]).await.well();
    assert_eq!(witness.kept(), [file]);
    app.signed_in("hopper").await;
    checkpoint(&app).await;
    let said = witness.looks(&["--json"]).await;
    assert_eq!(
        (said.code, &said.json()[0]["alarm"]),
        (0, &Value::Null),
        "{}",
        said.err
    );
    let kept = witness.kept();
    assert_eq!(kept.len(), 2);

    let public = fs::read_to_string(witness.folder.join("witness.pub")).unwrap();
    for path in &kept {
        assert!(cosigned_at(path, public.trim_end()) > 1_700_000_000);
    }
    let secret = fs::metadata(witness.folder.join("witness.key")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);

    // What it keeps is of use: for the whole log, and for a bundle.
    let cli = beside(&app);
    let paths: Vec<&str> = kept.iter().map(|path| path.to_str().unwrap()).collect();
    cli.run(&[&["verify-log", "--checkpoint"][..], &paths].concat())
        .await
        .well();
    let bundle = fresh_path("ada.bundle").display().to_string();
    let made = [
        "audit",
        "bundle",
        "user",
        &ada.user_id,
        "--out",
        &bundle,
        "--previous",
        paths[0],
    ];
    cli.run(&made).await.well();
    let verify = [
        "audit",
        "verify",
        &bundle,
        "--key",
        &witness.key,
        "--previous",
        paths[0],
    ];
    let said = witness.cli.run(&verify).await.well();
    assert!(said.contains("has only grown since"), "{said}");
}

/// Has another history signed, as somebody would who has the keys: by a node that remembers nothing. The one that runs
/// remembers what it signed, and refuses.
async fn signed_anew(app: &TestApp) {
    let forger = Builder::new(&app.app);
    wait_until("another history is signed", async || {
        forger.step().await.unwrap() != Step::Standby
    })
    .await;
    checkpoint(app).await;
}

/// Somebody with all rights in the database makes a log as they like it, and has it signed.
#[tokio::test]
async fn two_histories_and_a_lost_end_alarm() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.signed_in("lovelace").await;
    let lagging = Witness::of(&app).await;
    lagging.looks(&[]).await.well();
    app.signed_in("hopper").await;
    checkpoint(&app).await;
    let current = lagging.copy();
    current.looks(&[]).await.well();
    let beyond = current.copy();
    let old = number(&app.admin, "select min(size) from followers.checkpoints").await;
    let head = number(&app.admin, "select max(position) from events").await;
    let seen = lagging.kept()[0]
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse::<i64>()
        .unwrap();
    assert!(old <= seen && seen < head);

    let forget = "delete from followers.checkpoints; delete from followers.tiles";
    let rewrite = "update events set payload = '{}' where position = 1";
    tamper(&app.admin, &format!("{rewrite}; {forget}")).await;
    signed_anew(&app).await;
    current
        .alarms(&format!("the log shows two histories of {head} events"))
        .await;
    let unproven =
        format!("the log does not prove that its {head} events begin with the {seen} that it had");
    lagging.alarms(&unproven).await;

    let cut = format!("delete from events where position = {head}");
    tamper(&app.admin, &format!("{cut}; {forget}")).await;
    signed_anew(&app).await;
    let shrunk = format!("the log has {} events and had {head}", head - 1);
    beyond.alarms(&shrunk).await;
}

#[tokio::test]
async fn what_is_not_this_log_is_neither_cosigned_nor_an_alarm() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let witness = Witness::of(&app).await;
    let mut other = Witness::of(&app).await;
    other.key = witness.key.replace("log/", "log/x");
    let said = other.looks(&[]).await.refused(1);
    assert!(
        said.contains("--key is not the verifier key of a log"),
        "{said}"
    );
    let elsewhere = TestApp::start(&[UNVERIFIED]).await;
    other.key = Witness::of(&elsewhere).await.key;
    let said = other.looks(&[]).await.refused(1);
    assert!(
        said.contains("the checkpoint is not signed by this key"),
        "{said}"
    );
    assert!(other.kept().is_empty() && !other.folder.join("ALARM").exists());
    other.log = format!("{}/nowhere", app.base);
    let said = other.looks(&[]).await.refused(1);
    assert!(said.contains("answers with 404"), "{said}");
    other.log = "http://127.0.0.1:1/log".to_owned();
    assert!(other.looks(&[]).await.refused(1).contains("no answer"));
    // Its own files are looked at as well.
    witness.looks(&[]).await.well();
    let file = &witness.kept()[0];
    let note = fs::read_to_string(file).unwrap();
    fs::write(file, note.replace("\n\n", "1\n\n")).unwrap();
    let said = witness.looks(&[]).await.refused(1);
    assert!(
        said.contains("checkpoint that was kept is not signed by this key"),
        "{said}"
    );
    fs::write(witness.folder.join("witness.key"), "x").unwrap();
    let said = witness.looks(&[]).await.refused(1);
    assert!(said.contains("it is not a key of a witness"), "{said}");
}

/// A witness that dies while its key is written, here of a file that may not grow, makes it the next time.
#[tokio::test]
async fn a_key_that_could_not_be_written_is_made_anew() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let witness = Witness::of(&app).await;
    let folder = witness.folder.to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_mana-auth");
    let looks = format!(
        "ulimit -c 0; ulimit -f 0; exec {program} audit witness {} --key '{}' --keep {folder} --name {NAME}",
        witness.log, witness.key
    );
    let cut = tokio::process::Command::new("sh")
        .args(["-c", &looks])
        .output();
    assert!(!cut.await.unwrap().status.success());
    assert!(witness.folder.exists() && !witness.folder.join("witness.key").exists());
    witness.looks(&[]).await.well();
    assert_eq!(witness.kept().len(), 1);
    witness.looks(&[]).await.well();
}
