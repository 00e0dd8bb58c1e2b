//! What was found, as a table for people and as JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::measure::Measured;

/// What has to be reached.
#[derive(Clone, Copy)]
pub enum Target {
    /// Ours is at least this many times the limit.
    AtLeast(f64),
    /// Ours is at most the limit.
    AtMost,
    /// Ours and the limit are at most so far apart, in the unit of both.
    Within(f64),
    /// Nothing: it is shown for comparison.
    None,
}

/// One line of the table.
pub struct Finding {
    /// What was measured.
    pub what: String,
    /// In which unit.
    pub unit: &'static str,
    /// What the service does.
    pub ours: Measured,
    /// What it is compared with.
    pub limit: Measured,
    /// What the limit is.
    pub limit_is: String,
    /// What has to be reached.
    pub target: Target,
    /// What else is worth knowing, one line each.
    pub notes: Vec<String>,
}

impl Finding {
    fn ratio(&self) -> f64 {
        self.ours.median() / self.limit.median()
    }

    fn target(&self) -> String {
        match self.target {
            Target::AtLeast(ratio) => format!(">= {ratio:.2}"),
            Target::AtMost => "<= 1.00".to_owned(),
            Target::Within(distance) => format!("+-{distance:.2} {}", self.unit),
            Target::None => String::new(),
        }
    }

    fn reached(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(least) => Some(self.ratio() >= least),
            Target::AtMost => Some(self.ratio() <= 1.0),
            Target::Within(distance) => {
                Some((self.ours.median() - self.limit.median()).abs() <= distance)
            }
            Target::None => None,
        }
    }
}

/// The table for people.
pub fn text(findings: &[Finding]) -> String {
    let mut rows = vec![
        [
            "what", "ours", "limit", "unit", "ratio", "target", "reached",
        ]
        .map(str::to_owned),
    ];
    rows.extend(findings.iter().map(|finding| {
        let reached = match finding.reached() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        [
            finding.what.clone(),
            finding.ours.to_string(),
            finding.limit.to_string(),
            finding.unit.to_owned(),
            format!("{:.2}", finding.ratio()),
            finding.target(),
            reached.to_owned(),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str(
        "\nMedians of rounds that took turns; ± is half of the distance between the extremes.\n",
    );
    for finding in findings {
        let _ = writeln!(text, "{}: compared with {}", finding.what, finding.limit_is);
        for note in &finding.notes {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

/// The table for programs.
pub fn json(findings: &[Finding]) -> serde_json::Result<String> {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "what": finding.what, "unit": finding.unit,
                "ours": finding.ours.rounds(), "limit": finding.limit.rounds(), "limit_is": finding.limit_is,
                "ratio": finding.ratio(), "target": finding.target(), "reached": finding.reached(),
                "notes": finding.notes,
            })
        })
        .collect();
    serde_json::to_string_pretty(&findings)
}
