//! `audit witness`: looks at the log from outside, keeps what it has signed, and cosigns what fits to all that was seen.
//! It needs neither the service's database nor its settings.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use oauth2::http;
use serde::Deserialize;
use serde_json::json;
use tlog_tiles::{Checkpoint, Hash};

use super::output::{self, grouped};
use crate::clock::Clock;
use crate::crypto::cosign::Cosigner;
use crate::crypto::notes::Verifier;
use crate::crypto::tokens::random_token;
use crate::outgoing::Outgoing;
use crate::transparency::verify::signed_checkpoint;
use crate::transparency::witness::{Alarm, compare};

/// Two checkpoints do not fit together.
const ALARMED: u8 = 3;

/// Arguments of `audit witness`.
#[derive(Args)]
pub struct Arguments {
    /// Where the log is, such as https://auth.example.com/log
    #[arg(value_name = "URL")]
    log: String,
    /// Verifier key of the log
    #[arg(long, value_name = "VKEY")]
    key: String,
    /// Folder that keeps the checkpoints, and the witness's own key
    #[arg(long, value_name = "FOLDER")]
    keep: PathBuf,
    /// Name that cosignatures are made under, such as witness.example.org
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Print what was found as one object of JSON
    #[arg(long)]
    json: bool,
}

/// Looks once.
///
/// # Errors
/// When the log cannot be reached, or what it shows is none of its checkpoints.
pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let key = Verifier::parse(&arguments.key).context("--key is not the verifier key of a log")?;
    let folder = Folder(&arguments.keep);
    let cosigner = folder.cosigner(&arguments.name)?;
    // Of two that look at the same time one waits: what each of them keeps has to fit to the other's.
    let lock = File::open(folder.key())?;
    lock.lock().context("waiting for another witness")?;
    if folder.alarm().exists() {
        let found = format!("see {}", folder.alarm().display());
        return alarmed(arguments, &found);
    }
    let log = Log::new(&arguments.log)?;
    let note = log.get("checkpoint").await?;
    let note = String::from_utf8(note).context("the checkpoint is no text")?;
    let shown = signed_checkpoint(&note, &key, "checkpoint")?;
    if let Some((path, kept_note)) = folder.newest()? {
        let reading = || format!("reading {}", path.display());
        let kept = signed_checkpoint(&kept_note, &key, "checkpoint that was kept")
            .with_context(reading)?;
        let proof = match shown.size() > kept.size() {
            true => log.proof(kept.size(), shown.size()).await?,
            false => vec![],
        };
        if let Err(alarm) = compare(&kept, &shown, &proof) {
            folder.keep_alarm(&alarm, &kept_note, &note)?;
            return alarmed(arguments, &alarm.to_string());
        }
    }
    let text = key.open(&note).context("it was just opened")?;
    let now = Clock::system().now().timestamp();
    let cosigned = cosigner.cosign(&note, &text, now).context("cosigning")?;
    let path = folder.keep(&shown, &cosigned)?;
    let (size, path) = (shown.size(), path.display());
    match arguments.json {
        true => output::json(&json!({"cosigned": size, "file": path.to_string(), "alarm": null}))?,
        false => output::line(format!("cosigned {} events: {path}", grouped(size)))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn alarmed(arguments: &Arguments, found: &str) -> anyhow::Result<ExitCode> {
    if arguments.json {
        output::json(&json!({"cosigned": null, "file": null, "alarm": found}))?;
    }
    eprintln!("ALARM: {}: {found}", arguments.log);
    eprintln!(
        "  Both checkpoints are in {}.",
        Folder(&arguments.keep).alarm().display()
    );
    eprintln!("  Nothing is cosigned until somebody has looked into it and moved that file away.");
    Ok(ExitCode::from(ALARMED))
}

/// Where a witness keeps what it has seen.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn key(&self) -> PathBuf {
        self.0.join("witness.key")
    }

    fn alarm(&self) -> PathBuf {
        self.0.join("ALARM")
    }

    /// The key of this witness. The first time it is made, and what checks its cosignatures is put beside it.
    fn cosigner(&self, name: &str) -> anyhow::Result<Cosigner> {
        let path = self.key();
        let making = || format!("making {}", path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.0)
            .with_context(making)?;
        if !path.try_exists().with_context(making)? {
            self.make_key(name)
                .with_context(|| format!("making {}", path.display()))?;
        }
        let reading = || format!("reading {}", path.display());
        let secret = zeroize::Zeroizing::new(fs::read_to_string(&path).with_context(reading)?);
        let read = Cosigner::parse(secret.trim_end()).context("it is not a key of a witness");
        let read = read.with_context(reading)?;
        ensure!(
            read.name() == name,
            "this witness is called {}",
            read.name()
        );
        let (public, text) = (
            self.0.join("witness.pub"),
            format!("{}\n", read.verifier_key()),
        );
        if fs::read_to_string(&public).ok().as_ref() != Some(&text) {
            fs::write(&public, text).with_context(making)?;
        }
        Ok(read)
    }

    /// Makes the key beside its place and then gives it its name, which it has as a whole or not at all. Of two that do so
    /// at the same time the first one's key stays.
    fn make_key(&self, name: &str) -> anyhow::Result<()> {
        let made = Cosigner::generate(name).context("--name cannot be the name of a key")?;
        let fresh = format!("witness.key.{}.new", random_token(16));
        let fresh = self.0.join(fresh);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| {
                writeln!(file, "{}", *made.secret())?;
                file.sync_all()?;
                fs::hard_link(&fresh, self.key())
            });
        let removed = fs::remove_file(&fresh);
        match written {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            Ok(()) | Err(_) => removed?,
        }
        Ok(File::open(self.0)?.sync_all()?)
    }

    /// The checkpoint of the largest tree that was seen.
    fn newest(&self) -> anyhow::Result<Option<(PathBuf, String)>> {
        let reading = || format!("reading {}", self.0.display());
        let mut newest = None;
        for entry in fs::read_dir(self.0).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "checkpoint")
            {
                newest = newest.max(Some(path));
            }
        }
        let Some(path) = newest else { return Ok(None) };
        let note = fs::read_to_string(&path).with_context(reading)?;
        Ok(Some((path, note)))
    }

    /// Keeps a checkpoint under the size of its tree, with as many digits as sort well.
    fn keep(&self, checkpoint: &Checkpoint, note: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(format!("{:020}.checkpoint", checkpoint.size()));
        write(&path, note)?;
        Ok(path)
    }

    fn keep_alarm(&self, alarm: &Alarm, kept: &str, shown: &str) -> anyhow::Result<()> {
        let text = format!("{alarm}\n\nIt had shown:\n\n{kept}\nIt has shown now:\n\n{shown}");
        write(&self.alarm(), &text)
    }
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let written = File::create(&fresh).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    });
    written.with_context(|| format!("writing {}", path.display()))
}

