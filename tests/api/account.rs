//! Changing and resetting a password: what it ends, whom it tells, and what it leaves alone (S-07).

#![cfg(test)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, link_token};
use crate::harness::{Mail, TestApp, wait_until};

/// The password that accounts get in these tests.
pub const NEW: &str = "another good password";
/// Accounts are deleted by a mailed link, so that such links can be pending.
const BY_LINK: [(&str, &str); 2] = [UNVERIFIED, ("MANA_AUTH_DELETE_USER_CONFIRM", "true")];
/// The first link to choose a new password is good for an hour (contract section 3.9).
const RESET_FOR: TimeDelta = TimeDelta::hours(1);
/// A link that ends all sessions is good for seven days.
const END_SESSIONS_FOR: TimeDelta = TimeDelta::days(7);
/// The ways in which a signed-in person changes their password.
pub const CHANGES: [(&str, Shown, Option<bool>); 6] = [
    ("/api/auth/change-password", Shown::Cookie, None),
    ("/api/auth/change-password", Shown::Cookie, Some(false)),
    ("/api/auth/change-password", Shown::Token, Some(true)),
    ("/api/v1/auth/change-password", Shown::Cookie, None),
    ("/api/v1/auth/change-password", Shown::Token, None),
    ("/api/v1/auth/change-password", Shown::Jwt, None),
];
/// The ways in which somebody resets a password: asking for the link, redeeming its token.
const RESETS: [(&str, &str); 2] = [
    (
        "/api/auth/request-password-reset",
        "/api/auth/reset-password",
    ),
    (
        "/api/v1/auth/forgot-password",
        "/api/v1/auth/reset-password",
    ),
];

/// How a request shows its session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    Cookie,
    Token,
    Jwt,
}

impl Shown {
    /// Adds the session to a request.
    pub async fn on(
        self,
        app: &TestApp,
        session: &Session,
        request: RequestBuilder,
    ) -> RequestBuilder {
        match self {
            Self::Cookie => request
                .header("cookie", &session.cookie)
                .header("origin", ORIGIN),
            Self::Token => request.bearer_auth(&session.token),
            Self::Jwt => request.bearer_auth(app.jwt(&session.cookie).await),
        }
    }
}

/// The address of a person.
pub fn email_of(name: &str) -> String {
    format!("{name}@example.com")
}

/// Mails of a kind to an address, once all have left.
pub async fn mails(app: &TestApp, kind: &str, to: &str) -> Vec<Mail> {
    app.effects_done().await;
    let mails = app.mails().into_iter();
    mails
        .filter(|mail| mail.kind == kind && mail.to == to)
        .collect()
}

/// The link of the last mail of a kind to an address.
pub async fn last_link(app: &TestApp, kind: &str, to: &str) -> String {
    let last = mails(app, kind, to).await.pop().expect("such a mail");
    last.url.expect("a link in it")
}

/// Asks for a link to choose a new password, and gives its token.
pub async fn reset_token(app: &TestApp, door: &str, email: &str) -> String {
    assert_eq!(app.post(door, &json!({"email": email})).await.status, 200);
    let link = last_link(app, "reset_password", email).await;
    let (_, token) = link.split_once("/reset-password/").unwrap();
    token.split('?').next().unwrap().to_owned()
}

/// Asks for a link that deletes the account, and gives its token.
pub async fn deletion_token(app: &TestApp, session: &Session, email: &str) -> String {
    let nothing = json!({});
    let asked = app.post_as("/api/auth/delete-user", &session.cookie, &nothing);
    assert_eq!(asked.await.status, 200);
    link_token(&last_link(app, "delete_account", email).await).to_owned()
}

/// Changes a password.
pub async fn change(
    app: &TestApp,
    (door, shown, again): (&str, Shown, Option<bool>),
    session: &Session,
    (current, new): (&str, &str),
) -> Answer {
    let mut body = json!({"currentPassword": current, "newPassword": new});
    if let Some(again) = again {
        body["revokeOtherSessions"] = json!(again);
    }
    let request = app.request("POST", door).json(&body);
    answer(shown.on(app, session, request).await).await
}

async fn redeem(app: &TestApp, door: &str, token: &str, password: &str) -> Answer {
    let body = json!({"token": token, "newPassword": password});
    app.post(door, &body).await
}

