//! `doctor` opens every secret with the configured keys.

use crate::doctor::{Found, examine, only};
use crate::place::Place;

const SECRETS: &str = "secrets open";
const KEYS: &str = "key-encryption keys are the right ones";
const NOT_CHECKED: &str = "events, streams and claims";

#[tokio::test]
async fn a_secret_that_was_altered_or_moved_is_found() {
    let place = Place::new().await;
    let (ada, bob) = (place.person("lovelace").await, place.person("hopper").await);
    let does_not_open = |kind: &str, owner: &str, why: &str| {
        format!("custody row {kind}/{owner}/1 does not open: {why}")
    };
    let altered =
        "the wrapped secret does not belong here or was altered: sealed bytes do not open";
    let alter = |column: &str, kind: &str| {
        format!(
            "update custody set {column} = set_byte({column}, 3, get_byte({column}, 3) # 1)
             where kind = '{kind}' and owner = '{ada}'"
        )
    };
    for column in ["ciphertext", "nonce"] {
        for kind in ["password", "data_key"] {
            place.tamper(&alter(column, kind)).await;
            let expected = only(SECRETS, [does_not_open(kind, &ada, altered)]);
            assert_eq!(examine(&place).await, expected);
            // The same again undoes it.
            place.tamper(&alter(column, kind)).await;
        }
    }
    assert_eq!(examine(&place).await, Found::new());

    let restored = |change: &str| {
        format!(
            "update custody set event_position = event_position {change} where owner = '{ada}' and kind = 'password'"
        )
    };
    place.tamper(&restored("- 1")).await;
    let older = format!(
        "custody row password/{ada}/1 is older than the log: it is not used until it is set anew"
    );
    assert_eq!(examine(&place).await, only(SECRETS, [older]));
    place.tamper(&restored("+ 1")).await;

    let unknown = format!(
        "update custody set kek_id = 'lost-v1' where owner = '{ada}' and kind = 'password'"
    );
    place.tamper(&unknown).await;
    let unknown = does_not_open(
        "password",
        &ada,
        "key-encryption key \"lost-v1\" is not configured",
    );
    assert_eq!(examine(&place).await, only(SECRETS, [unknown]));

    // Ada's own password row, whole, in Bob's place.
    place
        .tamper(&format!(
            "delete from custody where kind = 'password' and owner = '{bob}';
             update custody set kek_id = 'env-v1', owner = '{bob}' where kind = 'password' and owner = '{ada}'"
        ))
        .await;
    let moved = does_not_open("password", &bob, altered);
    assert_eq!(examine(&place).await, only(SECRETS, [moved]));
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let mut place = Place::new().await;
    place.person("lovelace").await;
    let before = place.everything().await;
    place.cli = place.cli.with(
        "MANA_AUTH_KEK",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
    );
    let found = examine(&place).await;
    assert_eq!(found[SECRETS].len(), 7);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        [NOT_CHECKED, KEYS, SECRETS]
    );
    let other = "key-encryption key \"env-v1\" is another one than this database knows by that id";
    assert_eq!(found[KEYS], [other]);
    assert!(found[NOT_CHECKED][0].starts_with("not checked: custody row service/service/pepper-1"));
    assert_eq!(place.everything().await, before);
}

#[tokio::test]
async fn a_pepper_that_is_gone_is_told_and_not_made_anew() {
    let place = Place::new().await;
    place.person("lovelace").await;
    place
        .tamper("delete from custody where kind = 'service' and id = 'pepper-1'")
        .await;
    let before = place.everything().await;
    let lost = "not checked: pepper-1 is not in custody, although it was used: \
                restore custody, or what depends on it is lost";
    assert_eq!(examine(&place).await, only(NOT_CHECKED, [lost]));
    assert_eq!(place.everything().await, before);
}
