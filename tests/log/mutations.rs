//! Ways to forge a bundle.

use mana_auth::crypto::notes::{Signer, Verifier};
use mana_auth::transparency::verify::Header;
use serde_json::{Value, json};

use crate::forgery::{FULL, Log};

/// A small generator of chances: the same run each time.
pub struct Chance(pub u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX constants; the upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }
}

/// The lines of a bundle, each with its end.
pub fn lines(bundle: &[u8]) -> Vec<Vec<u8>> {
    bundle
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

pub fn header(bundle: &[u8]) -> Header {
    serde_json::from_slice(&lines(bundle)[0]).unwrap()
}

pub fn with_header(bundle: &[u8], header: &Header) -> Vec<u8> {
    let mut lines = lines(bundle);
    lines[0] = format!("{}\n", serde_json::to_string(header).unwrap()).into();
    lines.concat()
}

/// Changes a number in one line.
fn renumbered(line: &[u8], name: &str, by: i64) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    let marker = format!("\"{name}\":");
    let Some((before, rest)) = text.rsplit_once(&marker) else {
        return line.to_vec();
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
    let Ok(number) = rest[..end].parse::<i64>() else {
        return line.to_vec();
    };
    format!("{before}{marker}{}{}", number + by, &rest[end..]).into()
}

/// Changes the hashes of a gap.
fn other_gap(line: &[u8], chance: &mut Chance) -> Vec<u8> {
    let Ok(Value::Array(mut gap)) = serde_json::from_slice(line) else {
        return line.to_vec();
    };
    let until = gap[0].as_u64().unwrap();
    let hashes = gap[1].as_array_mut().unwrap();
    let (one, other) = (chance.below(hashes.len()), chance.below(hashes.len()));
    match chance.below(5) {
        0 => hashes.swap(one, other),
        1 => drop(hashes.remove(one)),
        2 => hashes.insert(one, hashes[other].clone()),
        3 => hashes[one] = json!(tlog_tiles::record_hash(&[other as u8]).to_string()),
        _ => gap[0] = json!(until + 1 + one as u64),
    }
    format!("{}\n", Value::Array(gap)).into()
}

/// A bundle that was altered in one way or another, with the checkpoint that it is compared with and the key.
pub fn mutation(
    log: &Log,
    foreign: &Signer,
    chance: &mut Chance,
) -> (Vec<u8>, Option<String>, Verifier) {
    let original = &log.bundles[chance.below(log.bundles.len())];
    let other = &log.bundles[chance.below(log.bundles.len())];
    let mut all = lines(original);
    let (one, two) = (
        1 + chance.below(all.len() - 1),
        1 + chance.below(all.len() - 1),
    );
    let mut previous = None;
    let mut key = log.key.clone();
    let mut head = header(original);
    let altered = match chance.below(16) {
        0..3 => {
            let mut bytes = original.clone();
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
            bytes
        }
        3 => {
            all.remove(one);
            all.concat()
        }
        4 => {
            all.swap(one, two);
            all.concat()
        }
        5 => {
            all.insert(two, all[one].clone());
            all.concat()
        }
        6 => {
            let name = ["position", "sequence"][chance.below(2)];
            all[one] = renumbered(&all[one], name, 1 - 2 * chance.below(2) as i64);
            all.concat()
        }
        7 => original[..chance.below(original.len())].to_vec(),
        8 => {
            all.truncate(one);
            all.concat()
        }
        9 => {
            // An old checkpoint, a newer one, or that of another key, in place of the bundle's.
            let text = log.key.open(&head.checkpoint).unwrap();
            head.checkpoint = match chance.below(3) {
                0 => log.earlier.clone(),
                1 => log.later.clone(),
                _ => foreign.sign(&text).unwrap(),
            };
            with_header(original, &head)
        }
        10 => {
            let more = chance.below(2) == 0;
            head.events = if more {
                head.events + 1
            } else {
                head.events - 1
            };
            with_header(original, &head)
        }
        11 => {
            // What is true of one stream, for another.
            let others = header(other);
            match chance.below(4) {
                0 => head.stream_id = others.stream_id,
                1 => head.stream_type = others.stream_type,
                2 => head.statement = others.statement,
                // With all events any stream of the log can be shown.
                _ if original == &log.bundles[FULL] => head.events += 1,
                _ => head = others,
            }
            with_header(original, &head)
        }
        12 => {
            let others = lines(other);
            all[one] = others[1 + chance.below(others.len() - 1)].clone();
            all.concat()
        }
        13 => {
            all[one] = other_gap(&all[one], chance);
            all.concat()
        }
        14 => {
            key = foreign.verifier();
            original.clone()
        }
        _ => {
            // The log has grown since: whoever shows this keeps something back.
            previous = Some(log.later.clone());
            original.clone()
        }
    };
    (altered, previous, key)
}
