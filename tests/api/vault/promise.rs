//! The promise of zero-knowledge mode: whoever has the whole database and all keys of the service cannot give the key
//! out.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mana_auth::crypto::aead::{self, Key32};
use mana_auth::crypto::hex;
use mana_auth::custody::{ONLY, kind};
use serde_json::{Value, json};

use super::Mode::{Standard, WithRecovery};
use super::{bring_to, off, on, wrap};
use crate::client::{Session, UNVERIFIED};
use crate::harness::TestApp;

/// Somebody with a dump and the key ring, who tries everything.
struct Adversary {
    dump: String,
    /// Every key that the service has, or gets at with those that it has.
    keys: Vec<Key32>,
    /// Everything in the dump that may be bytes: in base64 or in hexadecimal digits.
    bytes: BTreeSet<Vec<u8>>,
}

impl Adversary {
    async fn of(app: &TestApp, who: &Session) -> Self {
        let dump = app.dump().await;
        let is_word = |c: char| c.is_ascii_alphanumeric() || "+/=-_".contains(c);
        let words: BTreeSet<&str> = dump
            .split(|c| !is_word(c))
            .filter(|word| word.len() >= 16)
            .collect();
        let mut bytes = BTreeSet::new();
        for word in words {
            // Bytes are shown as \x and digits.
            let digits = word.strip_prefix('x').unwrap_or(word);
            bytes.extend(hex::decode_all(digits));
            bytes.extend(STANDARD.decode(word));
        }
        let custody = app.app.store.custody();
        let mut keys = vec![Key32::from_bytes([0; 32])];
        let secrets = [
            (kind::DATA_KEY, who.user_id.as_str(), ONLY),
            (kind::SERVICE, "service", "root-1"),
        ];
        for (kind, owner, id) in secrets {
            let secret = custody.read(kind, owner, id).await.unwrap().unwrap();
            keys.push(Key32::from_bytes(
                secret.bytes.as_slice().try_into().unwrap(),
            ));
        }
        // Whatever is a key's length may be one.
        let of_length = bytes
            .iter()
            .filter_map(|bytes| bytes.as_slice().try_into().ok());
        keys.extend(of_length.map(Key32::from_bytes));
        Self { dump, keys, bytes }
    }

    /// Whether it gets at a key: as it stands somewhere, or wrapped by any key, for any place.
    fn recovers(&self, who: &Session, key: &[u8; 32]) -> bool {
        let stands = [hex::encode(key), STANDARD.encode(key)];
        if stands.iter().any(|form| self.dump.contains(form)) || self.bytes.contains(key.as_slice())
        {
            return true;
        }
        let places = places(&who.user_id);
        let nonces: Vec<[u8; 12]> = self
            .bytes
            .iter()
            .filter_map(|bytes| bytes.as_slice().try_into().ok())
            .collect();
        let mut candidates: Vec<([u8; 12], &[u8])> = Vec::new();
        for bytes in &self.bytes {
            match bytes.len() {
                48 => candidates.extend(nonces.iter().map(|nonce| (*nonce, bytes.as_slice()))),
                60 => candidates.push((bytes[..12].try_into().unwrap(), &bytes[12..])),
                _ => {}
            }
        }
        candidates.iter().any(|(nonce, ciphertext)| {
            self.keys.iter().any(|kek| {
                places.iter().any(|place| {
                    aead::open(kek, nonce, place, ciphertext)
                        .is_ok_and(|open| open.as_slice() == key)
                })
            })
        })
    }
}

/// Every place that a key of this person could have been wrapped for.
fn places(user_id: &str) -> Vec<Vec<u8>> {
    let mut places = vec![vec![]];
    for version in 0..8 {
        let version = version.to_string();
        places.push(aead::aad(&["vault", user_id, &version, "env-v1", "1"]));
    }
    for kind in ["data_key", "recovery_wrap", "service", "password"] {
        places.push(aead::aad(&["custody", kind, user_id, "1", "env-v1", "1"]));
    }
    places
}

