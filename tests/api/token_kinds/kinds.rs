//! The columns: every kind of token and secret that the service gives out.

use std::pin::Pin;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::World;
use crate::authenticator::Authenticator;
use crate::client::{Answer, PASSWORD, Session, answer, link_token, session_of};
use crate::mailed;
use crate::stage::Begun;
use crate::two_factor::{Careful, cookie_of, mailed_code, show};
use crate::{account, api_keys, magic_link, passkeys, provider};

/// A token, and all else that somebody needs who wants to use it: nothing but its kind is to be wrong.
pub struct Held {
    pub token: String,
    pub email: String,
    pub password: &'static str,
    /// A live session, an authenticator app and backup codes.
    pub person: Careful,
    pub passkey: Authenticator,
    /// What the passkey is asked to sign.
    pub options: Value,
    /// A sign-in that waits for its second factor, by its id.
    pub challenge: String,
    /// The code that was mailed for it.
    pub mailed_code: String,
    /// A sign-in that has begun at a provider, and the code that leads back.
    pub begun: Begun,
    pub code: String,
    /// What an admin was given who acts as the person.
    pub acting: Answer,
}

type Making<'a> = Pin<Box<dyn Future<Output = Held> + 'a>>;
/// What the kind is called, and how somebody of a name comes to have one.
pub type Kind = (&'static str, for<'a> fn(&'a World, &'a str) -> Making<'a>);

/// All of them.
pub const KINDS: &[Kind] = &[
    ("session token", |w, n| made(w, n, session_token)),
    ("signed session token", |w, n| made(w, n, signed_token)),
    ("handle of a session", |w, n| made(w, n, session_handle)),
    ("id of a session", |w, n| made(w, n, session_id)),
    ("access token", |w, n| made(w, n, access_token)),
    ("id of a signing key", |w, n| made(w, n, signing_key)),
    ("challenge", |w, n| made(w, n, challenge)),
    ("code of an app", |w, n| made(w, n, app_code)),
    ("mailed code", |w, n| made(w, n, code)),
    ("backup code", |w, n| made(w, n, backup_code)),
    ("trusted device", |w, n| made(w, n, trusted_device)),
    ("magic link", |w, n| made(w, n, magic_link)),
    ("invitation", |w, n| made(w, n, invitation)),
    ("API key", |w, n| made(w, n, api_key)),
    ("id of an API key", |w, n| made(w, n, api_key_id)),
    ("new passkey", |w, n| made(w, n, new_passkey)),
    ("passkey sign-in", |w, n| made(w, n, passkey_sign_in)),
    ("challenge of a passkey", |w, n| made(w, n, to_be_signed)),
    ("state", |w, n| made(w, n, state)),
    ("way back of an admin", |w, n| made(w, n, admin_session)),
    ("idempotency key", |w, n| Box::pin(idempotency_key(w, n))),
    ("verification", |w, n| {
        mail(w, n, mailed::Kind::Verification)
    }),
    ("reset", |w, n| mail(w, n, mailed::Kind::Reset)),
    ("deletion", |w, n| mail(w, n, mailed::Kind::Deletion)),
    ("consent", |w, n| mail(w, n, mailed::Kind::Consent)),
    ("new address", |w, n| mail(w, n, mailed::Kind::NewEmail)),
    ("old address", |w, n| mail(w, n, mailed::Kind::WayBack)),
    ("end of sessions", |w, n| {
        mail(w, n, mailed::Kind::EndSessions)
    }),
];

/// Somebody new, and a token of theirs.
fn made<'a>(
    world: &'a World,
    name: &'a str,
    token: impl AsyncFnOnce(&World, &mut Held) -> String + 'a,
) -> Making<'a> {
    Box::pin(async move {
        let session = world.app().signed_in(name).await;
        let mut held = furnished(world, session, PASSWORD).await;
        held.token = token(world, &mut held).await;
        held
    })
}

fn mail<'a>(world: &'a World, name: &'a str, kind: mailed::Kind) -> Making<'a> {
    Box::pin(async move {
        let mailed = kind.mail(world.app(), name).await;
        let password = match kind {
            mailed::Kind::EndSessions => account::NEW,
            _ => PASSWORD,
        };
        let held = furnished(world, mailed.session, password).await;
        Held {
            token: mailed.token,
            ..held
        }
    })
}

async fn idempotency_key(world: &World, name: &str) -> Held {
    let key = format!("key-of-{name}");
    let signed_up = answer(sign_up(world, &format!("{name}@example.com"), &key)).await;
    let held = furnished(world, session_of(&signed_up), PASSWORD).await;
    Held { token: key, ..held }
}

/// A sign-up that may be repeated by its key.
pub fn sign_up(world: &World, email: &str, key: &str) -> RequestBuilder {
    let body = json!({"name": "Somebody", "email": email, "password": PASSWORD});
    let request = world.app().request("POST", "/api/auth/sign-up/email");
    request.header("idempotency-key", key).json(&body)
}

