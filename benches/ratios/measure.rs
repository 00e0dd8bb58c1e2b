//! Measuring in turns, and what processes cost.

use std::fmt;
use std::fs;

use anyhow::Context as _;

/// Clock ticks per second in `/proc/PID/stat`; Linux shows 100 to programs whatever it uses itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the rounds gave.
#[derive(Clone, Default)]
pub struct Measured(Vec<f64>);

impl Measured {
    /// One value: given, not measured, or what many measurements come to.
    pub fn fixed(value: f64) -> Measured {
        Measured(vec![value])
    }

    /// Another round.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The probability that two sets of values from one source are as far apart as these, by the two-sample
    /// Kolmogorov-Smirnov test: the largest distance between their distribution functions, and Kolmogorov's series
    /// with Stephens' correction for finite samples.
    pub fn same_source(&self, other: &Measured) -> f64 {
        let [mut a, mut b] = [self.0.clone(), other.0.clone()];
        a.sort_by(f64::total_cmp);
        b.sort_by(f64::total_cmp);
        let up_to = |sorted: &[f64], value: f64| {
            sorted.partition_point(|other| *other <= value) as f64 / sorted.len() as f64
        };
        let distance = a
            .iter()
            .chain(&b)
            .map(|value| (up_to(&a, *value) - up_to(&b, *value)).abs())
            .fold(0.0, f64::max);
        let size = ((a.len() * b.len()) as f64 / (a.len() + b.len()) as f64).sqrt();
        let scaled = (size + 0.12 + 0.11 / size) * distance;
        // The series does not converge near zero, where the answer is one.
        if scaled < 0.2 {
            return 1.0;
        }
        let term = |k: i32| (-2.0 * f64::from(k * k) * scaled * scaled).exp();
        let series: f64 = (1..=100)
            .map(|k| if k % 2 == 1 { term(k) } else { -term(k) })
            .sum();
        (2.0 * series).clamp(0.0, 1.0)
    }

    /// Every round, in order.
    pub fn rounds(&self) -> &[f64] {
        &self.0
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.median();
        let decimals = if median < 100.0 { 2 } else { 0 };
        write!(f, "{median:.decimals$}")?;
        if self.0.len() > 1 {
            let largest = self.0.iter().copied().fold(f64::MIN, f64::max);
            let smallest = self.0.iter().copied().fold(f64::MAX, f64::min);
            write!(f, " ±{:.0}%", (largest - smallest) / 2.0 / median * 100.0)?;
        }
        Ok(())
    }
}

/// Lets two sides take turns, A, B, B, A, for some rounds.
///
/// # Errors
/// The first error of a side.
pub fn take_turns(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut limit: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<(Measured, Measured)> {
    let (mut a, mut b) = (Measured::default(), Measured::default());
    for round in 1..=rounds {
        for is_ours in [true, false, false, true] {
            let (side, measured, name) = match is_ours {
                true => (&mut ours as &mut dyn FnMut() -> _, &mut a, "ours "),
                false => (&mut limit as &mut dyn FnMut() -> _, &mut b, "limit"),
            };
            let value = side()?;
            eprintln!("  round {round}: {name} {value:.2}");
            measured.add(value);
        }
    }
    Ok((a, b))
}

/// Processor time of this process, in seconds.
pub fn own_seconds() -> anyhow::Result<f64> {
    Ok(stat(std::process::id())?.own)
}

/// Processor time of a process and its children, those that have ended among them, in seconds.
pub fn family_seconds(parent: u32) -> anyhow::Result<f64> {
    let mut seconds = 0.0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Processes end while we look.
        match stat(pid) {
            Ok(found) if pid == parent => seconds += found.own + found.ended,
            Ok(found) if found.parent == parent => seconds += found.own,
            Ok(_) | Err(_) => {}
        }
    }
    Ok(seconds)
}

struct Stat {
    parent: u32,
    /// Processor time in seconds.
    own: f64,
    /// That of children that have ended.
    ended: f64,
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text
        .rsplit_once(')')
        .context("reading a process's numbers")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |n: usize| -> anyhow::Result<u32> {
        Ok(fields.get(n).context("too few numbers")?.parse()?)
    };
    Ok(Stat {
        parent: number(1)?,
        own: f64::from(number(11)? + number(12)?) / TICKS_PER_SECOND,
        ended: f64::from(number(13)? + number(14)?) / TICKS_PER_SECOND,
    })
}