/// Fails unless a token to choose a new password is worth nothing any more.
pub async fn assert_no_reset(app: &TestApp, token: &str) {
    for (door, code) in [
        ("/api/auth/reset-password", "INVALID_TOKEN"),
        ("/api/v1/auth/reset-password", "TOKEN_INVALID"),
    ] {
        let refused = redeem(app, door, token, "a third good password").await;
        assert_eq!(refused.refusal(), (400, code.to_owned()), "{door}");
    }
    let link = format!("/api/auth/reset-password/{token}?callbackURL=/new");
    let led = app.get(&link).await;
    let location = led.header("location");
    assert!(location.ends_with("/new?error=INVALID_TOKEN"), "{location}");
}

/// Fails unless sessions are over on both nodes.
pub async fn assert_over(here: &TestApp, there: &TestApp, sessions: &[&Session]) {
    for session in sessions {
        assert!(!here.is_live(&session.cookie).await, "at once here");
        wait_until("it is over on the other node", async || {
            !there.is_live(&session.cookie).await
        })
        .await;
    }
}

/// S-07: whichever way it is changed, one session is left, and no pending link.
#[tokio::test]
async fn a_changed_password_ends_all_other_sessions_and_pending_links_s07() {
    let app = TestApp::start(&BY_LINK).await;
    let node = app.node(&BY_LINK).await;
    for (number, way) in CHANGES.into_iter().enumerate() {
        let (door, _, again) = way;
        let name = format!("p{number}");
        let email = email_of(&name);
        let this = app.signed_in(&name).await;
        let others = [app.sign_in(&name).await, node.sign_in(&name).await];
        for session in others.iter().chain([&this]) {
            assert!(app.is_live(&session.cookie).await && node.is_live(&session.cookie).await);
        }
        let jwts = [
            app.jwt(&others[0].cookie).await,
            app.jwt(&this.cookie).await,
        ];
        let reset = reset_token(&app, RESETS[0].0, &email).await;
        let deletion = deletion_token(&app, &this, &email).await;

        let wrong = change(&app, way, &this, ("not the password", NEW)).await;
        let code = if door.contains("v1") {
            (401, "INVALID_CREDENTIALS")
        } else {
            (400, "INVALID_PASSWORD")
        };
        assert_eq!(wrong.refusal(), (code.0, code.1.to_owned()), "{way:?}");
        assert!(app.is_live(&others[0].cookie).await);

        let changed = change(&app, way, &this, (PASSWORD, NEW)).await;
        assert_eq!(changed.status, 200, "{way:?}: {}", changed.text);
        assert_over(&app, &node, &[&others[0], &others[1]]).await;
        let kept = if again == Some(true) {
            assert_over(&app, &node, &[&this]).await;
            let token = changed.json()["token"].as_str().unwrap().to_owned();
            assert_ne!(token, this.token);
            let cookie = changed.session_cookie();
            Session {
                token,
                cookie,
                ..this
            }
        } else {
            this
        };
        assert!(app.is_live(&kept.cookie).await && node.is_live(&kept.cookie).await);
        for (jwt, status) in [(&jwts[0], 401), (&app.jwt(&kept.cookie).await, 200)] {
            for at in [&app, &node] {
                let asked = at.request("GET", "/api/v1/auth/sessions").bearer_auth(jwt);
                assert_eq!(answer(asked).await.status, status, "{way:?}");
            }
        }
        let of_user = format!("read.sessions where user_id = '{}'", kept.user_id);
        assert_eq!(app.count(&of_user).await, 1, "{way:?}");

        assert_no_reset(&app, &reset).await;
        let link = format!("/api/auth/delete-user/callback?token={deletion}");
        let refused = app.get_as(&link, &kept.cookie).await;
        assert_eq!(refused.refusal(), (404, "INVALID_TOKEN".to_owned()));
        assert_eq!(mails(&app, "password_changed", &email).await.len(), 1);
        assert_eq!(app.try_sign_in(&name, PASSWORD).await.status, 401);
        assert_eq!(node.try_sign_in(&name, NEW).await.status, 200);
    }
}

