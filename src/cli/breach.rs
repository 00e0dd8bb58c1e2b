//! `breach`: the file of passwords that are refused, made from a list.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::{self, Meter, grouped};
use crate::crypto::hex;
use crate::crypto::password::breach::{BreachFilter, Key};

/// What is read from the list at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Lines between two looks at the clock.
const LOOK_EVERY: i64 = 4096;

/// Commands about passwords that others know.
#[derive(Subcommand)]
pub enum Command {
    /// Make the file for MANA_AUTH_BREACHED_PASSWORDS from a list with one password or hash a line
    Build(Build),
}

/// Arguments of `breach build`.
#[derive(Args)]
#[command(after_help = "\
The file takes 3.4 bytes an entry, on disk and in the memory of each service that uses it. Building takes no
more than that; from a pipe 8 bytes an entry on top. FILE appears, or is replaced, when it is complete;
services read it when they start.

Examples:
  mana-auth breach build breached.filter --format sha1 --from pwned-passwords.txt
  awk -F: '$2 >= 10' pwned-passwords.txt | mana-auth breach build breached.filter --format sha1
  mana-auth breach build own.filter --format passwords --from words-of-our-company.txt --json")]
pub struct Build {
    /// File to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What a line of the list is
    #[arg(long, value_enum)]
    format: Format,
    /// The list; standard input if not given
    #[arg(long, value_name = "INPUT")]
    from: Option<PathBuf>,
    /// Print progress and result as lines of JSON
    #[arg(long)]
    json: bool,
}

/// What a line of a list is. Nobody guesses: a list of other hashes taken for passwords would refuse nothing.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A password as typed
    Passwords,
    /// The SHA-1 of a password in hex, with or without `:COUNT`
    Sha1,
}

impl Format {
    /// Reads a line, `None` if it is something else.
    fn key(self, line: &[u8]) -> Option<Key> {
        match self {
            Self::Passwords => Some(Key::of_password(line)),
            Self::Sha1 => {
                let line = str::from_utf8(line.trim_ascii_end()).ok()?;
                let (digest, count) = line.split_once(':').unwrap_or((line, "0"));
                let _: u64 = count.parse().ok()?;
                hex::decode(digest).map(Key::of_sha1)
            }
        }
    }
}

/// Does it.
///
/// # Errors
/// When the list cannot be read or the file cannot be written; the file that was there is as it was.
pub fn run(Command::Build(arguments): Command) -> anyhow::Result<ExitCode> {
    // Said before the work, not after it.
    let folder = arguments.file.parent();
    if folder.is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        bail!("there is no folder for {}", arguments.file.display());
    }
    let started = Instant::now();
    let (filter, lines) = match &arguments.from {
        None => from_stream(io::stdin().lock(), &arguments).context("reading standard input")?,
        Some(path) => {
            from_path(path, &arguments).with_context(|| format!("reading {}", path.display()))?
        }
    };
    if filter.entries() == 0 {
        bail!("the list is empty");
    }
    let file = arguments.file.display();
    let written = filter.write(&arguments.file);
    let bytes = written.with_context(|| format!("writing {file}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        output::json(
            &json!({"file": file.to_string(), "lines": lines, "entries": filter.entries(), "bytes": bytes, "seconds": seconds}),
        )?;
    } else {
        output::line(format!(
            "{file}: {} entries from {} lines, {} bytes, in {seconds:.1} s ({} lines/s)",
            grouped(filter.entries()),
            grouped(lines),
            grouped(bytes),
            grouped((lines as f64 / seconds.max(0.001)) as u64)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a file twice, since its lines have to be counted before there is a filter to put them in.
fn from_path(path: &Path, arguments: &Build) -> anyhow::Result<(BreachFilter, i64)> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return from_stream(file, arguments);
    }
    let most = count_lines(&file, Meter::new("bytes of the list", arguments.json))?;
    file.rewind()?;
    let mut filter = BreachFilter::with_room_for(usize::try_from(most)?);
    let add = |key| filter.add(key);
    let lines = each_key(file, arguments, Some(most), add)?;
    if lines > most {
        bail!("the list grew while it was read");
    }
    Ok((filter, lines))
}

/// Keeps the keys until their number is known.
fn from_stream(input: impl Read, arguments: &Build) -> anyhow::Result<(BreachFilter, i64)> {
    let mut keys = Vec::new();
    let lines = each_key(input, arguments, None, |key| keys.push(key))?;
    let mut meter = Meter::new("entries of the filter", arguments.json);
    let total = keys.len();
    let mut filter = BreachFilter::with_room_for(total);
    for (done, key) in (0..).zip(keys) {
        filter.add(key);
        if done % LOOK_EVERY == 0 {
            meter.count(done, i64::try_from(total).ok());
        }
    }
    meter.finish();
    Ok((filter, lines))
}

/// How many lines there may be; the last one may lack its end.
fn count_lines(file: &File, mut meter: Meter) -> io::Result<i64> {
    let total = file.metadata()?.len() as i64;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let (mut ends, mut done) = (0, 0);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            meter.finish();
            return Ok(ends + 1);
        }
        ends += bytes.iter().filter(|byte| **byte == b'\n').count() as i64;
        let read = bytes.len();
        done += read as i64;
        reader.consume(read);
        meter.count(done, Some(total));
    }
}

/// Gives the key of each line that is not empty, of so many at most if that is known. How many lines there were.
fn each_key(
    input: impl Read,
    arguments: &Build,
    most: Option<i64>,
    mut give: impl FnMut(Key),
) -> anyhow::Result<i64> {
    let mut meter = Meter::new("lines of the list", arguments.json);
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut line = Vec::new();
    let mut number = 0;
    while reader.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() {
            // The line itself is not repeated: it may be a password.
            give(arguments.format.key(text).with_context(|| {
                format!("line {number} is not a SHA-1 of 40 hex digits, with or without :COUNT")
            })?);
        }
        if number % LOOK_EVERY == 0 {
            meter.count(number, most);
        }
        line.clear();
    }
    meter.finish();
    Ok(number)
}
