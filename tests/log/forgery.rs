//! Forged bundles: nothing that was altered is accepted, everything true is; by the service's verifier and by a second
//! one that was written independently.

use mana_auth::crypto::aead::Key32;
use mana_auth::crypto::notes::{Signer, Verifier};
use mana_auth::transparency::bundle::{self, Wanted};
use mana_auth::transparency::checkpoints::Current;
use mana_auth::transparency::texts::{self, Statement};
use mana_auth::transparency::verify::{self, Proven, Refused};
use serde_json::{Value, json};

use crate::harness::TestApp;
use crate::mutations::{Chance, header, lines, mutation, with_header};
use crate::people::{Person, person};
use crate::rfc9162;
use crate::tree::{current, grow, leaves, signed};

const MUTATIONS: usize = 10_000;
/// Which bundle holds all events.
pub const FULL: usize = 6;

/// A log with bundles of several streams, taken at several times.
pub struct Log {
    app: TestApp,
    now: Current,
    pub key: Verifier,
    /// A checkpoint from before the bundles.
    pub earlier: String,
    /// A checkpoint from after the bundles.
    pub later: String,
    pub bundles: Vec<Vec<u8>>,
}

async fn bundle(
    app: &TestApp,
    now: &Current,
    stream: (&str, &str),
    previous: Option<&str>,
    full: bool,
) -> Vec<u8> {
    let wanted = Wanted {
        stream_type: stream.0,
        stream_id: stream.1,
        previous,
        full,
    };
    let mut bundle = vec![];
    bundle::write(&app.app.pool, now, &wanted, &mut bundle, |_, _| {})
        .await
        .unwrap();
    bundle
}

async fn log() -> Log {
    let app = TestApp::start(&[]).await;
    let people: Vec<Person> = ["Ada", "Bob", "Cy"].map(person).into();
    for somebody in &people {
        somebody.sign_up(&app.app).await.unwrap();
    }
    grow(&app, "filler", 9).await;
    for round in 0..4 {
        for somebody in &people {
            somebody
                .rename(&app.app, &format!("{} {round}", somebody.name))
                .await
                .unwrap();
        }
    }
    let earlier = signed(&app).await.note;
    for round in 0..6 {
        for somebody in &people {
            somebody
                .rename(&app.app, &format!("{round} {}", somebody.name))
                .await
                .unwrap();
        }
        grow(&app, &format!("filler {round}"), 3 + round).await;
    }
    signed(&app).await;
    let now = current(&app).await;
    let mut bundles = vec![];
    for somebody in &people {
        let stream = ("user", somebody.id.as_str());
        bundles.push(bundle(&app, &now, stream, None, false).await);
        bundles.push(bundle(&app, &now, stream, Some(&earlier), false).await);
    }
    bundles.push(bundle(&app, &now, ("user", people[0].id.as_str()), None, true).await);
    bundles.push(bundle(&app, &now, ("test", "filler"), None, false).await);
    grow(&app, "after", 2).await;
    let later = signed(&app).await.note;
    let key = now.signer.verifier();
    Log {
        app,
        now,
        key,
        earlier,
        later,
        bundles,
    }
}

impl Log {
    fn ours(&self, bundle: &[u8], previous: Option<&str>) -> Result<Proven, Refused> {
        verify::verify(bundle, &self.key, previous)
    }