/// Gives somebody everything that any of the doors asks for beside its token.
async fn furnished(world: &World, session: Session, password: &'static str) -> Held {
    let app = world.app();
    let shown = app.get_as("/api/auth/get-session", &session.cookie).await;
    let email = shown.json()["user"]["email"].as_str().unwrap().to_owned();
    let person = Careful::of(app, session, password).await;
    let passkey = Authenticator::new();
    passkeys::add(app, &person.session, &passkey).await;
    let body = json!({"userId": person.user_id});
    let acting = app
        .admin_call("impersonate-user", &world.root.cookie, &body)
        .await;
    assert_eq!(acting.status, 200, "{}", acting.text);
    let begun = world.stage.begin("plain").await;
    let there = format!("{}@provider.example", person.user_id.to_lowercase());
    let claims = provider::person(&person.user_id, &there, true);
    let code = world.stage.agree(&begun, claims);

    let body = json!({"email": email, "password": password});
    let waiting = app.post("/api/auth/sign-in/email", &body).await;
    let cookie = cookie_of(&waiting, "two_factor").unwrap();
    let asked = show(app, "send-otp", &cookie, &json!({})).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    Held {
        token: String::new(),
        mailed_code: mailed_code(app, &email, 1).await,
        options: json!({"challenge": "whatever"}),
        challenge: world.value_of(&cookie),
        email,
        password,
        person,
        passkey,
        begun,
        code,
        acting,
    }
}

async fn session_token(_: &World, held: &mut Held) -> String {
    held.person.session.token.clone()
}

async fn signed_token(_: &World, held: &mut Held) -> String {
    let (_, value) = held.person.session.cookie.split_once('=').unwrap();
    value.to_owned()
}

/// What stands in the list for the token of another session.
async fn session_handle(world: &World, held: &mut Held) -> String {
    let app = world.app();
    let other = passkeys::sign_in(app, &held.passkey).await.json();
    let list = app.get_as("/api/auth/list-sessions", &held.person.session.cookie);
    let list = list.await.json();
    let mut tokens = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["token"].as_str().unwrap());
    let handle = tokens.find(|token| *token != held.person.session.token);
    let handle = handle.unwrap().to_owned();
    assert_ne!(handle, text(&other["session"]["token"]));
    handle
}

async fn session_id(world: &World, held: &mut Held) -> String {
    let shown = world
        .app()
        .get_as("/api/auth/get-session", &held.person.session.cookie);
    text(&shown.await.json()["session"]["id"])
}

async fn access_token(world: &World, held: &mut Held) -> String {
    world.app().jwt(&held.person.session.cookie).await
}

async fn signing_key(world: &World, _: &mut Held) -> String {
    world.app().app.signing.list().await.unwrap()[0]
        .0
        .id
        .clone()
}

async fn challenge(_: &World, held: &mut Held) -> String {
    held.challenge.clone()
}

async fn app_code(world: &World, held: &mut Held) -> String {
    held.person.code(world.app())
}

async fn code(_: &World, held: &mut Held) -> String {
    held.mailed_code.clone()
}

async fn backup_code(_: &World, held: &mut Held) -> String {
    held.person.codes[0].clone()
}

async fn trusted_device(world: &World, held: &mut Held) -> String {
    let body = json!({"code": held.person.codes[1], "trustDevice": true});
    let path = "/api/auth/two-factor/verify-backup-code";
    let shown = world
        .app()
        .post_as(path, &held.person.session.cookie, &body)
        .await;
    world.value_of(&cookie_of(&shown, "trust_device").unwrap())
}

async fn magic_link(world: &World, held: &mut Held) -> String {
    let url = magic_link::link(world.app(), &held.email, json!({})).await;
    link_token(&url).to_owned()
}

async fn invitation(world: &World, held: &mut Held) -> String {
    let app = world.app();
    let (name, _) = held.email.split_once('@').unwrap();
    let host = app.signed_in(&format!("host-of-{name}")).await;
    let organization = app.founded(&host, &format!("at-{name}")).await;
    app.invited(&host, &organization, name, "member").await
}

async fn new_api_key(world: &World, held: &Held) -> Value {
    let jwt = world.app().jwt(&held.person.session.cookie).await;
    api_keys::create(world.app(), &jwt, &json!({"name": "x"})).await
}

async fn api_key(world: &World, held: &mut Held) -> String {
    text(&new_api_key(world, held).await["key"])
}

async fn api_key_id(world: &World, held: &mut Held) -> String {
    text(&new_api_key(world, held).await["id"])
}

async fn new_passkey(world: &World, held: &mut Held) -> String {
    let begun = passkeys::begin(world.app(), "register", &held.person.session.cookie).await;
    held.options = begun.options;
    world.value_of(&begun.cookie)
}

async fn passkey_sign_in(world: &World, held: &mut Held) -> String {
    let begun = passkeys::begin(world.app(), "authenticate", "").await;
    held.options = begun.options;
    world.value_of(&begun.cookie)
}

async fn to_be_signed(world: &World, held: &mut Held) -> String {
    passkey_sign_in(world, held).await;
    text(&held.options["challenge"])
}

async fn state(_: &World, held: &mut Held) -> String {
    held.begun.state.clone()
}

async fn admin_session(world: &World, held: &mut Held) -> String {
    world.value_of(&cookie_of(&held.acting, "admin_session").unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
