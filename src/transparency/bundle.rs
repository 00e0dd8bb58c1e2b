//! Makes bundles: everything that the verifier needs to know about one stream.

use std::io::Write;

use anyhow::{Context as _, ensure};
use sqlx::PgPool;

use super::checkpoints::Current;
use super::frontier::cover;
use super::texts::Statement;
use super::tiles::Tiles;
use super::verify::{FORM, Gap, Header, pieces};
use crate::store::leaf::{has_plain_numbers, leaf};
use crate::store::log::{self, StoredRow};

/// Events that are read at a time.
const PAGE: i64 = 500;

/// What a bundle is to be about.
pub struct Wanted<'a> {
    /// Type of the stream.
    pub stream_type: &'a str,
    /// Id of the stream.
    pub stream_id: &'a str,
    /// An earlier checkpoint that the tree is to be compared with.
    pub previous: Option<&'a str>,
    /// Whether all events of the log come along, which proves that the stream has no others.
    pub full: bool,
}

/// Writes the bundle of a stream as of the newest checkpoint; how many events of it there are. `show` hears of how many
/// lines there are and will be.
///
/// # Errors
/// When nothing was signed yet, there is no such stream, events of it are missing, or the database does not answer.
pub async fn write(
    pool: &PgPool,
    now: &Current,
    wanted: &Wanted<'_>,
    mut out: impl Write,
    mut show: impl FnMut(i64, i64),
) -> anyhow::Result<u64> {
    let newest = now.newest();
    let (last, checkpoint) =
        newest.context("the log has not signed a checkpoint yet: the service does when it runs")?;
    let stream = (wanted.stream_type, wanted.stream_id);
    let counted = log::counted(pool, stream, last.size).await?;
    // Nobody else could tell that the last events of a stream were taken away: the log's word is all that there is.
    ensure!(
        counted.agrees(),
        "the log has {} events of {}/{} where it has written {}: run `mana-auth verify-log`",
        counted.events,
        stream.0,
        stream.1,
        counted.version
    );
    let events = counted.until;
    ensure!(
        events > 0,
        "there is no stream {}/{} in the signed log",
        stream.0,
        stream.1
    );
    let statement = Statement {
        origin: checkpoint.origin().to_owned(),
        stream_type: stream.0.to_owned(),
        stream_id: stream.1.to_owned(),
        events: events.unsigned_abs(),
        size: checkpoint.size(),
        root: *checkpoint.hash(),
    };
    let text = statement
        .text()
        .context("the names of this stream cannot be signed")?;
    let cut = wanted.previous.map(|note| size_of(note, now)).transpose()?;
    let header = Header {
        form: FORM.to_owned(),
        stream_type: statement.stream_type,
        stream_id: statement.stream_id,
        events: statement.events,
        checkpoint: last.note.clone(),
        statement: now.signer.sign(&text).context("signing the statement")?,
        previous: wanted.previous.map(str::to_owned),
    };
    writeln!(out, "{}", serde_json::to_string(&header)?)?;

    let total = if wanted.full { last.size } else { events };
    let (mut written, mut at) = (0, 0);
    loop {
        let page = match wanted.full {
            true => log::after(pool, at, PAGE.min(last.size - at)).await?,
            false => log::in_stream(pool, stream, (written, last.size), PAGE).await?,
        };
        let Some(end) = page.last().map(|event| event.position) else {
            break;
        };
        let gaps: Vec<_> = gaps_between(at, &page).collect();
        let mut hashes = hashes(pool, &gaps, cut).await?.into_iter();
        for event in &page {
            if event.position > at + 1 {
                write_gap(&mut out, event.position - 1, hashes.next())?;
            }
            ensure!(
                has_plain_numbers(event),
                "event {} is not as it was written: run `mana-auth verify-log`",
                event.position
            );
            out.write_all(&leaf(event)?)?;
            out.write_all(b"\n")?;
            at = event.position;
            written += 1;
        }
        show(written, total);
        if end == last.size {
            break;
        }
    }
    if at < last.size {
        let rest = hashes(pool, &[(at, last.size)], cut).await?;
        write_gap(&mut out, last.size, rest.into_iter().next())?;
    }
    out.flush()?;
    Ok(statement.events)
}

/// The size of an earlier checkpoint, which has to be one of this log.
fn size_of(note: &str, now: &Current) -> anyhow::Result<u64> {
    let read = now
        .open(note)
        .context("the earlier checkpoint is not signed by this log")?;
    Ok(read.size())
}

/// The leaves between events, as what comes before them and their last one.
fn gaps_between(at: i64, page: &[StoredRow]) -> impl Iterator<Item = (i64, i64)> {
    let before = std::iter::once(at).chain(page.iter().map(|event| event.position));
    let gaps = before
        .zip(page)
        .map(|(before, event)| (before, event.position - 1));
    gaps.filter(|(before, until)| before < until)
}

/// The subtrees in gaps, gap by gap.
async fn hashes(
    pool: &PgPool,
    gaps: &[(i64, i64)],
    cut: Option<u64>,
) -> anyhow::Result<Vec<Vec<String>>> {
    let of_gap = |tiles: &Tiles, (from, until): &(i64, i64)| {
        let mut at = from.unsigned_abs();
        let mut hashes = vec![];
        for end in pieces(at, until.unsigned_abs(), cut) {
            hashes.extend(
                cover(at, end).map(|(level, number)| tiles.node(level, number).to_string()),
            );
            at = end;
        }
        hashes
    };
    let all = |tiles: &Tiles| Ok(gaps.iter().map(|gap| of_gap(tiles, gap)).collect());
    Ok(Tiles::answer(pool, all).await?)
}

fn write_gap(out: &mut impl Write, until: i64, hashes: Option<Vec<String>>) -> anyhow::Result<()> {
    let hashes = hashes.context("each gap has hashes")?;
    writeln!(
        out,
        "{}",
        serde_json::to_string(&Gap(until.unsigned_abs(), hashes))?
    )?;
    Ok(())
}
