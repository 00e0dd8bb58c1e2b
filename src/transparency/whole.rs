//! The whole log checked: the tree is made anew from the events and compared with every checkpoint that was signed.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::PgPool;
use tlog_tiles::{Hash, record_hash};

use super::checkpoints::{self, Current, Stored};
use super::frontier::Frontier;
use super::tiles::{Edge, Place, Tiles, TreeError, full_at};
use crate::store::leaf::{has_plain_numbers, leaf};
use crate::store::log;

/// Events and checkpoints that are read at a time.
const PAGE: i64 = 5_000;

/// What was found.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Events that the newest checkpoint covers.
    pub signed: i64,
    /// Events that came after it, which the next one will cover.
    pub unsigned: i64,
    /// Checkpoints that the events agree with.
    pub checkpoints: i64,
    /// The events up to here are those that were signed.
    pub good_until: i64,
    /// Where the log is not the one that was signed.
    pub first_bad: Option<Bad>,
    /// What is wrong beside the events: stored hashes and checkpoints that were altered.
    pub problems: Vec<String>,
}

/// The first event that is not as it was signed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bad {
    /// Its position, or the first position where it can be.
    pub position: i64,
    /// The last position where it can be.
    pub until: i64,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Bad {
    fn at(position: i64, what: &'static str) -> Self {
        Self {
            position,
            until: position,
            what,
        }
    }
}

/// Checks the log. `elsewhere` are checkpoints that were kept outside of the database; `show` hears of the progress.
///
/// # Errors
/// When the database does not answer, or a checkpoint from elsewhere is not one of this log.
pub async fn check(
    pool: &PgPool,
    now: &Current,
    elsewhere: &[String],
    mut show: impl FnMut(i64, i64),
) -> anyhow::Result<Report> {
    let mut checking = Checking::default();
    let mut signed = now.last.as_ref().map_or(0, |last| last.size);
    for note in elsewhere {
        let checkpoint = now.open(note).ok_or_else(|| {
            anyhow::anyhow!("a checkpoint from elsewhere is not signed by this log")
        })?;
        let size = i64::try_from(checkpoint.size())?;
        checking.expect(size, Some(*checkpoint.hash()));
        signed = signed.max(size);
    }
    checking.report.signed = signed;
    let mut known = 0;
    let mut at = i64::MIN;
    while checking.size() < signed && checking.report.first_bad.is_none() {
        let left = signed - checking.size();
        let events = log::after(pool, at, PAGE.min(left)).await?;
        let (from, until) = (checking.size(), checking.size() + events.len() as i64);
        while known < until {
            let page = checkpoints::after(pool, known, PAGE).await?;
            let Some(end) = page.last() else { break };
            known = end.size;
            for stored in page {
                let read = now.open(&stored.note).filter(|read| stored.says(read));
                checking.expect(stored.size, read.map(|read| *read.hash()));
            }
        }
        let tiles = Tiles::of_leaves(pool, from.unsigned_abs(), until.unsigned_abs()).await?;
        if events.is_empty() {
            checking.ends();
        }
        for event in &events {
            at = event.position;
            // What has no leaf, because its JSON cannot be read, is not what was signed, nor is what no event has: no leaf
            // is empty.
            let leaf = match has_plain_numbers(event) {
                true => leaf(event).unwrap_or_default(),
                false => vec![],
            };
            let hash = record_hash(&leaf);
            if !checking.event(at, hash, &tiles) {
                break;
            }
        }
        checking.tiles(&tiles);
        show(checking.size(), signed);
    }
    // Stored hashes that are known to be altered lead to another root; that is told already.
    if checking.report.first_bad.is_none()
        && checking.report.problems.is_empty()
        && let Some(last) = &now.last
    {
        checking.edge(last, Edge::load(pool, last.size.unsigned_abs()).await)?;
    }
    checking.tell_tiles(now.last.as_ref().map_or(0, |last| last.size));
    checking.report.unsigned = (log::head(pool).await? - signed).max(0);
    Ok(checking.report)
}

