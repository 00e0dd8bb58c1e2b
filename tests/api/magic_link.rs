//! Magic links: who gets in by one, how often, and what programs that scan mails do to them.

#![cfg(test)]

use aggregates::EmailAddress;
use chrono::TimeDelta;
use futures_util::future::join_all;
use mana_auth::accounts;
use serde_json::{Value, json};

use crate::client::{Answer, PASSWORD, UNVERIFIED, answer, link_token};
use crate::harness::{TestApp, wait_until};
use crate::two_factor::{Careful, cookie_of};

const PATH: &str = "/api/auth/magic-link/verify";

/// Asks for a link; gives its URL.
pub async fn link(app: &TestApp, email: &str, body: Value) -> String {
    let before = app.mails_of("magic_link", email).await;
    let mut request = json!({"email": email});
    request
        .as_object_mut()
        .unwrap()
        .extend(body.as_object().unwrap().clone());
    let asked = app.post("/api/auth/sign-in/magic-link", &request).await;
    assert_eq!((asked.status, asked.json()), (200, json!({"status": true})));
    wait_until("the link is there", async || {
        app.mails_of("magic_link", email).await > before
    })
    .await;
    let mails = app.mails();
    let mail = mails
        .iter()
        .rfind(|mail| mail.kind == "magic_link" && mail.to == email);
    mail.unwrap().url.clone().unwrap()
}

pub async fn follow(app: &TestApp, url: &str) -> Answer {
    app.get(&format!("{PATH}?token={}", link_token(url))).await
}

async fn is_refused(answer: &Answer) -> bool {
    answer.status == 302 && answer.header("location").contains("error=INVALID_TOKEN")
}

/// S-29: of 100 who follow a link at once on two nodes one gets in, with an account before or without.
#[tokio::test]
async fn of_100_who_follow_a_link_at_once_one_gets_in_s29() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    app.signed_in("ada").await;
    for email in ["ada@example.com", "new@example.com"] {
        let before = app.count("read.sessions").await;
        let url = link(&app, email, json!({})).await;
        let answers = join_all((0..100).map(|n| follow([&app, &node][n % 2], &url))).await;
        let mut good = 0;
        for answer in &answers {
            if answer.status == 200 {
                good += 1;
            } else {
                assert!(
                    is_refused(answer).await,
                    "{} {}",
                    answer.status,
                    answer.text
                );
            }
        }
        assert_eq!(good, 1, "{email}");
        let ended = if email.starts_with("ada") { 1 } else { 0 };
        assert_eq!(
            app.count("read.sessions").await,
            before - ended + 1,
            "{email}"
        );
    }
    assert_eq!(app.count("read.users").await, 2);
}

#[tokio::test]
async fn a_link_is_good_for_ten_minutes() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let early = link(&app, "ada@example.com", json!({})).await;
    app.clock
        .advance(TimeDelta::minutes(10) - TimeDelta::milliseconds(1));
    assert_eq!(follow(&app, &early).await.status, 200);
    let late = link(&app, "ada@example.com", json!({})).await;
    app.clock.advance(TimeDelta::minutes(10));
    assert!(is_refused(&follow(&app, &late).await).await);
}

/// S-67: whoever made an account with a stranger's address and waits for them has nothing of it.
#[tokio::test]
async fn the_owner_of_an_unproven_address_shares_the_account_with_nobody_s67() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let eve = Careful::start(&app, "ada").await;
    let url = link(&app, "ada@example.com", json!({})).await;
    let signed_in = follow(&app, &url).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    let body = signed_in.json();
    assert_eq!(body["user"]["emailVerified"], json!(true));
    assert_eq!(body["user"]["twoFactorEnabled"], json!(false));
    assert_eq!(body["user"]["id"], json!(eve.user_id));
    assert!(!app.is_live(&eve.session.cookie).await);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 401);
    let kept = "custody where kind in ('password', 'totp', 'backup_codes')";
    assert_eq!(app.count(kept).await, 0);
}

/// The owner of a proven address keeps what they have.
#[tokio::test]
async fn a_link_to_a_proven_address_leaves_the_account_as_it_is() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    let proof = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    let path = format!("/api/auth/verify-email?token={}", link_token(&proof));
    assert_eq!(app.get(&path).await.status, 200);
    let url = link(&app, "ada@example.com", json!({})).await;
    assert_eq!(follow(&app, &url).await.status, 200);
    assert!(app.is_live(&session.cookie).await);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 200);
}

