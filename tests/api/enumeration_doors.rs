//! The same as in `enumeration` for the doors that are not about passwords: what they say of addresses, ids and sign-ins
//! that exist is what they say of those that do not (S-22).

#![cfg(test)]

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::authenticator::Authenticator;
use crate::client::{Answer, ORIGIN, Session, UNVERIFIED, answer};
use crate::enumeration::{PEOPLE, SETTINGS, assert_equal, come, email_of, post, shown, sign_in};
use crate::harness::TestApp;
use crate::passkeys::{self, OWN_SIGN_IN, SIGN_IN};
use crate::provider::{CLIENT_ID, ISSUER, person};
use crate::stage::Stage;
use crate::two_factor::{Careful, challenge};
use crate::{api_keys, harness};

/// An answer with these values of it, which are random, replaced by their lengths.
fn leveled(answer: &Answer, email: &str, random: &[&str]) -> String {
    let text = shown(answer, email);
    random.iter().fold(text, |text, value| {
        assert!(!value.is_empty());
        text.replace(value, &format!("<{}>", value.len()))
    })
}

/// The same of an answer that something was written for, whose place in the log is nobody's secret.
fn leveled_write(mut answer: Answer, email: &str, random: &[&str]) -> String {
    assert!(answer.headers.remove("x-log-position").is_some());
    leveled(&answer, email, random)
}

fn with_cookie(request: RequestBuilder, session: &Session) -> RequestBuilder {
    let request = request.header("cookie", &session.cookie);
    request.header("origin", ORIGIN)
}

/// S-22: again and again, until no mail leaves any more, and whether a link would make an account or not.
#[tokio::test]
async fn asking_for_a_magic_link_tells_nothing_s22() {
    let closed = ("MANA_AUTH_MAGIC_LINK_SIGNUP", "false");
    for settings in [SETTINGS.to_vec(), [&SETTINGS[..], &[closed]].concat()] {
        let app = TestApp::start(&settings).await;
        let mut from = come(&app).await;
        for _ in 0..5 {
            let mut answers = Vec::new();
            for name in PEOPLE {
                let email = email_of(name);
                let body = json!({"email": email, "callbackURL": "/in"});
                let door = "/api/auth/sign-in/magic-link";
                let told = post(&app, door, &body, &from.next().unwrap()).await;
                assert_eq!(told.status, 200, "{}", told.text);
                answers.push(shown(&told, &email));
            }
            assert_equal(&answers, "sign-in/magic-link");
        }
        // Nor does what leaves: a link that makes no account says so to whoever reads there.
        let mut mails = Vec::new();
        for name in PEOPLE {
            mails.push(app.mails_of("magic_link", &email_of(name)).await);
        }
        assert!(
            mails.iter().all(|of| *of > 0 && *of < 5 && *of == mails[0]),
            "{mails:?}"
        );
    }
}

/// S-22: whoever says beforehand who they are is not told whether there are passkeys of theirs.
#[tokio::test]
async fn the_options_of_a_passkey_sign_in_tell_nothing_s22() {
    let app = TestApp::start(&SETTINGS).await;
    let mut from = come(&app).await;
    let ada = sign_in(&app, "verified", &from.next().unwrap()).await;
    passkeys::add(&app, &ada, &Authenticator::new()).await;
    for (method, door) in [
        ("GET", "/api/auth/passkey/generate-authenticate-options"),
        ("POST", "/api/v1/auth/passkeys/authenticate/options"),
    ] {
        let mut answers = Vec::new();
        for name in PEOPLE {
            let email = email_of(name);
            let request = app.request(method, door).query(&[("email", &email)]);
            let request = request.json(&json!({"email": email, "username": email}));
            let told = answer(request.header("x-forwarded-for", from.next().unwrap())).await;
            let body = told.json();
            let cookie = told.cookies()[0]
                .split(['=', ';'])
                .nth(1)
                .unwrap()
                .to_owned();
            let shown = leveled(&told, &email, &[body["challenge"].as_str().unwrap()]);
            // How much of a signature has to be encoded is chance.
            let value = app.app.cookies.verify(&cookie).unwrap();
            answers.push(shown.replace(&cookie, &format!("<{}>", value.len())));
        }
        assert_equal(&answers, door);
    }
}

