//! What a deleted account leaves behind: its events, which nobody can open any more, and nothing else, whatever
//! happens meanwhile.

#![cfg(test)]

use std::collections::BTreeSet;

use aggregates::user::UserEvent;
use mana_auth::custody::{ONLY, kind};
use mana_auth::store::log;
use projections::AnyEvent;
use projections::users::UserRow;
use serde_json::{Value, json};

use crate::account::{email_of, last_link, mails, reset_token};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, answer, session_of};
use crate::deletion::delete_account;
use crate::harness::{TestApp, wait_until};
use crate::security_log::{Watched, type_of};

pub const PROXY: (&str, &str) = ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8");
/// Every table with rows of a person, its column that says whose they are, and how many stay.
const OF_PERSON: [(&str, &str, i64); 13] = [
    ("custody", "owner", 0),
    ("claims", "owner", 0),
    ("encryption_vaults", "user_id", 0),
    ("tokens", "user_id", 0),
    ("effects", "subject", 0),
    ("idempotency_keys", "subject", 0),
    ("door_events", "user_id", 0),
    ("read.users", "id", 0),
    ("read.sessions", "user_id", 0),
    ("read.devices", "user_id", 0),
    ("read.security_events", "user_id", 1),
    ("read.erasures", "id", 1),
    ("streams", "id", 1),
];

/// Fails unless all that is left of a person is their stream, and that they were erased.
pub async fn assert_erased(app: &TestApp, user_id: &str) {
    for (table, column, wanted) in OF_PERSON {
        let rows = format!("{table} where {column} = '{user_id}'");
        assert_eq!(app.count(&rows).await, wanted, "{table}");
    }
}

/// The row of an account.
pub async fn user_row(app: &TestApp, id: &str) -> UserRow {
    let found = projections::users::find(&app.app.pool, id).await;
    found.unwrap().expect("an account")
}

/// Sends a request from a device.
pub async fn from_device(
    app: &TestApp,
    (ip_address, agent): (&str, &str),
    (path, cookie): (&str, &str),
    body: &Value,
) -> Answer {
    let request = app.request("POST", path).json(body);
    let request = request
        .header("x-forwarded-for", ip_address)
        .header("user-agent", agent)
        .header("cookie", cookie)
        .header("origin", crate::client::ORIGIN);
    answer(request).await
}

/// A life with everything that an account can have; gives a session, and all that is personal or secret about it.
async fn whole_life(app: &TestApp) -> (Session, Vec<String>) {
    let devices = [
        ("203.0.113.77", "Difference-Engine/2.1"),
        ("198.51.100.23", "Analytical-Engine/4.9"),
    ];
    let (email, next, pending) = (
        "augusta.lovelace@analytical.example",
        "ada.byron@engines.example",
        "countess@ockham.example",
    );
    let account = json!({
        "name": "Augusta Lovelace-Byron", "email": email, "password": PASSWORD,
        "image": "https://pictures.example/augusta.png",
    });
    let request = app
        .request("POST", "/api/auth/sign-up/email")
        .json(&account);
    let request = request.header("idempotency-key", "the-key-of-her-sign-up");
    let signed_up = answer(request.header("x-forwarded-for", devices[0].0)).await;
    assert_eq!(signed_up.status, 200, "{}", signed_up.text);
    let credentials = json!({"email": email, "password": PASSWORD});
    let wrong = json!({"email": email, "password": "another good password"});
    let door = ("/api/auth/sign-in/email", "");
    from_device(app, devices[0], door, &wrong).await;
    let mut sessions = vec![session_of(&signed_up)];
    for device in devices {
        let signed_in = from_device(app, device, door, &credentials).await;
        sessions.push(session_of(&signed_in));
    }
    let ada = sessions.last().unwrap().clone();
    for (path, body) in [
        ("/api/auth/update-user", json!({"name": "Ada King"})),
        ("/api/auth/change-email", json!({"newEmail": next})),
    ] {
        let done = from_device(app, devices[1], (path, &ada.cookie), &body).await;
        assert_eq!(done.status, 200, "{path}: {}", done.text);
    }
    let link = last_link(app, "verify_email", next).await;
    let path = link.strip_prefix(&app.app.config.base_url).unwrap();
    let followed = app.get_as(path, &ada.cookie).await;
    assert_eq!(followed.status, 302, "{}", followed.text);
    let path = ("/api/auth/change-email", ada.cookie.as_str());
    let asked = from_device(app, devices[1], path, &json!({"newEmail": pending})).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let reset = reset_token(app, "/api/auth/request-password-reset", next).await;
    let custody = app.app.store.custody();
    let hash = custody.read(kind::PASSWORD, &ada.user_id, ONLY).await;
    let hash = String::from_utf8(hash.unwrap().unwrap().bytes.to_vec()).unwrap();
    let mut personal = vec![hash, reset];
    personal.extend(sessions.into_iter().map(|session| session.token));
    for text in [
        email,
        next,
        pending,
        "augusta",
        "Lovelace",
        "Ada King",
        "pictures.example",
    ] {
        personal.push(text.to_owned());
    }
    for (ip_address, agent) in devices {
        personal.extend([ip_address.to_owned(), agent.to_owned()]);
    }
    (ada, personal)
}

