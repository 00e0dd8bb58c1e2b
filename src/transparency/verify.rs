//! The verifier: what a bundle proves about one stream, from the bundle and the log's key alone. It knows no database and
//! no service, so that whoever checks us needs neither.
//!
//! A bundle is lines of text. The first is a [`Header`]. Then come, from the first leaf of the tree to the last, events
//! as their leaves, and for the leaves between them the perfect subtrees that they are in: `[UNTIL,["HASH",…]]`. The tree
//! that these make is the one that was signed, or nothing is proved. Every byte counts: a bundle in another form is none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tlog_tiles::{Checkpoint, Hash, record_hash};

use super::frontier::{Frontier, cover};
pub use super::outcome::{Proven, Refused};
use super::texts::{self, Statement};
use crate::crypto::notes::Verifier;

/// The only form of bundles that there is.
pub const FORM: &str = "mana-auth stream bundle 1";

/// First line of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`FORM`].
    pub form: String,
    /// Type of the stream.
    pub stream_type: String,
    /// Id of the stream.
    pub stream_id: String,
    /// How many events of it there are.
    pub events: u64,
    /// The signed root of the tree.
    pub checkpoint: String,
    /// The signed statement that there are no more events.
    pub statement: String,
    /// An earlier checkpoint that the tree has grown from: the bundle shows the tree at its size, too.
    pub previous: Option<String>,
}

/// What the verifier reads of an event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    #[serde(borrow)]
    aggregate_id: Cow<'a, str>,
    #[serde(borrow)]
    aggregate_type: Cow<'a, str>,
    position: u64,
    sequence: u64,
    #[serde(rename = "event_id")]
    _event_id: IgnoredAny,
    #[serde(rename = "event_type")]
    _event_type: IgnoredAny,
    #[serde(rename = "event_version")]
    _event_version: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(rename = "payload")]
    _payload: IgnoredAny,
    #[serde(rename = "recorded_at")]
    _recorded_at: IgnoredAny,
}

/// Leaves that are not shown: until which one, and their subtrees.
#[derive(Serialize, Deserialize)]
pub struct Gap(pub u64, pub Vec<String>);

/// Checks a bundle against the key of the log, and against a checkpoint that was seen earlier.
///
/// # Errors
/// When anything about it is not as it was signed.
pub fn verify(
    bundle: impl BufRead,
    key: &Verifier,
    previous: Option<&str>,
) -> Result<Proven, Refused> {
    let mut lines = Lines {
        bundle,
        number: 0,
        text: String::new(),
    };
    let header = header(&mut lines)?;
    let checkpoint = signed_checkpoint(&header.checkpoint, key, "checkpoint")?;
    let earlier = |note: &str| signed_checkpoint(note, key, "earlier checkpoint");
    let previous = previous.map(earlier).transpose()?;
    let shown = header.previous.as_deref().map(earlier).transpose()?;
    check_statement(&header, &checkpoint, key)?;
    let mut reading = Reading {
        header: &header,
        size: checkpoint.size(),
        cut: shown.as_ref().map(Checkpoint::size),
        earlier: shown
            .iter()
            .chain(&previous)
            .map(|c| (c.size(), None))
            .collect(),
        tree: Frontier::default(),
        found: 0,
        complete: true,
    };
    reading.look();
    while let Some(line) = lines.next()? {
        let added = match line.starts_with('[') {
            true => reading.gap(line),
            false => reading.event(line),
        };
        added.map_err(|what| lines.refused(what))?;
    }
    reading.ends_at(&checkpoint, shown.as_ref(), previous.as_ref())
}

fn header(lines: &mut Lines<impl BufRead>) -> Result<Header, Refused> {
    let parse = |line: &str| {
        let header: Header = serde_json::from_str(line).ok()?;
        let again = serde_json::to_string(&header).ok()?;
        (header.form == FORM && again == line).then_some(header)
    };
    let parsed = lines.next()?.and_then(parse);
    parsed.ok_or_else(|| lines.refused("not the first line of a bundle"))
}

/// Reads a checkpoint that a log has signed; `what` it is, in the words of a refusal.
///
/// # Errors
/// When it is none, or is not signed by this key.
pub fn signed_checkpoint(
    note: &str,
    key: &Verifier,
    what: &'static str,
) -> Result<Checkpoint, Refused> {
    let text = key.open(note).ok_or(Refused::NotSigned(what))?;
    let checkpoint = texts::read_checkpoint(&text).ok_or(Refused::Another(what))?;
    match checkpoint.origin() == key.name() {
        true => Ok(checkpoint),
        false => Err(Refused::Another(what)),
    }
}

fn check_statement(
    header: &Header,
    checkpoint: &Checkpoint,
    key: &Verifier,
) -> Result<(), Refused> {
    let signed = key
        .open(&header.statement)
        .ok_or(Refused::NotSigned("statement"))?;
    let said = Statement {
        origin: checkpoint.origin().to_owned(),
        stream_type: header.stream_type.clone(),
        stream_id: header.stream_id.clone(),
        events: header.events,
        size: checkpoint.size(),
        root: *checkpoint.hash(),
    };
    match said.text() == Some(signed) {
        true => Ok(()),
        false => Err(Refused::Another("statement")),
    }
}