/// S-22: without its challenge, a passkey that somebody has is refused like one that nobody has. The apps' own door does
/// not tell them apart with it either.
#[tokio::test]
async fn a_passkey_that_somebody_has_is_refused_like_any_other_s22() {
    let app = TestApp::start(&SETTINGS).await;
    let mut from = come(&app).await;
    let ada = sign_in(&app, "verified", &from.next().unwrap()).await;
    let (known, unknown) = (Authenticator::new(), Authenticator::new());
    passkeys::add(&app, &ada, &known).await;
    for (door, begins) in [(SIGN_IN, false), (OWN_SIGN_IN, false), (OWN_SIGN_IN, true)] {
        let mut answers = Vec::new();
        for key in [&known, &unknown] {
            let begun = passkeys::begin(&app, "authenticate", "").await;
            // Signed for another ceremony.
            let response = key.get(&json!({"challenge": "another"}));
            let cookie = if begins { begun.cookie.as_str() } else { "" };
            let told = passkeys::end(&app, door, cookie, &response).await;
            answers.push(shown(&told, &key.id()));
        }
        assert_equal(&answers, door);
    }
}

/// S-22: whoever invites learns nothing of an address, nor does whoever comes upon an invitation that is not theirs.
#[tokio::test]
async fn invitations_tell_nothing_of_their_addresses_s22() {
    let settings = [&SETTINGS[..], &[UNVERIFIED]].concat();
    let app = TestApp::start(&settings).await;
    let _ = come(&app).await;
    let (olga, eve) = (app.signed_in("olga").await, app.signed_in("eve").await);
    let organization = app.founded(&olga, "acme").await;
    let (mut sent, mut again, mut removed) = (vec![], vec![], vec![]);
    let mut met = [const { vec![] }; 3];
    for name in PEOPLE {
        let email = email_of(name);
        let body = json!({"email": email, "role": "member", "organizationId": organization});
        let invited = app.organization(&olga, "invite-member", &body).await;
        assert_eq!(invited.status, 200, "{}", invited.text);
        let id = invited.json()["id"].as_str().unwrap().to_owned();
        sent.push(leveled_write(invited, &email, &[&id]));
        let twice = app.organization(&olga, "invite-member", &body).await;
        again.push(shown(&twice, &email));
        let whom = json!({"memberIdOrEmail": email, "organizationId": organization});
        let nobody = app.organization(&olga, "remove-member", &whom).await;
        removed.push(shown(&nobody, &email));

        let found = format!("get-invitation?id={id}");
        let found = app.organization_read(&eve, &found).await;
        let named = json!({"invitationId": id});
        let accepted = app.organization(&eve, "accept-invitation", &named).await;
        let rejected = app.organization(&eve, "reject-invitation", &named).await;
        for (met, answer) in met.iter_mut().zip([found, accepted, rejected]) {
            assert_eq!(answer.status, 403, "{}", answer.text);
            met.push(leveled(&answer, &email, &[&id]));
        }
        harness::wait_until("the mail is there", async || {
            app.mails_of("invitation", &email).await == 1
        })
        .await;
    }
    for (answers, what) in [(&sent, "invite"), (&again, "again"), (&removed, "remove")] {
        assert_equal(answers, what);
    }
    for answers in &met {
        assert_equal(answers, "an invitation for somebody else");
    }
}

/// S-22: somebody who is signed in has a link mailed to nobody else.
#[tokio::test]
async fn asking_for_anothers_verification_tells_nothing_s22() {
    let app = TestApp::start(&SETTINGS).await;
    let mut from = come(&app).await;
    let session = sign_in(&app, "verified", &from.next().unwrap()).await;
    let mut answers = Vec::new();
    for name in ["unproven", "stranger"] {
        let email = email_of(name);
        let request = app.request("POST", "/api/auth/send-verification-email");
        let request = with_cookie(request.json(&json!({"email": email})), &session);
        let told = answer(request.header("x-forwarded-for", from.next().unwrap())).await;
        assert_eq!(told.refusal().1, "EMAIL_MISMATCH");
        answers.push(shown(&told, &email));
    }
    assert_equal(&answers, "send-verification-email");
}

/// S-22: a sign-in that waited for its second factor once is told from one that never was by nobody.
#[tokio::test]
async fn a_challenge_that_is_over_looks_like_one_that_never_was_s22() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let spent = challenge(&app, "ada").await;
    let entered = json!({"code": ada.code(&app)});
    let door = "/api/auth/two-factor/verify-totp";
    assert_eq!(app.post_as(door, &spent, &entered).await.status, 200);
    let value = app.app.cookies.sign("2fa-abcdefghijklmnopqrst");
    let never = format!(
        "mana.two_factor={}",
        mana_auth::crypto::cookies::encode(&value)
    );
    for what in [
        "send-otp",
        "verify-totp",
        "verify-otp",
        "verify-backup-code",
    ] {
        let mut answers = Vec::new();
        for cookie in [&spent, &never] {
            let path = format!("/api/auth/two-factor/{what}");
            let told = app.post_as(&path, cookie, &json!({"code": "000000"})).await;
            assert_eq!(told.refusal().1, "INVALID_TWO_FACTOR_COOKIE");
            answers.push(shown(&told, "ada@example.com"));
        }
        assert_equal(&answers, what);
    }
}

