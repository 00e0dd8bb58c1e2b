//! S-62, S-64: nobody reads or writes what is another's, whichever id a request names and wherever it names it; and
//! whoever is banned is nobody at every door. Swaps of the ids of organizations are in `organizations/tenants`.

#![cfg(test)]

mod requests;

use std::collections::{BTreeMap, BTreeSet};

use mana_auth::http::doors::areas;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::authenticator::Authenticator;
use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer};
use crate::harness::TestApp;
use crate::organizations::Tenant;
use crate::organizations::tenants::{filled, ids, swaps};
use crate::provider::person;
use crate::stage::Stage;
use crate::{api_keys, passkeys};
use requests::Request;

/// Every route there is.
const SETTINGS: [(&str, &str); 5] = [
    UNVERIFIED,
    ("MANA_AUTH_TEAMS", "true"),
    ("MANA_AUTH_DYNAMIC_ROLES", "true"),
    ("MANA_AUTH_MULTI_SESSION", "true"),
    ("MANA_AUTH_ADMIN_EMAILS", "root@example.com"),
];

/// Ids by the name that requests have for them.
type Ids = BTreeMap<&'static str, String>;

/// An organization with its people, whose owner has one of everything.
struct House {
    tenant: Tenant,
    ids: Ids,
    /// What nobody else may ever be shown.
    secrets: Vec<String>,
}

impl House {
    async fn build(stage: &Stage, slug: &str) -> House {
        let tenant = stage.app.tenant(slug).await;
        let belongings = belongings(stage, &tenant.owner, &format!("{slug}.owner")).await;
        let mut ids = ids(&tenant);
        ids.extend(belongings);
        ids.insert("fresh", slug.to_owned());
        let people = [&tenant.owner, &tenant.admin, &tenant.member];
        let mut secrets: Vec<String> = ids.values().cloned().collect();
        secrets.extend(people.map(|one| one.user_id.clone()));
        secrets.extend(tenant.member_ids.clone());
        // How its people are called, and their addresses.
        secrets.push(format!("{slug}."));
        House {
            tenant,
            ids,
            secrets,
        }
    }

    /// Every row that names the organization or one of its people, but for the books of the doors.
    async fn rows(&self, app: &TestApp) -> BTreeSet<String> {
        let Tenant {
            id,
            owner,
            admin,
            member,
            ..
        } = &self.tenant;
        let named = [id, &owner.user_id, &admin.user_id, &member.user_id];
        let named = named.map(String::as_str).join("|");
        app.effects_done().await;
        let tables = app.tables().await.into_iter();
        let books = ["public.attempts", "public.door_events"];
        let tables = tables.filter(|table| !books.contains(&table.as_str()));
        let rows = tables.map(|table| {
            format!("select '{table}: ' || t::text from {table} t where t::text ~ $1")
        });
        let rows = rows.collect::<Vec<_>>().join(" union all ");
        let rows = sqlx::query_scalar(&rows).bind(&named);
        let rows: Vec<String> = rows.fetch_all(&app.admin).await.unwrap();
        rows.into_iter().collect()
    }

    /// Fails if an answer tells anything of the house that is not among what is known already.
    fn assert_silent(&self, known: &str, answer: &Answer) {
        let shown = format!("{:?} {}", answer.headers, answer.text);
        for secret in &self.secrets {
            assert!(
                known.contains(secret.as_str()) || !shown.contains(secret.as_str()),
                "{known} tells of {secret}: {shown}"
            );
        }
    }
}

/// Fails unless the rows are those from before.
fn assert_same(before: &BTreeSet<String>, now: &BTreeSet<String>, what: &str) {
    let changed: Vec<_> = before.symmetric_difference(now).collect();
    assert!(changed.is_empty(), "{what}: {changed:#?}");
}

/// Gives somebody a passkey, an API key, a linked account and another session.
async fn belongings(stage: &Stage, session: &Session, name: &str) -> Ids {
    let app = &stage.app;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let email = format!("{name}@example.com");
    let passkey = passkeys::add(app, session, &Authenticator::new()).await;
    let jwt = app.jwt(&session.cookie).await;
    let key = api_keys::create(app, &jwt, &json!({"name": format!("{name} key")})).await;
    let claims = person(&format!("subject of {name}"), &email, true);
    assert_eq!(stage.link(session, claims).await, "/linked");
    let account = stage.linked_id(session).await;
    let body = json!({"accountId": account});
    let tokens = app.post_as("/api/auth/get-access-token", &session.cookie, &body);
    let tokens = tokens.await.json();
    let other = app.sign_in(name).await;
    let shown = app.get_as("/api/auth/get-session", &other.cookie).await;
    BTreeMap::from([
        ("owner", session.user_id.clone()),
        ("email", email),
        ("passkey", text(&passkey["id"])),
        ("credential", text(&passkey["credentialID"])),
        ("api key", text(&key["id"])),
        ("account", account),
        ("access token", text(&tokens["accessToken"])),
        ("session", text(&shown.json()["session"]["id"])),
        ("token", other.token),
    ])
}