/// What the two routes answer with (contract).
#[tokio::test]
async fn a_changed_password_is_answered_as_clients_know_it() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let shown = app.get_as("/api/auth/get-session", &ada.cookie).await;
    let user = &shown.json()["user"];
    let kept = change(&app, CHANGES[0], &ada, (PASSWORD, NEW)).await;
    assert_eq!(kept.json(), json!({"token": null, "user": user}));
    assert!(kept.cookies().is_empty());
    let again = change(&app, CHANGES[2], &ada, (NEW, PASSWORD)).await;
    assert_eq!(&again.json()["user"], user);
    assert_ne!(again.session_cookie(), "");
    assert_ne!(again.header("set-auth-token"), "");
    let ada = app.sign_in("ada").await;
    let own = change(&app, CHANGES[3], &ada, (PASSWORD, NEW)).await;
    assert_eq!(own.json(), json!({"success": true}));

    let length = json!({"currentPassword": NEW, "newPassword": "short"});
    for (door, code) in [
        ("/api/auth/change-password", "PASSWORD_TOO_SHORT"),
        ("/api/v1/auth/change-password", "WEAK_PASSWORD"),
    ] {
        let weak = app.post_as(door, &ada.cookie, &length).await;
        assert_eq!(weak.refusal(), (400, code.to_owned()));
        let nobody = app.post(door, &length).await;
        assert_eq!(nobody.refusal(), (401, "UNAUTHORIZED".to_owned()));
    }
}

/// S-07: whoever holds a mailed link may be the only one who should be in: every session ends.
#[tokio::test]
async fn a_reset_password_ends_all_sessions_and_pending_links_s07() {
    let app = TestApp::start(&BY_LINK).await;
    let node = app.node(&BY_LINK).await;
    for (number, (ask, door)) in RESETS.into_iter().enumerate() {
        let name = format!("p{number}");
        let email = email_of(&name);
        let sessions = [app.signed_in(&name).await, node.sign_in(&name).await];
        for session in &sessions {
            assert!(app.is_live(&session.cookie).await && node.is_live(&session.cookie).await);
        }
        let jwt = app.jwt(&sessions[0].cookie).await;
        let [first, second] = [
            reset_token(&app, ask, &email).await,
            reset_token(&node, ask, &email).await,
        ];
        assert_ne!(first, second);
        let deletion = deletion_token(&app, &sessions[0], &email).await;

        // A password that may not be chosen leaves the token good.
        let weak = redeem(&app, door, &first, &email).await;
        assert_eq!(weak.status, 400, "{}", weak.text);
        let done = redeem(&app, door, &first, NEW).await;
        assert_eq!(done.status, 200, "{}", done.text);
        assert!(done.cookies().is_empty(), "it signs nobody in");
        assert_over(&app, &node, &[&sessions[0], &sessions[1]]).await;
        for at in [&app, &node] {
            let asked = at.request("GET", "/api/v1/auth/sessions").bearer_auth(&jwt);
            assert_eq!(answer(asked).await.status, 401);
        }
        for token in [&first, &second] {
            assert_no_reset(&node, token).await;
        }
        assert_eq!(app.try_sign_in(&name, PASSWORD).await.status, 401);
        let fresh = node.try_sign_in(&name, NEW).await;
        assert_eq!(fresh.status, 200, "{}", fresh.text);
        let link = format!("/api/auth/delete-user/callback?token={deletion}");
        let refused = app.get_as(&link, &fresh.session_cookie()).await;
        assert_eq!(refused.refusal(), (404, "INVALID_TOKEN".to_owned()));
        assert_eq!(mails(&app, "password_changed", &email).await.len(), 1);
    }
}

/// S-29: one token, one new password, however many redeem it at once and where.
#[tokio::test]
async fn of_20_redemptions_of_a_reset_link_at_once_one_wins_s29() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    app.signed_in("ada").await;
    let token = reset_token(&app, RESETS[0].0, "ada@example.com").await;
    let tries = (0..20).map(|number| {
        let (at, door) = ([&app, &node][number % 2], RESETS[number / 2 % 2].1);
        let (token, password) = (&token, format!("password of try {number}"));
        async move { redeem(at, door, token, &password).await.status }
    });
    let answers = join_all(tries).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|status| **status == 400).count(), 19);
    for (number, answered) in answers.iter().enumerate() {
        let password = format!("password of try {number}");
        let opens = app.try_sign_in("ada", &password).await.status == 200;
        assert_eq!(opens, *answered == 200, "{password}");
    }
}

