//! S-65: requests that contradict each other, on two nodes at the same moment.

use futures_util::future::join_all;
use serde_json::json;

use super::ALL_ON;
use crate::client::UNVERIFIED;
use crate::harness::TestApp;
use crate::password_races::Held;

const ROUNDS: usize = 10;

/// Until both have decided, and wait to be written.
async fn both_wait(app: &TestApp, held: Held) {
    held.waited_for_by(app, 2).await;
    held.let_go().await;
}

/// S-65
#[tokio::test]
async fn of_two_admins_who_demote_each_other_one_succeeds_s65() {
    let app = TestApp::start(&ALL_ON).await;
    let other = app.node(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let (anna, anna_id) = app.joined(&tenant.owner, &tenant.id, "anna", "admin").await;
    let [_, adam_id, _] = &tenant.member_ids;
    for _ in 0..ROUNDS {
        let demote =
            |id: &str| json!({"memberId": id, "role": "member", "organizationId": tenant.id});
        let (of_anna, of_adam) = (demote(&anna_id), demote(adam_id));
        let held = Held::start(&app).await;
        let (first, second, ()) = tokio::join!(
            app.organization(&tenant.admin, "update-member-role", &of_anna),
            other.organization(&anna, "update-member-role", &of_adam),
            both_wait(&app, held),
        );
        let mut answers = [first.status, second.status];
        answers.sort_unstable();
        assert_eq!(answers, [200, 403], "{} {}", first.text, second.text);
        let roles = app.roles_in(&tenant.owner, &tenant.id).await;
        assert_eq!(roles.iter().filter(|(_, role)| role == "admin").count(), 1);
        for id in [&anna_id, adam_id] {
            let body = json!({"memberId": id, "role": "admin", "organizationId": tenant.id});
            app.organized(&tenant.owner, "update-member-role", &body)
                .await;
        }
    }
}

/// S-65
#[tokio::test]
async fn of_two_owners_who_leave_one_stays_s65() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let other = app.node(&[UNVERIFIED]).await;
    for round in 0..ROUNDS {
        let olga = app.signed_in(&format!("olga{round}")).await;
        let id = app.founded(&olga, &format!("acme{round}")).await;
        let (otto, _) = app
            .joined(&olga, &id, &format!("otto{round}"), "owner")
            .await;
        let body = json!({"organizationId": id});
        let held = Held::start(&app).await;
        let (first, second, ()) = tokio::join!(
            app.organization(&olga, "leave", &body),
            other.organization(&otto, "leave", &body),
            both_wait(&app, held),
        );
        let mut answers = [first.status, second.status];
        answers.sort_unstable();
        assert_eq!(answers, [200, 400], "{} {}", first.text, second.text);
        let stays = if first.status == 200 { &otto } else { &olga };
        assert_eq!(app.roles_in(stays, &id).await.len(), 1);
    }
}

#[tokio::test]
async fn a_slug_is_given_once() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let other = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let body = json!({"name": "Acme", "slug": "acme"});
    let tries = (0..12).map(|n| {
        let node = if n % 2 == 0 { &app } else { &other };
        node.organization(&ada, "create", &body)
    });
    let answers = join_all(tries).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(made.len(), 1);
    for answer in refused {
        let code = "ORGANIZATION_ALREADY_EXISTS".to_owned();
        assert_eq!(answer.refusal(), (400, code));
    }
    // Nothing is left of those that lost: no key, no event, no row.
    for table in ["read.organizations", "streams where type = 'organization'"] {
        assert_eq!(app.count(table).await, 1, "{table}");
    }
    let keys = "custody where kind = 'data_key' and owner not in (select id from read.users) \
                and owner not like 'service%'";
    assert_eq!(app.count(keys).await, 1);
    // The same for one that changes its slug.
    let other_id = app.founded(&ada, "other").await;
    let body = json!({"organizationId": other_id, "data": {"slug": "acme"}});
    let taken = app.organization(&ada, "update", &body).await;
    let code = "ORGANIZATION_SLUG_ALREADY_TAKEN".to_owned();
    assert_eq!(taken.refusal(), (400, code));
    let body = json!({"organizationId": other_id, "data": {"slug": "another"}});
    app.organized(&ada, "update", &body).await;
    app.organized(&ada, "check-slug", &json!({"slug": "other"}))
        .await;
}

#[tokio::test]
async fn an_invitation_is_used_once() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let other = app.node(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    let ida = app.signed_in("ida").await;
    let invitation = app.invited(&olga, &id, "ida", "member").await;
    let body = json!({"invitationId": invitation});
    let tries = (0..20).map(|n| {
        let node = if n % 2 == 0 { &app } else { &other };
        node.organization(&ida, "accept-invitation", &body)
    });
    let answers = join_all(tries).await;
    let good = answers.iter().filter(|answer| answer.status == 200);
    assert_eq!(good.count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| [200, 400, 409].contains(&answer.status))
    );
    assert_eq!(app.roles_in(&olga, &id).await.len(), 2);
}