/// A log as it can be reached.
struct Log {
    outgoing: Outgoing,
    url: String,
}

#[derive(Deserialize)]
struct Proof {
    proof: Vec<String>,
}

impl Log {
    fn new(url: &str) -> anyhow::Result<Self> {
        // The client wants to know whose cryptography it would use.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let outgoing = Outgoing::new(true)?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { outgoing, url })
    }

    async fn get(&self, what: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/{what}", self.url);
        let request = http::Request::get(&url).body(vec![]).context("URL")?;
        let answer = self.outgoing.send(request).await;
        let answer = answer.with_context(|| format!("asking {url}"))?;
        let status = answer.status();
        ensure!(status.is_success(), "{url} answers with {status}");
        Ok(answer.into_body())
    }

    /// What the log gives as a proof that it has grown from one size to another. What cannot be read proves nothing.
    async fn proof(&self, from: u64, to: u64) -> anyhow::Result<Vec<Hash>> {
        let answer = self
            .get(&format!("proof/consistency?from={from}&to={to}"))
            .await?;
        let answer = serde_json::from_slice::<Proof>(&answer).ok();
        let read = answer.and_then(|answer| {
            let hashes = answer.proof.iter().map(|hash| Hash::parse_hash(hash).ok());
            hashes.collect()
        });
        Ok(read.unwrap_or_default())
    }
}