/// How far a bundle was read.
struct Reading<'a> {
    header: &'a Header,
    /// Of the tree that was signed.
    size: u64,
    /// Size of the earlier checkpoint that the bundle was made with.
    cut: Option<u64>,
    /// Sizes of earlier checkpoints, and the root of the tree when it had them.
    earlier: BTreeMap<u64, Option<Hash>>,
    tree: Frontier,
    /// Events of the stream.
    found: u64,
    /// No leaf was left out.
    complete: bool,
}

impl Reading<'_> {
    /// Takes note of the root where an earlier checkpoint has to be compared.
    fn look(&mut self) {
        if let Some(root) = self.earlier.get_mut(&self.tree.size()) {
            *root = Some(self.tree.root());
        }
    }

    fn gap(&mut self, line: &str) -> Result<(), &'static str> {
        let Gap(until, hashes) = serde_json::from_str(line).map_err(|_| "no gap")?;
        let gap = Gap(until, hashes);
        if serde_json::to_string(&gap).as_deref().ok() != Some(line) {
            return Err("a gap in another form");
        }
        let Gap(_, hashes) = gap;
        if until <= self.tree.size() || until > self.size {
            return Err("a gap that leads nowhere");
        }
        let mut hashes = hashes.iter();
        for step in pieces(self.tree.size(), until, self.cut) {
            for (level, _) in cover(self.tree.size(), step) {
                let hash = hashes.next().and_then(|text| read_hash(text));
                self.tree
                    .push(level, hash.ok_or("a gap without its hashes")?);
            }
            self.look();
        }
        self.complete = false;
        match hashes.next() {
            None => Ok(()),
            Some(_) => Err("a gap with too many hashes"),
        }
    }

    fn event(&mut self, line: &str) -> Result<(), &'static str> {
        let event: Event<'_> = serde_json::from_str(line).map_err(|_| "no event")?;
        if self.tree.size() >= self.size {
            return Err("an event after the last one of the tree");
        }
        if event.position != self.tree.size() + 1 {
            return Err("an event at another position than its own");
        }
        if event.aggregate_type == self.header.stream_type
            && event.aggregate_id == self.header.stream_id
        {
            self.found += 1;
            if event.sequence != self.found {
                return Err("not the next event of the stream");
            }
        }
        self.tree.push(0, record_hash(line.as_bytes()));
        self.look();
        Ok(())
    }

    fn ends_at(
        self,
        checkpoint: &Checkpoint,
        shown: Option<&Checkpoint>,
        previous: Option<&Checkpoint>,
    ) -> Result<Proven, Refused> {
        let (at, size) = (self.tree.size(), checkpoint.size());
        if at != size {
            return Err(Refused::Cut { at, size });
        }
        if self.tree.root() != *checkpoint.hash() {
            return Err(Refused::OtherTree);
        }
        let (found, said) = (self.found, self.header.events);
        if found != said {
            return Err(Refused::Count { found, said });
        }
        for checkpoint in shown.into_iter().chain(previous) {
            let previous = checkpoint.size();
            if previous > size {
                return Err(Refused::Older { size, previous });
            }
            let root = self.earlier.get(&previous).copied().flatten();
            if root.ok_or(Refused::NotShown(previous))? != *checkpoint.hash() {
                return Err(Refused::SplitView(previous));
            }
        }
        Ok(Proven {
            origin: checkpoint.origin().to_owned(),
            size,
            root: checkpoint.hash().to_string(),
            stream_type: self.header.stream_type.clone(),
            stream_id: self.header.stream_id.clone(),
            events: found,
            complete: self.complete,
            previous: previous.map(Checkpoint::size),
        })
    }
}

/// The ends of the pieces of a gap: it is cut where an earlier checkpoint is compared.
pub fn pieces(from: u64, until: u64, cut: Option<u64>) -> impl Iterator<Item = u64> {
    let cut = cut.filter(|cut| from < *cut && *cut < until);
    cut.into_iter().chain([until])
}

fn read_hash(text: &str) -> Option<Hash> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(Hash(bytes.try_into().ok()?))
}

/// The lines of a bundle, each with its end.
struct Lines<R> {
    bundle: R,
    number: u64,
    text: String,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<&str>, Refused> {
        self.text.clear();
        self.number += 1;
        let read = self.bundle.read_line(&mut self.text);
        match read {
            Ok(0) => Ok(None),
            Ok(_) => match self.text.strip_suffix('\n') {
                Some(line) => Ok(Some(line)),
                None => Err(Refused::Line {
                    line: self.number,
                    what: "cut off",
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.refused("no text"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn refused(&self, what: &'static str) -> Refused {
        Refused::Line {
            line: self.number,
            what,
        }
    }
}