/// How far the log was checked.
#[derive(Default)]
struct Checking {
    tree: Edge,
    /// Roots that were signed, by size; `None` for a checkpoint that is none.
    signed: BTreeMap<i64, Vec<Option<Hash>>>,
    /// The tree of the stored hashes; where none is stored, of the event's.
    stored: Frontier,
    /// The first event since the last good checkpoint whose stored hash is another.
    suspect: Option<i64>,
    /// Full tiles that are not stored as the events have them, and what is wrong with each.
    tiles: Vec<(Place, &'static str)>,
    report: Report,
}

impl Checking {
    fn size(&self) -> i64 {
        self.tree.size() as i64
    }

    fn expect(&mut self, size: i64, root: Option<Hash>) {
        self.signed.entry(size).or_default().push(root);
    }

    /// Adds an event; whether it makes sense to go on.
    fn event(&mut self, position: i64, hash: Hash, tiles: &Tiles) -> bool {
        let next = self.size() + 1;
        if position != next {
            let what = if position > next {
                "the event is missing"
            } else {
                "no event has this position"
            };
            self.bad(position.min(next), what);
            return false;
        }
        let stored = tiles.leaf(self.tree.size());
        if stored.is_some_and(|stored| stored != hash) {
            self.suspect.get_or_insert(position);
        }
        self.tree.push(hash);
        self.stored.push(0, stored.unwrap_or(hash));
        let roots = self.signed.remove(&position).unwrap_or_default();
        roots.into_iter().all(|root| self.compare(position, root))
    }

    fn compare(&mut self, size: i64, root: Option<Hash>) -> bool {
        match root {
            None => {
                let problem = format!("checkpoint {size} is not as it was signed");
                self.report.problems.push(problem);
            }
            Some(root) if root == self.tree.root() => {
                if let Some(position) = self.suspect.take() {
                    let problem = format!(
                        "the stored hash of event {position} was altered; the event is as it was signed"
                    );
                    self.report.problems.push(problem);
                }
                // What was altered beside the events is told, and leads nowhere from here.
                self.stored = self.tree.frontier().clone();
                self.report.good_until = size;
                self.report.checkpoints += 1;
            }
            Some(signed) => {
                let position = self.report.good_until + 1;
                self.report.first_bad = Some(match self.suspect {
                    // The stored hashes are those that were signed, so they tell where.
                    Some(position) if self.stored.root() == signed => Bad::at(position, ALTERED),
                    _ => Bad {
                        position,
                        until: size,
                        what: ALTERED,
                    },
                });
                return false;
            }
        }
        true
    }

    /// Compares the tiles that have become full with those that are stored.
    fn tiles(&mut self, stored: &Tiles) {
        for (place, hashes) in self.tree.take_full() {
            match stored.stored(place) {
                Some(stored) if stored == hashes => {}
                Some(_) => self.tiles.push((place, "was altered")),
                None => self.tiles.push((place, "is missing")),
            }
        }
    }

    /// Tells of tiles over events that are as they were signed, as far as the stored tree reaches.
    fn tell_tiles(&mut self, reached: i64) {
        let until = reached.min(self.report.good_until).unsigned_abs();
        let known = self.tiles.drain(..);
        let told = known.filter(|(place, _)| full_at(*place) <= until);
        self.report
            .problems
            .extend(told.map(|((level, number), what)| {
                format!("tile {number} of level {level} of the stored hashes {what}")
            }));
    }

    /// The next hashes are added to what is stored of the newest tree: it has to be the one that was signed.
    fn edge(&mut self, last: &Stored, edge: Result<Edge, TreeError>) -> Result<(), sqlx::Error> {
        let is_good = match edge {
            Ok(edge) => last.root == edge.root().0,
            Err(TreeError::Database(error)) => return Err(error),
            Err(_) => false,
        };
        if !is_good {
            let size = last.size;
            let problem = format!(
                "the stored hashes that the tree goes on from are not those of checkpoint {size}"
            );
            self.report.problems.push(problem);
        }
        Ok(())
    }

    fn ends(&mut self) {
        self.bad(
            self.size() + 1,
            "the event is missing, and so is everything after it",
        );
    }

    /// What was suspect before is bad as well, and comes first.
    fn bad(&mut self, position: i64, what: &'static str) {
        self.report.first_bad = Some(match self.suspect {
            Some(position) => Bad::at(position, ALTERED),
            None => Bad::at(position, what),
        });
    }
}

const ALTERED: &str = "the event is not the one that was signed";