    /// Whether both accept a bundle; they agree.
    fn accepted(&self, bundle: &[u8], key: &Verifier, previous: Option<&str>) -> bool {
        let ours = verify::verify(bundle, key, previous);
        let other = rfc9162::proves(bundle, &key.to_string(), previous);
        let text = String::from_utf8_lossy(bundle);
        assert_eq!(ours.is_ok(), other.is_some(), "{ours:?}: {text}");
        ours.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn true_bundles_are_accepted_and_ten_thousand_forged_ones_are_not() {
    let log = log().await;
    let head = header(&log.bundles[0]);
    for bundle in &log.bundles {
        assert!(log.accepted(bundle, &log.key, None));
        let same = Some(head.checkpoint.as_str());
        assert!(
            log.accepted(bundle, &log.key, same),
            "compared with its own checkpoint"
        );
    }
    let proven = log.ours(&log.bundles[1], Some(&log.earlier)).unwrap();
    assert_eq!((proven.events, proven.complete), (12, false));
    assert!(proven.previous.is_some());
    assert!(log.accepted(&log.bundles[1], &log.key, Some(&log.earlier)));
    let full = log.ours(&log.bundles[FULL], Some(&log.earlier)).unwrap();
    assert!(full.complete, "and shows every size of its tree");
    let hidden = log.ours(&log.bundles[2], Some(&log.earlier));
    assert!(matches!(hidden, Err(Refused::NotShown(_))), "{hidden:?}");

    let foreign = Signer::new(log.key.name(), &Key32::from_bytes([9; 32])).unwrap();
    let mut chance = Chance(20_261_126);
    let mut forged = 0;
    while forged < MUTATIONS {
        let (altered, previous, key) = mutation(&log, &foreign, &mut chance);
        if key == log.key && previous.is_none() && log.bundles.contains(&altered) {
            continue;
        }
        let accepted = log.accepted(&altered, &key, previous.as_deref());
        assert!(!accepted, "{}", String::from_utf8_lossy(&altered));
        forged += 1;
    }
}

/// The signer itself tells one thing to one and another thing to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_view_is_found_by_whoever_kept_a_checkpoint() {
    let log = log().await;
    let full = &log.bundles[FULL];
    let mut all = lines(full);
    // History as it never was, signed by the true key.
    let text = String::from_utf8(all[3].clone()).unwrap();
    all[3] = text
        .replace("\"metadata\":{", "\"metadata\":{\"a\":1,")
        .into();
    assert_ne!(all[3], lines(full)[3]);
    let hashes: Vec<rfc9162::Hash> = all[1..]
        .iter()
        .map(|line| rfc9162::leaf_hash(line.trim_ascii_end()))
        .collect();
    let root = tlog_tiles::Hash(rfc9162::tree_head(&hashes).try_into().unwrap());
    let mut head = header(full);
    let size = hashes.len() as u64;
    let statement = Statement {
        origin: log.key.name().to_owned(),
        stream_type: head.stream_type.clone(),
        stream_id: head.stream_id.clone(),
        events: head.events,
        size,
        root,
    };
    head.checkpoint = log
        .now
        .signer
        .sign(&texts::checkpoint(log.key.name(), size, root))
        .unwrap();
    head.statement = log.now.signer.sign(&statement.text().unwrap()).unwrap();
    let forked = with_header(&all.concat(), &head);
    assert!(
        log.accepted(&forked, &log.key, None),
        "alone it is a true bundle of another history"
    );
    for kept in [&log.earlier, &header(full).checkpoint] {
        assert!(!log.accepted(&forked, &log.key, Some(kept)));
        let refused = log.ours(&forked, Some(kept));
        assert!(matches!(refused, Err(Refused::SplitView(_))), "{refused:?}");
    }
}

/// The signer keeps the last event of a stream back and signs that there are fewer: only all events together show it.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_keeps_an_event_back_is_found_in_a_full_bundle_only() {
    let log = log().await;
    let size = header(&log.bundles[0]).checkpoint;
    let (size, root) = rfc9162::checkpoint(&size, &log.key.to_string()).unwrap();
    let fewer = |bundle: &[u8]| {
        let mut head = header(bundle);
        head.events -= 1;
        let statement = Statement {
            origin: log.key.name().to_owned(),
            stream_type: head.stream_type.clone(),
            stream_id: head.stream_id.clone(),
            events: head.events,
            size,
            root: tlog_tiles::Hash(root.clone().try_into().unwrap()),
        };
        head.statement = log.now.signer.sign(&statement.text().unwrap()).unwrap();
        with_header(bundle, &head)
    };
    let refused = log.ours(&fewer(&log.bundles[FULL]), None);
    assert!(matches!(refused, Err(Refused::Count { .. })), "{refused:?}");

    // Without the event: its leaf becomes part of the gap.
    let leaves = leaves(&log.app.admin).await;
    let shown = lines(&fewer(&log.bundles[0]));
    let last = shown.iter().rposition(|line| line[0] == b'{').unwrap();
    let event: Value = serde_json::from_slice(&shown[last]).unwrap();
    let before: Value = serde_json::from_slice(&shown[last - 2]).unwrap();
    let from = before["position"].as_u64().unwrap();
    assert!(
        event["position"].as_u64().unwrap() > from + 1,
        "a gap is between them"
    );
    let hashes: Vec<String> = mana_auth::transparency::frontier::cover(from, size)
        .map(|(level, number)| {
            let first = (number << level) as usize;
            let hash = rfc9162::tree_head(&leaves[first..first + (1 << level)]);
            tlog_tiles::Hash(hash.try_into().unwrap()).to_string()
        })
        .collect();
    let mut shown = shown[..last - 1].to_vec();
    shown.push(format!("{}\n", json!([size, hashes])).into());
    let shown = shown.concat();
    assert!(
        log.accepted(&shown, &log.key, None),
        "the signer is taken at its word, and says so"
    );
    let words = log.ours(&shown, None).unwrap().words();
    assert!(words.contains("is taken at its word"), "{words}");
}