/// Those of the given texts that another one holds, as they are or as bytes in hexadecimal digits.
fn found_in<'a>(text: &str, personal: &'a [String]) -> Vec<&'a str> {
    let text = text.to_lowercase();
    let is_there = |one: &&String| {
        let one = one.to_lowercase();
        let hex: String = one.bytes().map(|byte| format!("{byte:02x}")).collect();
        text.contains(&one) || text.contains(&hex)
    };
    personal
        .iter()
        .filter(is_there)
        .map(String::as_str)
        .collect()
}

/// The tables of a dump that name a person by their id.
fn tables_with(dump: &str, user_id: &str) -> BTreeSet<String> {
    let mut table = "";
    let mut found = BTreeSet::new();
    for line in dump.lines() {
        if line.starts_with("public.") || line.starts_with("read.") {
            table = line;
        } else if line.contains(user_id) {
            found.insert(table.to_owned());
        }
    }
    found
}

/// Design section 7: of a whole life, nothing is left that says anything about the person, in the database or in an
/// answer; the log is whole, and what was sealed in it cannot be opened.
#[tokio::test]
async fn nothing_personal_is_left_of_an_erased_account() {
    let watched = Watched::start(&[UNVERIFIED, PROXY]).await;
    let app = &watched.app;
    let node = app.node(&[UNVERIFIED, PROXY]).await;
    let (ada, personal) = whole_life(app).await;
    let before = app.dump().await;
    let clear = found_in(&before, &personal);
    for known in ["ada.byron@engines.example", "Ada King", "203.0.113.77"] {
        assert!(clear.contains(&known), "{known} was there: {clear:?}");
    }
    assert!(tables_with(&before, &ada.user_id).len() > 10);
    sqlx::query("analyze").execute(&app.admin).await.unwrap();
    let sealed = sealed_payloads(app, &ada.user_id).await;
    assert!(sealed > 5, "{sealed}");

    delete_account(app, &ada).await;
    app.effects_done().await;
    wait_until("the key of the last mail is destroyed", async || {
        app.count("custody where owner like 'farewell:%'").await == 0
    })
    .await;
    assert_erased(app, &ada.user_id).await;
    let samples = app.samples().await;
    assert!(samples.contains(&ada.user_id), "samples were kept");
    let dump = app.dump().await + &samples;
    assert_eq!(found_in(&dump, &personal), Vec::<&str>::new());
    let dump = app.dump().await;
    let tables = [
        "public.custody_positions",
        "public.events",
        "public.events_000000",
        "public.streams",
        "read.erasures",
        "read.security_events",
    ];
    let tables = BTreeSet::from(tables.map(str::to_owned));
    assert_eq!(tables_with(&dump, &ada.user_id), tables);
    assert_eq!(sealed_payloads(app, &ada.user_id).await, sealed, "kept");
    for at in [app, &node] {
        assert_unreadable(at, &ada.user_id).await;
    }

    // The admin sees that it happened, not to whom nor from where.
    let seen = watched.ask(&format!("userId={}", ada.user_id)).await;
    let lines = seen.json()["events"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(type_of(&lines[0]), "ACCOUNT_DELETED");
    assert_eq!(lines[0]["metadata"], json!({"reason": "own_request"}));
    assert_eq!(found_in(&seen.text, &personal), Vec::<&str>::new());
}

/// How many events about a person have sealed parts.
async fn sealed_payloads(app: &TestApp, user_id: &str) -> i64 {
    let about = format!(
        "events where payload::text like '%\"sealed\"%' and payload::text like '%\"subject\": \"{user_id}\"%'"
    );
    app.count(&about).await
}

/// Fails unless the log is dense and opens, but for what is personal about somebody who was erased.
async fn assert_unreadable(app: &TestApp, user_id: &str) {
    let rows = log::after(&app.app.pool, 0, 10_000).await.unwrap();
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    assert_eq!(positions, (1..=rows.len() as i64).collect::<Vec<_>>());
    let about: Vec<_> = rows
        .into_iter()
        .filter(|row| row.subjects().contains(user_id) || row.aggregate_id == user_id)
        .collect();
    wait_until("the node has forgotten the key", async || {
        let custody = app.app.store.custody();
        custody.data_key(user_id).await.unwrap().is_none()
    })
    .await;
    let events = app.app.store.open(&about).await.unwrap();
    assert!(events.len() > 8, "{}", events.len());
    for opened in &events {
        assert_eq!(opened.client, None);
    }
    let registered = events.iter().find_map(|opened| match &opened.event {
        AnyEvent::User(UserEvent::Registered { email, name, .. }) => Some((email, name)),
        _ => None,
    });
    let (email, name) = registered.expect("the first event");
    assert_eq!((email.get(), name.get()), (None, None));
    let last = events.last().map(|opened| &opened.event);
    let is_last = matches!(
        last,
        Some(AnyEvent::User(UserEvent::ErasureRequested { .. }))
    );
    assert!(is_last, "{last:?}");
}

/// The last mail goes to the address that is gone; its key is destroyed with it, or after three days.
#[tokio::test]
async fn the_last_mail_is_sealed_under_a_key_of_its_own_and_leaves_nothing() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    app.effects_done().await;
    let keys = app.count("custody").await;
    // What becomes of it is written down, for it is gone before anybody can look.
    sqlx::raw_sql(
        "create table seen_custody as table custody with no data;
         create table seen_effects as table effects with no data;
         create function see() returns trigger language plpgsql as $$ begin
             execute format('insert into %I select ($1).*', 'seen_' || tg_table_name) using new;
             return new;
         end $$;
         grant insert on seen_custody, seen_effects to public;
         create trigger see after insert on custody for each row execute function see();
         create trigger see after insert on effects for each row execute function see();",
    )
    .execute(&app.admin)
    .await
    .unwrap();
    delete_account(&app, &ada).await;
    let told = mails(&app, "account_deleted", &email_of("ada")).await;
    assert_eq!(told.len(), 1);
    let sealed = "seen_effects e join seen_custody k on k.owner = e.subject
                  where k.kind = 'data_key' and k.owner like 'farewell:%' and e.kind = 'mail'";
    assert_eq!(app.count(sealed).await, 1);
    assert_eq!(app.count("seen_effects").await, 1, "no other mail");
    // Hers: the data key and the password.
    wait_until("its key is destroyed", async || {
        app.count("custody").await == keys - 2
    })
    .await;

    // Two that nobody takes, one of them for more than three days.
    for (name, hours) in [("old", 73), ("young", 71)] {
        let waiting = format!(
            "insert into custody select kind, 'farewell:{name}', id, version, kek_id, format, nonce, ciphertext,
                    event_position, clock_timestamp() - interval '{hours} hours' from seen_custody;
             insert into effects select gen_random_uuid(), kind, 'farewell:{name}', sealed, position, 1,
                    clock_timestamp() + interval '1 day' from seen_effects limit 1"
        );
        sqlx::raw_sql(
            "alter table custody disable trigger see; alter table effects disable trigger see",
        )
        .execute(&app.admin)
        .await
        .unwrap();
        sqlx::raw_sql(&waiting).execute(&app.admin).await.unwrap();
    }
    let node = app.node(&[UNVERIFIED]).await;
    let left = "effects where subject like 'farewell:%'";
    wait_until("the old one is given up", async || {
        node.count(left).await == 1
    })
    .await;
    for table in ["custody where owner", "effects where subject"] {
        let young = format!("{table} = 'farewell:young'");
        assert_eq!(node.count(&young).await, 1, "{table}");
        let old = format!("{table} = 'farewell:old'");
        assert_eq!(node.count(&old).await, 0, "{table}");
    }
}