/// S-22: a provider that proves no address does not find out either whose account it would be, by its page or by an ID
/// token, and nor does whoever links an account.
#[tokio::test]
async fn other_providers_are_told_nothing_of_an_address_s22() {
    let stage = Stage::set(&SETTINGS).await;
    let app = &stage.app;
    let mut from = come(app).await;
    let session = sign_in(app, "verified", &from.next().unwrap()).await;
    let token = |email: &str, verified: bool| {
        let mut claims = person("somebody-else", email, verified);
        let now = app.clock.now().timestamp();
        (claims["iss"], claims["aud"]) = (json!(ISSUER), json!(CLIENT_ID));
        (claims["iat"], claims["exp"]) = (json!(now), json!(now + 300));
        stage.provider.id_token(&claims)
    };
    let (mut by_page, mut by_token, mut linking) = (vec![], vec![], vec![]);
    for name in PEOPLE {
        let email = email_of(name);
        let came_back = stage
            .sign_in("plain", person("somebody-else", &email, false))
            .await;
        assert_eq!(
            came_back.header("location"),
            "/oops?error=email_not_verified"
        );
        by_page.push(shown(&came_back, &email));

        let body = json!({"provider": "oidc", "idToken": {"token": token(&email, false)}});
        let door = "/api/auth/sign-in/social";
        let told = post(app, door, &body, &from.next().unwrap()).await;
        assert_eq!(told.refusal(), (403, "EMAIL_NOT_VERIFIED".to_owned()));
        by_token.push(shown(&told, &email));
        if name == "verified" {
            continue;
        }
        let body = json!({"provider": "oidc", "idToken": {"token": token(&email, true)}});
        let request = app.request("POST", "/api/auth/link-social").json(&body);
        let told = answer(with_cookie(request, &session)).await;
        assert_eq!(told.refusal().1, "OAUTH_LINK_ERROR", "{}", told.text);
        linking.push(shown(&told, &email));
    }
    for (answers, what) in [
        (&by_page, "page"),
        (&by_token, "token"),
        (&linking, "linking"),
    ] {
        assert_equal(answers, what);
    }
}

/// S-22: what is somebody else's is not there.
#[tokio::test]
async fn an_id_of_somebody_elses_looks_like_one_of_nobodys_s22() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let app = &stage.app;
    let (ada, eve) = (app.signed_in("ada").await, app.signed_in("eve").await);
    let jwt = app.jwt(&eve.cookie).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let passkey = text(&passkeys::add(app, &ada, &Authenticator::new()).await["id"]);
    let key = api_keys::create(app, &app.jwt(&ada.cookie).await, &json!({"name": "x"})).await;
    let claims = person("ada-there", "ada@example.com", true);
    assert_eq!(stage.link(&ada, claims).await, "/linked");
    let account = stage.linked_id(&ada).await;
    let shown_to_ada = app.get_as("/api/auth/get-session", &ada.cookie).await;
    let session = text(&shown_to_ada.json()["session"]["id"]);
    for (route, field, id) in [
        ("POST /api/auth/revoke-session", "token", &ada.token),
        ("DELETE /api/v1/auth/sessions/ID", "", &session),
        ("DELETE /api/v1/auth/passkeys/ID", "", &passkey),
        ("PATCH /api/v1/auth/passkeys/ID", "", &passkey),
        ("DELETE /api/v1/api-keys/ID", "", &text(&key["id"])),
        ("POST /api/auth/unlink-account", "accountId", &account),
        ("POST /api/auth/get-access-token", "accountId", &account),
        ("POST /api/auth/refresh-token", "accountId", &account),
        ("GET /api/auth/account-info?accountId=ID", "", &account),
    ] {
        let (method, path) = route.split_once(' ').unwrap();
        let unknown = "x".repeat(id.len());
        let mut answers = Vec::new();
        for id in [id, &unknown] {
            let path = path.replace("ID", id);
            let mut request = app.request(method, &path).header("origin", ORIGIN);
            if method != "GET" {
                let mut body = json!({"name": "x"});
                if !field.is_empty() {
                    body = json!({field: id});
                }
                request = request.json(&body);
            }
            let request = if path.contains("api-keys") {
                request.bearer_auth(&jwt)
            } else {
                request.header("cookie", &eve.cookie)
            };
            answers.push(shown(&answer(request).await, id));
        }
        assert_equal(&answers, route);
    }
}
