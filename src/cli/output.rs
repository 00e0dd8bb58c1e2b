//! What commands print: lines and JSON on standard output, errors and progress on standard error.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use crate::rebuild::Progress;

/// Progress is shown at most this often.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Prints a line. Unlike `println!` it does not panic when the reader of a pipe went away.
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.as_ref())
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(serde_json::to_string(value)?)?)
}

/// Prints an error with its causes; the exit code to leave with.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    if error.downcast_ref::<io::Error>().is_some() && error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    for (n, text) in causes(error).iter().enumerate() {
        let word = if n == 0 { "error" } else { "  because" };
        eprintln!("{word}: {text}");
    }
    ExitCode::FAILURE
}

/// An error and its causes, without those that the one before repeats in its own words.
pub fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut texts: Vec<String> = vec![];
    for cause in error.chain() {
        let text = cause.to_string();
        if !texts.last().is_some_and(|said| said.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

/// A number with its thousands apart.
pub fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(0).to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where progress is shown.
#[derive(Clone, Copy, PartialEq)]
enum Show {
    Terminal,
    Json,
    Nowhere,
}

/// Shows how far something is: count, rate and time left.
pub struct Meter {
    label: String,
    show: Show,
    started: Instant,
    shown: Option<Instant>,
}

impl Meter {
    /// Starts to measure.
    pub fn new(label: &str, json: bool) -> Self {
        let show = match json {
            true => Show::Json,
            false if io::stderr().is_terminal() => Show::Terminal,
            false => Show::Nowhere,
        };
        Self {
            label: label.to_owned(),
            show,
            started: Instant::now(),
            shown: None,
        }
    }

    /// Shows where it is now, unless that was shown a moment ago.
    pub fn show(&mut self, Progress { done, total }: Progress) {
        self.count(done, Some(total));
    }

    /// The same where nobody may know how much there is.
    pub fn count(&mut self, done: i64, total: Option<i64>) {
        if self.show == Show::Nowhere || self.shown.is_some_and(|at| at.elapsed() < SHOW_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let per_second = done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let seconds_left = total.map(|total| (total - done) as f64 / per_second.max(1.0));
        let of = total.map_or(String::new(), |total| format!(" of {}", grouped(total)));
        let left = seconds_left.map_or(String::new(), |left| format!(", {left:.0} s left"));
        // Progress is a courtesy: where it cannot be written, the work goes on.
        let _ = match self.show {
            Show::Terminal => write!(
                io::stderr(),
                "\r\x1b[K{}: {}{of}, {}/s{left}",
                self.label,
                grouped(done),
                grouped(per_second as u64)
            ),
            Show::Json => line(
                json!({"progress": self.label, "done": done, "total": total,
                       "per_second": per_second.round(), "seconds_left": seconds_left.map(f64::round)})
                .to_string(),
            ),
            Show::Nowhere => Ok(()),
        };
    }

    /// Clears the line on the terminal; how long it took.
    pub fn finish(self) -> Duration {
        if self.show == Show::Terminal && self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_everything_once() {
        let error = anyhow::anyhow!("no such file")
            .context("reading: no such file")
            .context("starting");
        assert_eq!(causes(&error), ["starting", "reading: no such file"]);
    }

    #[test]
    fn thousands_are_apart() {
        let texts = [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }
}
