//! Weighs what a replay showed against `tests/contract/deliberate-differences.toml`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use super::matching::Difference;
use super::transcripts::contract_folder;

/// One exchange that is answered otherwise on purpose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliberate {
    pub area: String,
    pub case: String,
    pub step: usize,
    /// Each place that differs, and what stands there instead: both exactly as a failing replay shows them; `*` for what
    /// is random.
    pub differs: BTreeMap<String, String>,
    pub reason: String,
}

/// Reads the deliberate differences of all areas.
pub fn deliberate_differences() -> Vec<Deliberate> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        difference: Vec<Deliberate>,
    }
    let text =
        std::fs::read_to_string(contract_folder().join("deliberate-differences.toml")).unwrap();
    toml::from_str::<List>(&text).unwrap().difference
}

/// A step of a recorded case and what came of it.
pub struct Played {
    pub case: String,
    pub step: usize,
    /// The request or mail, in words.
    pub what: String,
    pub outcome: Outcome,
}

/// What came of a step.
pub enum Outcome {
    Compared(Vec<Difference>),
    NotBuilt,
}

/// The sum of a replay.
#[derive(Default)]
pub struct Verdict {
    pub passed: usize,
    pub deliberate: usize,
    pub not_built: usize,
    /// What must be put right, readable.
    pub problems: String,
}

/// Every step must be as recorded or differ exactly as listed; an entry that no longer holds is a problem too.
pub fn judge(area: &str, played: &[Played], deliberate: &[Deliberate]) -> Verdict {
    let mut verdict = Verdict::default();
    for step in played {
        let Outcome::Compared(differences) = &step.outcome else {
            verdict.not_built += 1;
            continue;
        };
        let listed = deliberate
            .iter()
            .find(|entry| (&*entry.area, &entry.case, entry.step) == (area, &step.case, step.step));
        let shown: BTreeMap<_, _> = differences
            .iter()
            .map(|difference| (&difference.at, &difference.got))
            .collect();
        let holds = |entry: &Deliberate| {
            entry.differs.len() == shown.len()
                && entry.differs.iter().all(|(at, got)| {
                    shown
                        .get(at)
                        .is_some_and(|shown| got == "*" || got == *shown)
                })
        };
        match listed {
            None if differences.is_empty() => verdict.passed += 1,
            Some(entry) if holds(entry) => verdict.deliberate += 1,
            _ => verdict.describe(area, step, differences, listed),
        }
    }
    for entry in deliberate.iter().filter(|entry| entry.area == area) {
        let compared = |step: &&Played| matches!(step.outcome, Outcome::Compared(_));
        if !played
            .iter()
            .filter(compared)
            .any(|step| step.case == entry.case && step.step == entry.step)
        {
            let (case, step) = (&entry.case, entry.step);
            verdict.problem(format_args!(
                "{area}: {case:?} step {step} is listed as deliberate but was not played"
            ));
        }
    }
    verdict
}

impl Verdict {
    fn describe(
        &mut self,
        area: &str,
        step: &Played,
        differences: &[Difference],
        listed: Option<&Deliberate>,
    ) {
        let Played {
            case,
            step: number,
            what,
            ..
        } = step;
        self.problem(format_args!("{area}: {case:?} step {number}: {what}"));
        for difference in differences {
            self.problem(format_args!("    {difference}"));
        }
        if let Some(entry) = listed {
            self.problem(format_args!(
                "    listed as deliberate ({}) is exactly {:#?}",
                entry.reason, entry.differs
            ));
        }
    }

    fn problem(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.problems, "{line}").expect("a String takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Deliberate, Difference, Outcome, Played, Verdict, judge};

    fn played(got: &[(&str, &str)]) -> Verdict {
        let difference = |(at, got): &(&str, &str)| Difference {
            at: (*at).to_owned(),
            expected: "as recorded".to_owned(),
            got: (*got).to_owned(),
        };
        let outcome = Outcome::Compared(got.iter().map(difference).collect());
        let step = Played {
            case: "a case".to_owned(),
            step: 1,
            what: String::new(),
            outcome,
        };
        let entry = Deliberate {
            area: "an area".to_owned(),
            case: "a case".to_owned(),
            step: 1,
            differs: BTreeMap::from([("status".to_owned(), "409".to_owned())]),
            reason: "on purpose".to_owned(),
        };
        judge("an area", &[step], &[entry])
    }

    #[test]
    fn a_listed_difference_is_counted_and_no_problem() {
        let verdict = played(&[("status", "409")]);
        assert_eq!((verdict.deliberate, verdict.problems.as_str()), (1, ""));
    }

    #[test]
    fn a_listed_difference_that_is_gone_is_a_problem() {
        assert!(played(&[]).problems.contains("listed as deliberate"));
    }

    #[test]
    fn a_listed_difference_does_not_cover_another_value_or_place() {
        assert_ne!(played(&[("status", "500")]).problems, "");
        assert_ne!(
            played(&[("status", "409"), ("body.code", "absent")]).problems,
            ""
        );
    }

    #[test]
    fn a_listed_step_that_was_not_played_is_a_problem() {
        let stale = Deliberate {
            area: "an area".to_owned(),
            case: "a case".to_owned(),
            step: 7,
            differs: BTreeMap::new(),
            reason: "on purpose".to_owned(),
        };
        assert!(
            judge("an area", &[], &[stale])
                .problems
                .contains("was not played")
        );
    }
}