/// An address is free at once; whoever registers it is somebody else.
#[tokio::test]
async fn the_address_can_be_registered_again_by_a_stranger_to_the_old_account() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let device = ("203.0.113.77", "Difference-Engine/2.1");
    let door = ("/api/auth/sign-in/email", "");
    let credentials = json!({"email": email_of("ada"), "password": PASSWORD});
    let before = app.signed_in("ada").await;
    from_device(&app, device, door, &credentials).await;
    delete_account(&app, &before).await;
    let after = app.signed_in("ada").await;
    assert_ne!(after.user_id, before.user_id);
    let signed_in = from_device(&app, device, door, &credentials).await;
    assert_eq!(session_of(&signed_in).user_id, after.user_id);
    let sessions = app.get_as("/api/auth/list-sessions", &after.cookie).await;
    assert_eq!(sessions.json().as_array().unwrap().len(), 2);
    let lines = app
        .get_as("/api/v1/auth/security-events", &after.cookie)
        .await;
    let lines = lines.json();
    let types: Vec<&str> = lines.as_array().unwrap().iter().map(type_of).collect();
    assert_eq!(types, ["login_success", "register"]);
    assert_eq!(app.mails_of("new_device", &email_of("ada")).await, 0);
    assert!(!app.is_live(&before.cookie).await);
    assert_erased(&app, &before.user_id).await;
    let devices = format!("read.devices where user_id = '{}'", after.user_id);
    assert_eq!(app.count(&devices).await, 1);
}
