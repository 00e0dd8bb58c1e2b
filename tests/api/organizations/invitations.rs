//! S-63: who may come in.

use chrono::TimeDelta;
use serde_json::json;

use super::ALL_ON;
use crate::client::{Answer, Session, UNVERIFIED};
use crate::harness::TestApp;

async fn accept(app: &TestApp, who: &Session, invitation: &str) -> Answer {
    let body = json!({"invitationId": invitation});
    app.organization(who, "accept-invitation", &body).await
}

fn refused(code: &str, status: u16) -> (u16, String) {
    (status, code.to_owned())
}

/// S-63
#[tokio::test]
async fn only_the_invited_address_comes_in_once_and_in_time_s63() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    let (ida, eve) = (app.signed_in("ida").await, app.signed_in("eve").await);
    let invitation = app.invited(&olga, &id, "ida", "member").await;
    let recipient = refused("YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION", 403);
    let none = refused("INVITATION_NOT_FOUND", 400);
    for who in [&eve, &olga] {
        assert_eq!(accept(&app, who, &invitation).await.refusal(), recipient);
    }
    app.clock.advance(TimeDelta::hours(48));
    assert_eq!(accept(&app, &ida, &invitation).await.refusal(), none);
    // One that ran out does not stand in the way of another.
    let invitation = app.invited(&olga, &id, "ida", "member").await;
    assert_eq!(accept(&app, &ida, &invitation).await.status, 200);
    assert_eq!(accept(&app, &ida, &invitation).await.refusal(), none);
    assert_eq!(app.roles_in(&ida, &id).await.len(), 2);
}

/// S-63: where addresses have to be proven, an unproven one answers no invitation.
#[tokio::test]
async fn an_unproven_address_is_not_the_invited_one_s63() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_ORG_REQUIRE_VERIFIED", "true")]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    let ida = app.signed_in("ida").await;
    let invitation = app.invited(&olga, &id, "ida", "member").await;
    let code = "EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION";
    let unproven = refused(code, 403);
    assert_eq!(accept(&app, &ida, &invitation).await.refusal(), unproven);
    let body = json!({"invitationId": invitation});
    let reject = app.organization(&ida, "reject-invitation", &body).await;
    assert_eq!(reject.refusal(), unproven);
    let mail = app.wait_for_mail("ida@example.com", 0).await;
    app.follow(&mail.url.unwrap()).await;
    assert_eq!(accept(&app, &ida, &invitation).await.status, 200);
}

/// S-63: the default follows `MANA_AUTH_REQUIRE_EMAIL_VERIFICATION`.
#[tokio::test]
async fn addresses_have_to_be_proven_unless_somebody_says_otherwise() {
    let verified = TestApp::start(&[]).await;
    assert!(verified.app.config.organizations_require_verified);
    let unverified = TestApp::start(&[UNVERIFIED]).await;
    assert!(!unverified.app.config.organizations_require_verified);
}

/// S-63: an invitation is worth what its sender is worth when it is used.
#[tokio::test]
async fn an_invitation_does_not_outlive_the_power_of_its_sender_s63() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let ida = app.signed_in("ida").await;
    let invitation = app.invited(&tenant.admin, &tenant.id, "ida", "admin").await;
    let role = async |role: &str| {
        let body = json!({
            "memberId": tenant.member_ids[1], "role": role, "organizationId": tenant.id,
        });
        app.organized(&tenant.owner, "update-member-role", &body)
            .await;
    };
    role("member").await;
    let gone = refused("INVITER_IS_NO_LONGER_A_MEMBER_OF_THE_ORGANIZATION", 400);
    assert_eq!(accept(&app, &ida, &invitation).await.refusal(), gone);
    role("admin").await;
    assert_eq!(accept(&app, &ida, &invitation).await.status, 200);
}

/// S-63: a role that is gone is given to nobody.
#[tokio::test]
async fn a_role_has_to_exist_when_an_invitation_is_used_s63() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let ida = app.signed_in("ida").await;
    let invitation = app
        .invited(&tenant.owner, &tenant.id, "ida", "acme-editor")
        .await;
    app.organized(
        &tenant.owner,
        "delete-role",
        &json!({"roleId": tenant.role}),
    )
    .await;
    let unknown = refused("ROLE_NOT_FOUND", 400);
    assert_eq!(accept(&app, &ida, &invitation).await.refusal(), unknown);
}

/// S-22: whoever invites does not learn whether an address has an account.
#[tokio::test]
async fn known_and_unknown_addresses_are_invited_alike_s22() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    app.signed_in("known").await;
    let mut shown = vec![];
    for name in ["known", "nobody"] {
        let body =
            json!({"email": format!("{name}@example.com"), "role": "member", "organizationId": id});
        let answer = app.organization(&olga, "invite-member", &body).await;
        let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        let mut body = answer.json();
        body["id"] = json!(body["id"].as_str().unwrap().len());
        body["email"] = json!("*");
        shown.push((answer.status, names, body));
    }
    assert_eq!(shown[0], shown[1]);
}

/// S-21: nobody fills a stranger's mailbox with invitations.
#[tokio::test]
async fn an_address_gets_so_many_invitations_a_day_s21() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_RATE_LIMIT", "on")]).await;
    let olga = app.signed_in("olga").await;
    for n in 0..12 {
        let id = app.founded(&olga, &format!("acme{n}")).await;
        app.invited(&olga, &id, "victim", "member").await;
        // The door has a limit of its own.
        app.clock.advance(TimeDelta::minutes(2));
    }
    app.effects_done().await;
    let mails = app.mails_of("invitation", "victim@example.com").await;
    assert_eq!(mails, 10);
}

#[tokio::test]
async fn the_mail_says_who_invites_where_and_leads_to_the_invitation() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let body = json!({"name": "Acme <b>& Co</b>", "slug": "acme"});
    app.organized(&olga, "create", &body).await;
    let body = json!({"email": "ida@example.com", "role": "member"});
    let sent = app.organized(&olga, "invite-member", &body).await;
    let mail = app.wait_for_mail("ida@example.com", 0).await;
    let id = sent["id"].as_str().unwrap();
    let url = format!("{}/accept-invitation?id={id}", app.app.config.base_url);
    assert_eq!((mail.kind.as_str(), mail.url), ("invitation", Some(url)));
    assert!(mail.text.contains("olga@example.com lädt dich ein"));
    assert!(mail.text.contains("Acme <b>& Co</b>"));
    assert!(!mail.html.contains("Acme <b>"), "{}", mail.html);
}