fn bytes_of(key: &str) -> [u8; 32] {
    STANDARD.decode(key).unwrap().try_into().unwrap()
}

/// S-78: before it is switched on the search finds the key, so it is able to; afterwards it finds none that there ever
/// was.
#[tokio::test]
async fn zero_knowledge_mode_leaves_nothing_that_the_service_could_open_s78() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let mut keys = vec![bring_to(&app, &ada, Standard).await];
    assert!(
        Adversary::of(&app, &ada)
            .await
            .recovers(&ada, &bytes_of(&keys[0]))
    );
    let rotated = app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    keys.push(rotated["masterKey"].as_str().unwrap().to_owned());
    let adversary = Adversary::of(&app, &ada).await;
    assert!(
        !adversary.recovers(&ada, &bytes_of(&keys[0])),
        "a rotation destroys the key before"
    );
    assert!(adversary.recovers(&ada, &bytes_of(&keys[1])));

    // Kept in any form by mistake, it would be found: beside the row, or in an event.
    let row: (String, String) = sqlx::query_as("select wrapped_mk, wrap_iv from encryption_vaults")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("w"))
        .await;
    for _ in 0..3 {
        app.vault_key(&ada).await;
    }
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    // While the mail about it is still in the queue, and after it has left.
    for _ in 0..2 {
        let adversary = Adversary::of(&app, &ada).await;
        for key in &keys {
            assert!(!adversary.recovers(&ada, &bytes_of(key)));
        }
        app.effects_done().await;
    }
    sqlx::raw_sql("create table forgotten (note text)")
        .execute(&app.admin)
        .await
        .unwrap();
    let note = json!({"wrappedMk": row.0, "wrapIv": row.1}).to_string();
    sqlx::query("insert into forgotten values ($1)")
        .bind(note)
        .execute(&app.admin)
        .await
        .unwrap();
    assert!(
        Adversary::of(&app, &ada)
            .await
            .recovers(&ada, &bytes_of(&keys[1])),
        "the wrap was kept"
    );
    sqlx::raw_sql("drop table forgotten")
        .execute(&app.admin)
        .await
        .unwrap();

    // Handed back it can be opened again, and then it cannot.
    app.vault_does(&ada, "POST", "/zero-knowledge", &off(&keys[1]))
        .await;
    assert!(
        Adversary::of(&app, &ada)
            .await
            .recovers(&ada, &bytes_of(&keys[1]))
    );
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    assert!(
        !Adversary::of(&app, &ada)
            .await
            .recovers(&ada, &bytes_of(&keys[1]))
    );
}

/// I-5: no event holds a key or a wrap, in the clear or sealed.
#[tokio::test]
async fn no_event_holds_a_key_or_a_wrap_i5() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let key = bring_to(&app, &ada, WithRecovery).await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    app.vault_does(&ada, "GET", "/key", &Value::Null).await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &off(&key))
        .await;
    let row: Value = sqlx::query_scalar("select to_jsonb(v) from encryption_vaults v")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    let text = |name: &str| {
        row[name]
            .as_str()
            .unwrap()
            .trim_start_matches("\\x")
            .to_owned()
    };
    let mut secrets = vec![key, "first-wrapped".to_owned(), "first-iv".to_owned()];
    secrets.extend(["wrapped_mk", "wrap_iv", "key_check"].map(text));
    let events = app.vault_events(&ada.user_id).await;
    // As stored, and with everything open that can be opened.
    let opened = serde_json::to_string(&events).unwrap();
    let stored: Vec<String> =
        sqlx::query_scalar("select e::text from events e where aggregate_type = 'vault'")
            .fetch_all(&app.admin)
            .await
            .unwrap();
    let all = stored.join("\n") + &opened;
    assert!(all.len() > 1000);
    for secret in secrets {
        assert!(!all.contains(&secret), "{secret}");
    }
}