/// How a request shows who sends it.
enum By<'a> {
    Nobody,
    Cookie(&'a str),
    Bearer(&'a str),
}

fn takes_bearers_alone(path: &str) -> bool {
    ["/api/v1/api-keys", "/api/v1/admin", "/api/v1/gilden"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

fn request(app: &TestApp, (route, body): &Request, by: &By<'_>) -> RequestBuilder {
    let (method, path) = route.split_once(' ').unwrap();
    let request = app.request(method, path).header("origin", ORIGIN);
    let request = match method {
        "GET" => request,
        _ => request.json(body),
    };
    match by {
        By::Nobody => request,
        By::Cookie(cookie) => request.header("cookie", *cookie),
        By::Bearer(token) => request.bearer_auth(token),
    }
}

fn with_ids((route, body): &Request, ids: &Ids) -> Request {
    let body = serde_json::from_str(&filled(&body.to_string(), ids)).unwrap();
    (filled(route, ids), body)
}

/// Sends a request as somebody; what was sent, and the answer.
async fn send(app: &TestApp, who: &Session, sent: &Request) -> (String, Answer) {
    let (_, path) = sent.0.split_once(' ').unwrap();
    let answer = if takes_bearers_alone(path) {
        let jwt = app.jwt(&who.cookie).await;
        answer(request(app, sent, &By::Bearer(&jwt))).await
    } else {
        answer(request(app, sent, &By::Cookie(&who.cookie))).await
    };
    let sent = format!("{} {}", sent.0, sent.1);
    assert!(answer.status < 500, "{sent}: {}", answer.text);
    (sent, answer)
}

/// Whether a request is one of a door, whose path may hold names of its parts.
fn is_of(route: &str, method: &str, path: &str) -> bool {
    let (of, rest) = route.split_once(' ').unwrap();
    let rest = rest.split('?').next().unwrap();
    let (asked, known): (Vec<_>, Vec<_>) = (rest.split('/').collect(), path.split('/').collect());
    let same = |(asked, known): (&&str, &&str)| asked == known || known.starts_with('{');
    of == method && asked.len() == known.len() && asked.iter().zip(&known).all(same)
}

/// Whoever adds a door has to say which ids it takes.
#[test]
fn every_door_has_a_request_here_s62() {
    let all = requests::all();
    for (prefix, doors) in areas() {
        for door in doors {
            let path = format!("{prefix}{}", door.path);
            let mut known = all.iter();
            let known = known.any(|(route, _)| is_of(route, door.method.as_str(), &path));
            assert!(known, "{} {path} is in no list of requests", door.method);
        }
    }
}

/// S-62
#[tokio::test]
async fn no_id_of_anybody_else_reads_or_writes_anything_s62() {
    let stage = Stage::set(&SETTINGS).await;
    let app = &stage.app;
    let own = House::build(&stage, "acme").await;
    let foreign = House::build(&stage, "evilcorp").await;
    let stranger = app.signed_in("stranger").await;
    let before = foreign.rows(app).await;
    for request in requests::naming().into_iter().chain(requests::of_guilds()) {
        for ids in swaps(&request, &own.ids, &foreign.ids) {
            for who in [&own.tenant.owner, &own.tenant.member, &stranger] {
                let (sent, answer) = send(app, who, &with_ids(&request, &ids)).await;
                foreign.assert_silent(&sent, &answer);
                assert_same(&before, &foreign.rows(app).await, &sent);
            }
        }
    }
}

/// The requests above do what they say for whom it all belongs to: what was found harmless is no misspelling.
#[tokio::test]
async fn the_same_requests_work_for_whom_it_belongs_to() {
    let stage = Stage::set(&SETTINGS).await;
    let app = &stage.app;
    let naming = requests::naming();
    let own = naming
        .iter()
        .filter(|(route, _)| !route.contains("/admin/"));
    for (number, request) in own.enumerate() {
        let name = format!("p{number}");
        let ada = app.signed_in(&name).await;
        let ids = belongings(&stage, &ada, &name).await;
        // A device shows the sessions that it may go over to by their cookies.
        let other = app.app.cookies.sign(&ids["token"]);
        let key = ids["token"].to_lowercase();
        let kept = mana_auth::crypto::cookies::encode(&other);
        let cookie = format!("{}; mana.session_token_multi-{key}={kept}", ada.cookie);
        let on_device = Session { cookie, ..ada };
        let (sent, answer) = send(app, &on_device, &with_ids(request, &ids)).await;
        assert_eq!(answer.status, 200, "{sent}: {}", answer.text);
    }
}

/// S-62: whoever a request says that it is from, it is from whoever shows the session.
#[tokio::test]
async fn no_field_of_a_request_says_who_sends_it_s62() {
    let stage = Stage::set(&SETTINGS).await;
    let app = &stage.app;
    let own = House::build(&stage, "acme").await;
    let foreign = House::build(&stage, "evilcorp").await;
    let before = foreign.rows(app).await;
    let mut who = own.tenant.owner.clone();
    for (number, request) in requests::all().iter().enumerate() {
        if !app.is_live(&who.cookie).await {
            who = app.signed_in(&format!("acme.again{number}")).await;
        }
        let (mut route, mut body) = with_ids(request, &own.ids);
        for (field, id) in [
            ("userId", "owner"),
            ("user_id", "owner"),
            ("sub", "owner"),
            ("actorId", "owner"),
            ("inviterId", "owner"),
            ("impersonatedBy", "owner"),
            ("sessionId", "session"),
            ("activeOrganizationId", "organization"),
        ] {
            let id = &foreign.ids[id];
            if let Value::Object(body) = &mut body {
                body.entry(field).or_insert(json!(id));
            }
            if !route.contains(&format!("{field}=")) {
                let mark = if route.contains('?') { '&' } else { '?' };
                route = format!("{route}{mark}{field}={id}");
            }
        }
        let (sent, answer) = send(app, &who, &(route, body)).await;
        foreign.assert_silent(&sent, &answer);
        assert_same(&before, &foreign.rows(app).await, &sent);
    }
}

/// Whoever asks for a mail has a token made for whom it goes to.
const MAILS: [&str; 3] = [
    "POST /api/auth/sign-in/magic-link",
    "POST /api/auth/request-password-reset",
    "POST /api/v1/auth/forgot-password",
];

/// S-64: at every door, whoever is banned gets the answer of somebody without a session, however they show theirs, and
/// what is theirs stays as it is.
#[tokio::test]
async fn whoever_is_banned_is_nobody_at_every_door_s64() {
    let stage = Stage::set(&SETTINGS).await;
    let app = &stage.app;
    let root = app.signed_in("root").await;
    let house = House::build(&stage, "acme").await;
    let owner = &house.tenant.owner;
    let jwt = app.jwt(&owner.cookie).await;
    app.admin_does("ban-user", &root, &json!({"userId": owner.user_id}))
        .await;
    for (number, asked) in requests::all().iter().enumerate() {
        let shown = [
            By::Nobody,
            By::Cookie(&owner.cookie),
            By::Bearer(&owner.token),
            By::Bearer(&jwt),
        ];
        let mut statuses = vec![];
        for (by, shown) in shown.iter().enumerate() {
            let mut ids = house.ids.clone();
            // An address that nobody has used yet.
            ids.insert("fresh", format!("{number}-{by}"));
            let sent = with_ids(asked, &ids);
            let before = house.rows(app).await;
            let told = answer(request(app, &sent, shown)).await;
            let what = format!("{} {}: {}", sent.0, sent.1, told.text);
            assert!(!told.session_cookie().contains(&owner.token), "{what}");
            if !MAILS.contains(&asked.0.as_str()) {
                assert_same(&before, &house.rows(app).await, &what);
            }
            statuses.push(told.status);
        }
        let [nobody, banned @ ..] = &statuses[..] else {
            unreachable!("nobody asks first");
        };
        assert!(
            banned.iter().all(|status| status == nobody),
            "{}: {statuses:?}",
            asked.0
        );
    }
    let refused = app.try_sign_in("acme.owner", PASSWORD).await;
    assert_eq!(refused.refusal(), (403, "BANNED_USER".to_owned()));
}

/// S-64: whoever was taken out, and whoever is invited and has not come, gets nothing of it at any door.
#[tokio::test]
async fn whoever_is_not_in_gets_nothing_at_any_door_s64() {
    let stage = Stage::set(&SETTINGS).await;
    let app = &stage.app;
    let house = House::build(&stage, "evilcorp").await;
    let (out, _) = app
        .joined(&house.tenant.owner, &house.tenant.id, "removed", "admin")
        .await;
    let body = json!({"memberIdOrEmail": "removed@example.com", "organizationId": house.tenant.id});
    app.organized(&house.tenant.owner, "remove-member", &body)
        .await;
    // Their first session goes on to say where they were, and is looked at elsewhere.
    app.post_as("/api/auth/sign-out", &out.cookie, &json!({}))
        .await;
    let out = app.sign_in("removed").await;
    let invited = app.signed_in("invited").await;
    app.invited(&house.tenant.owner, &house.tenant.id, "invited", "admin")
        .await;
    let before = house.rows(app).await;
    for (who, name) in [(out, "removed"), (invited, "invited")] {
        let mut ids = house.ids.clone();
        ids.insert("email", format!("{name}@example.com"));
        let mut who = who;
        for (number, request) in requests::all().iter().enumerate() {
            let (sent, answer) = send(app, &who, &with_ids(request, &ids)).await;
            house.assert_silent(&sent, &answer);
            assert_same(&before, &house.rows(app).await, &sent);
            if !app.is_live(&who.cookie).await {
                who = app.signed_in(&format!("{name}.again{number}")).await;
            }
        }
    }
}