/// A link to choose a new password leads where it should, consumes nothing, and is good for an hour.
#[tokio::test]
async fn a_reset_link_is_good_for_an_hour_s45() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.signed_in("ada").await;
    let token = reset_token(&app, RESETS[0].0, "ada@example.com").await;
    let link = format!("/api/auth/reset-password/{token}?callbackURL=/new");
    for _ in 0..20 {
        let led = app.get(&link).await;
        assert_eq!(led.status, 302);
        let wanted = format!("/new?token={token}");
        assert!(led.header("location").ends_with(&wanted));
    }
    app.clock.advance(RESET_FOR - TimeDelta::milliseconds(1));
    assert_eq!(redeem(&app, RESETS[0].1, &token, NEW).await.status, 200);
    let late = reset_token(&app, RESETS[0].0, "ada@example.com").await;
    app.clock.advance(RESET_FOR);
    assert_no_reset(&app, &late).await;
}

/// S-45: the link in a mail about a new password may be followed by anything that scans mails. Only its button ends
/// sessions, and only once.
#[tokio::test]
async fn the_link_of_a_security_mail_shows_a_page_and_its_button_works_once_s45() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    change(&app, CHANGES[0], &ada, (PASSWORD, NEW)).await;
    let link = last_link(&app, "password_changed", "ada@example.com").await;
    let path = link.strip_prefix(&app.app.config.base_url).unwrap();
    let door = path.split('?').next().unwrap();
    let before = app.state().await;
    for number in 0..20 {
        let method = if number % 5 == 4 { "HEAD" } else { "GET" };
        let scan = app.request(method, path);
        let scan = scan.header("user-agent", format!("Mail scanner {number}"));
        let page = answer(scan.header("cookie", &ada.cookie)).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(method == "HEAD" || page.text.contains(r#"<form method="post">"#));
    }
    assert_eq!(app.state().await, before, "nothing was consumed or written");
    assert!(app.is_live(&ada.cookie).await);

    let bob = app.signed_in("bob").await;
    let others = [
        app.try_sign_in("ada", NEW).await,
        node.try_sign_in("ada", NEW).await,
    ];
    let token = link_token(&link);
    let press =
        async |at: &TestApp| answer(at.request("POST", door).form(&[("token", token)])).await;
    let pressed = press(&app).await;
    assert_eq!(pressed.status, 200, "{}", pressed.text);
    for other in &others {
        assert!(!app.is_live(&other.session_cookie()).await);
    }
    assert_over(&app, &node, &[&ada]).await;
    assert!(app.is_live(&bob.cookie).await, "nobody else is concerned");

    let ada = node.try_sign_in("ada", NEW).await.session_cookie();
    for at in [&app, &node] {
        assert_eq!(press(at).await.status, 400);
    }
    assert!(node.is_live(&ada).await, "it works once");
    assert_eq!(app.get(path).await.status, 200, "the page tells nothing");
}

/// S-29, S-45: pressed by many at once, it works once; pressed too late, not at all.
#[tokio::test]
async fn the_button_of_a_security_mail_is_good_for_seven_days_s29() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let press = async |at: &TestApp, token: &str| {
        let door = "/api/v1/auth/end-sessions";
        // Clients send the token in either form.
        at.post(door, &json!({"token": token})).await.status
    };
    change(&app, CHANGES[0], &ada, (PASSWORD, NEW)).await;
    let good = last_link(&app, "password_changed", "ada@example.com").await;
    app.clock
        .advance(END_SESSIONS_FOR - TimeDelta::milliseconds(1));
    let tries = (0..20).map(|number| press([&app, &node][number % 2], link_token(&good)));
    let answers = join_all(tries).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);

    let ada = app.try_sign_in("ada", NEW).await.session_cookie();
    let body = json!({"currentPassword": NEW, "newPassword": PASSWORD});
    app.post_as("/api/auth/change-password", &ada, &body).await;
    let late = last_link(&app, "password_changed", "ada@example.com").await;
    app.clock.advance(END_SESSIONS_FOR);
    let ada = app.sign_in("ada").await;
    assert_eq!(press(&app, link_token(&late)).await, 400);
    assert!(app.is_live(&ada.cookie).await);
}

/// S-43: what stands in the link stays text on the page.
#[tokio::test]
async fn a_page_behind_a_link_shows_its_token_as_text_s43() {
    let app = TestApp::start(&[]).await;
    for door in ["/api/v1/auth/end-sessions", "/api/v1/auth/revert-email"] {
        let request = app.request("GET", door);
        let page = answer(request.query(&[("token", "\"><script>alert(1)</script>")])).await;
        assert_eq!(page.status, 200);
        assert!(!page.text.contains("<script") && page.text.contains("&#60;script"));
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"));
        for lacking in [app.get(door).await, app.post(door, &Value::Null).await] {
            assert_eq!(lacking.status, 400, "{door}");
        }
    }
}