/// A link belongs to the account that had the address when it was asked for, as long as that has it.
#[tokio::test]
async fn a_link_is_worth_nothing_when_the_address_has_another_owner_or_password_s07() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    let url = link(&app, "ada@example.com", json!({})).await;
    let body = json!({"password": PASSWORD});
    let deleted = app
        .post_as("/api/auth/delete-user", &session.cookie, &body)
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    app.signed_in("ada").await;
    assert!(is_refused(&follow(&app, &url).await).await);

    let bob = app.signed_in("bob").await;
    let url = link(&app, "bob@example.com", json!({})).await;
    let body = json!({"currentPassword": PASSWORD, "newPassword": "another good password"});
    let changed = app
        .post_as("/api/auth/change-password", &bob.cookie, &body)
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(is_refused(&follow(&app, &url).await).await);
}

/// Where the button of a page leads.
fn pressed(page: &str) -> String {
    let between = |text: &str, after: &str| {
        let (_, rest) = text.split_once(after).unwrap();
        let value = rest.split('"').next().unwrap();
        value
            .replace("&#38;", "&")
            .replace("&#34;", "\"")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
    };
    let fields = page.split("<input").skip(1);
    let fields = fields.map(|field| (between(field, "name=\""), between(field, "value=\"")));
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    format!("{}?{query}", between(page, "action=\""))
}

/// S-45: the mail leads to a page that looks nothing up, and has nothing that a program could follow or run; only its
/// button goes on.
#[tokio::test]
async fn programs_that_scan_mails_do_not_use_a_link_up_s45() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let body = json!({"callbackURL": "/app", "newUserCallbackURL": "/hello?a=1&b=\"<2>", "errorCallbackURL": "/oops"});
    let url = link(&app, "ada@example.com", body).await;
    let path = url.strip_prefix(&app.app.config.base_url).unwrap();
    assert!(path.starts_with("/api/v1/auth/magic-link?token="), "{path}");
    for number in 0..20 {
        let scan = app.request("GET", path);
        let scan = scan.header("user-agent", format!("Mail scanner {number}"));
        let page = answer(scan).await;
        let text = page.text.to_lowercase();
        for way in ["href", "src=", "<script", "http-equiv", "onload"] {
            assert!(!text.contains(way), "{way}: {text}");
        }
        assert_eq!(page.status, 200);
        assert!(page.cookies().is_empty());
        assert!(!page.text.contains("<2>"), "{}", page.text);
    }
    assert_eq!(app.count("read.users").await, 0);
    let href = pressed(&app.get(path).await.text);
    let led = app.get(&href).await;
    assert_eq!(led.status, 302, "{href}: {}", led.text);
    assert!(
        led.header("location").contains("/hello?a=1&b="),
        "{}",
        led.header("location")
    );
    assert!(cookie_of(&led, "session_token").is_some());
    let again = app.get(&href).await;
    assert!(
        again
            .header("location")
            .ends_with("/oops?error=INVALID_TOKEN")
    );
}

/// The second factor is asked for after a link only where that is configured.
#[tokio::test]
async fn a_second_factor_follows_a_link_where_it_is_asked_for() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let always = app
        .node(&[UNVERIFIED, ("MANA_AUTH_TWO_FACTOR_ALWAYS", "true")])
        .await;
    let ada = Careful::start(&app, "ada").await;
    let proof = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    // The proof of the sign-up is over by now; the address is proven by hand.
    assert!(!proof.is_empty());
    let email = EmailAddress::parse("ada@example.com").unwrap();
    let at = app.clock.now();
    let command = aggregates::user::UserCommand::VerifyEmail {
        email: email.clone(),
        at,
    };
    let context = mana_auth::store::Context::of(mana_auth::store::Actor::System);
    let store = &app.app.store;
    store
        .run::<aggregates::user::User>(&ada.user_id, command, context)
        .await
        .unwrap();
    let user = accounts::find_by_email(&app.app, &email)
        .await
        .unwrap()
        .unwrap();
    assert!(user.two_factor_enabled && user.email_verified);

    let url = link(&app, "ada@example.com", json!({})).await;
    assert!(follow(&app, &url).await.json()["token"].is_string());
    let url = link(&app, "ada@example.com", json!({})).await;
    let needed = follow(&always, &url).await;
    assert_eq!(
        needed.json()["twoFactorRedirect"],
        json!(true),
        "{}",
        needed.text
    );
    let cookie = cookie_of(&needed, "two_factor").unwrap();
    let body = json!({"code": ada.code(&app)});
    let shown = app
        .post_as("/api/auth/two-factor/verify-totp", &cookie, &body)
        .await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert!(
        is_refused(&follow(&always, &url).await).await,
        "the link was used up"
    );
}
