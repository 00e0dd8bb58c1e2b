//! `doctor` compares the claims of addresses with the people who should hold them.

use aggregates::user::{User, UserCommand};
use mana_auth::store::{Actor, Context};

use crate::client::UNVERIFIED;
use crate::doctor::{Found, examine, found, only};
use crate::harness::TestApp;
use crate::place::{Place, beside, tamper};

const CLAIMS: &str = "claims and people belong together";

/// A place with two people, and their ids.
async fn with_two() -> (Place, String, String) {
    let place = Place::new().await;
    let (one, two) = (place.person("lovelace").await, place.person("hopper").await);
    assert_eq!(examine(&place).await, Found::new());
    (place, one, two)
}

#[tokio::test]
async fn an_address_without_its_claim_is_found() {
    let (place, one, _) = with_two().await;
    place
        .tamper(&format!("delete from claims where owner = '{one}'"))
        .await;
    let problem = format!("user {one} holds no claim of their address");
    assert_eq!(examine(&place).await, only(CLAIMS, [problem]));
}

#[tokio::test]
async fn a_claim_of_another_address_is_found() {
    let (place, one, _) = with_two().await;
    place
        .tamper(&format!(
            "update claims set key_hash = decode(repeat('00', 32), 'hex') where owner = '{one}'"
        ))
        .await;
    let problem = format!("user {one} holds the claim of another address");
    assert_eq!(examine(&place).await, only(CLAIMS, [problem]));
}

#[tokio::test]
async fn claims_that_changed_hands_are_found() {
    let (place, one, two) = with_two().await;
    place
        .tamper(&format!(
            "update claims set owner = case owner when '{one}' then '{two}' else '{one}' end"
        ))
        .await;
    let mut found = examine(&place).await;
    found.get_mut(CLAIMS).unwrap().sort();
    let mut problems = [one, two].map(|id| format!("user {id} holds the claim of another address"));
    problems.sort();
    assert_eq!(found, only(CLAIMS, problems));

    place
        .tamper("update claims set owner = (select min(owner) from claims)")
        .await;
    let found = examine(&place).await;
    let has = |end: &str| found[CLAIMS].iter().any(|problem| problem.ends_with(end));
    assert_eq!(found[CLAIMS].len(), 2);
    assert!(has("holds claims of several addresses") && has("holds no claim of their address"));
}

#[tokio::test]
async fn a_claim_that_nobody_holds_is_found() {
    let (place, one, two) = with_two().await;
    place
        .tamper(&format!(
            "update claims set owner = 'nobody' where owner = '{one}'"
        ))
        .await;
    let expected = [
        format!("user {one} holds no claim of their address"),
        "user nobody holds a claim but is not among the people".to_owned(),
    ];
    assert_eq!(examine(&place).await, only(CLAIMS, expected));

    // The other way round: the person is gone from the read model.
    place
        .tamper(&format!(
            "update claims set owner = '{one}' where owner = 'nobody'; delete from read.users where id = '{two}'"
        ))
        .await;
    let gone = format!("user {two} holds a claim but is not among the people");
    assert_eq!(examine(&place).await, only(CLAIMS, [gone]));
}

#[tokio::test(flavor = "multi_thread")]
async fn passkeys_and_accounts_elsewhere_without_their_claims_are_found() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let id = app.signed_in("ada").await.user_id;
    let (cli, at) = (beside(&app), app.clock.now());
    for command in [
        UserCommand::AddPasskey {
            passkey_id: "p1".to_owned(),
            credential_id: "credential-1".to_owned(),
            credential: "public".to_owned(),
            name: None,
            at,
        },
        UserCommand::LinkAccount {
            link_id: "l1".to_owned(),
            provider: "acme".to_owned(),
            subject: "subject-1".to_owned(),
            scopes: vec![],
            at,
        },
    ] {
        let context = Context::of(Actor::Operator);
        app.app
            .store
            .run::<User>(&id, command, context)
            .await
            .unwrap();
    }
    assert_eq!(found(cli.run(&["doctor", "--json"]).await), Found::new());

    tamper(&app.admin, "delete from claims where scope <> 'email'").await;
    let of = |what: &str| format!("user {id} does not hold the claims of their {what}");
    let problems = [of("passkeys"), of("accounts at other providers")];
    let said = found(cli.run(&["doctor", "--json"]).await);
    assert_eq!(said, only(CLAIMS, problems));
}
