//! I-5 and I-6: no secret in the log, and what is personal sealed at its exact place.

use aggregates::user::User;
use mana_auth::custody::CustodyError;
use mana_auth::mail::{Mail, MailKind};
use mana_auth::store::claims::Claims;
use mana_auth::store::{Actor, Client, Context, StoreError, log};
use mana_auth::{effects, ids};
use projections::AnyEvent;
use sqlx::{Executor as _, PgPool};

use crate::harness::TestApp;
use crate::people::person;

/// The tables that may hold personal data only sealed or hashed: all but the read models.
/// Says who tried what from where, for a month; erasure deletes it. In clear like the read models.
const CLEAR_TABLE: &str = "door_events";

const SEALED_TABLES: [&str; 23] = [
    "api_key_uses",
    "attempts",
    "claims",
    "custody",
    "custody_positions",
    "effects",
    "encryption_vaults",
    "events",
    "followers.checkpoints",
    "followers.kek_seals",
    "followers.leases",
    "followers.models",
    "followers.nodes",
    "followers.parked",
    "followers.tiles",
    "idempotency_keys",
    "keks",
    "log_epochs",
    "passkey_uses",
    "rate_limits",
    "streams",
    "tokens",
    "totp_steps",
];

async fn text_of(admin: &PgPool, table: &str) -> String {
    // Bytes are shown as text too, so that what is merely encoded does not pass for sealed.
    let query = format!(
        "select coalesce(string_agg(to_jsonb(t)::text, E'\\n'), '') || coalesce((
             select string_agg(encode(convert_to(v.value, 'UTF8'), 'escape'), E'\\n')
             from {table} u, jsonb_each_text(to_jsonb(u)) v), '') from {table} t"
    );
    sqlx::query_scalar(&query).fetch_one(admin).await.unwrap()
}

/// Whether a text is there in clear, in hex or in base64 at any offset.
fn holds(haystack: &str, needle: &str) -> bool {
    use base64::Engine as _;
    let hex: String = needle.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Three offsets cover every alignment; the first and last characters depend on what is beside.
    let base64 = (0..3).map(|offset| {
        let padded = [vec![b'x'; offset], needle.as_bytes().to_vec()].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        text[4..text.len() - 2].to_owned()
    });
    haystack.contains(needle)
        || haystack.contains(&hex)
        || base64.into_iter().any(|b| haystack.contains(&b))
}

#[test]
fn the_search_finds_what_is_merely_encoded() {
    let address = "ada@people.example";
    for text in [
        "say ada@people.example twice",
        "say 6164614070656f706c652e6578616d706c65",
        "YWRhQHBlb3BsZS5leGFtcGxl",
        "LGFkYUBwZW9wbGUuZXhhbXBsZQ",
    ] {
        assert!(holds(text, address), "{text}");
    }
    assert!(!holds("bob@people.example", address));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_and_no_token_is_in_clear_outside_the_read_models() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada.Lovelace");
    let client = Client {
        ip_address: "192.0.2.199".to_owned(),
        user_agent: "Analytical Engine/1843".to_owned(),
    };
    let mail = Mail {
        url: Some("https://people.example/follow?token=very-secret".to_owned()),
        ..Mail::to(
            MailKind::AccountExists,
            "letters.to.ada@people.example",
            "Countess of Lovelace",
            None,
        )
    };
    // Nobody knows how to do it, so that it stays in the queue.
    let held = mana_auth::store::EffectDraft {
        kind: "held",
        ..effects::mail(ada.id.as_str(), &mail)
    };
    let context = ada
        .with_key(&node.app)
        .from(ada.id.as_str(), client.clone())
        .then(held);
    ada.sign_up_with(&node.app, context).await.unwrap();
    let context =
        Context::of(Actor::User(ada.id.to_string())).from(ada.id.as_str(), client.clone());
    ada.rename_with(&node.app, "Augusta Ada King", context)
        .await
        .unwrap();
    let session = ada.sign_in(&node.app, client.clone()).await;
    session.end(&node.app).await.unwrap();

    let clear = [
        ada.email.as_str(),
        ada.name.as_str(),
        "Augusta Ada King",
        client.ip_address.as_str(),
        client.user_agent.as_str(),
        mail.to.as_str(),
        mail.name.as_str(),
        mail.url.as_deref().unwrap(),
        "very-secret",
        session.token.as_str(),
    ];
    for table in SEALED_TABLES {
        let text = text_of(&node.admin, table).await;
        for value in clear {
            assert!(!holds(&text, value), "{table} holds {value}");
        }
    }
    let users = text_of(&node.admin, "read.users").await;
    assert!(
        holds(&users, "Augusta Ada King"),
        "the search is able to find"
    );
    let tables: Vec<String> = sqlx::query_scalar(
        "select case schemaname when 'public' then '' else schemaname || '.' end || tablename as name
         from pg_tables where schemaname in ('public', 'followers')
         and tablename not like 'events\\_%' and tablename not like '\\_sqlx%' and tablename <> $1 order by 1",
    )
    .bind(CLEAR_TABLE)
    .fetch_all(&node.admin)
    .await
    .unwrap();
    assert_eq!(tables, SEALED_TABLES, "a new table belongs on the list");
}

/// A superuser who goes round the triggers and exchanges two people's events is found out.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_exchanged_do_not_open() {
    let node = TestApp::start(&[]).await;
    let (ada, bob) = (person("Ada"), person("Bob"));
    for somebody in [&ada, &bob] {
        somebody.sign_up(&node.app).await.unwrap();
    }
    let rows = log::stream(&node.admin, "user", ada.id.as_str())
        .await
        .unwrap();
    let opened = node.app.store.open(&rows).await.unwrap();
    let AnyEvent::User(aggregates::user::UserEvent::Registered { name, .. }) = &opened[0].event
    else {
        panic!("{opened:?}")
    };
    assert_eq!(name.get().unwrap(), "Ada");

    let mut tx = node.admin.begin().await.unwrap();
    tx.execute("set local session_replication_role = replica")
        .await
        .unwrap();
    sqlx::query(
        "update events e set payload = other.payload from events other
         where e.aggregate_id = any($1) and other.aggregate_id = any($1)
           and e.aggregate_id <> other.aggregate_id and e.sequence = 1 and other.sequence = 1",
    )
    .bind([ada.id.to_string(), bob.id.to_string()])
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    for somebody in [&ada, &bob] {
        let loaded = node.app.store.load::<User>(somebody.id.as_str()).await;
        assert!(
            matches!(&loaded, Err(StoreError::Broken(reason)) if reason.contains("does not open")),
            "{loaded:?}"
        );
    }
}

/// S-37: a mail waits sealed, and leaves once although two nodes look for work.
#[tokio::test(flavor = "multi_thread")]
async fn each_queued_mail_leaves_once_from_whichever_node() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&one.app).await.unwrap();
    let mail = |number: i32| {
        let address = format!("ada{number}@people.example");
        Mail::to(MailKind::AccountExists, &address, "Ada", None)
    };
    for number in 0..20 {
        let app = if number % 2 == 0 { &one.app } else { &two.app };
        let actor = Context::of(Actor::User(ada.id.to_string()));
        let context = actor.then(effects::mail(ada.id.as_str(), &mail(number)));
        ada.rename_with(app, &format!("Ada {number}"), context)
            .await
            .unwrap();
    }
    one.effects_done().await;
    let mut receivers: Vec<String> = one.mails().into_iter().map(|mail| mail.to).collect();
    receivers.sort();
    let mut expected: Vec<String> = (0..20).map(|number| mail(number).to).collect();
    expected.sort();
    assert_eq!(receivers, expected);
}

/// A row of the queue that is moved to another event, kind or person does not open, so nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_queued_mail_that_was_moved_is_not_sent() {
    let node = TestApp::start(&[]).await;
    let (ada, eve) = (person("Ada"), person("Eve"));
    for somebody in [&ada, &eve] {
        somebody.sign_up(&node.app).await.unwrap();
    }
    let mail = Mail {
        url: Some("https://people.example/follow".to_owned()),
        ..Mail::to(MailKind::VerifyEmail, &ada.email, "Ada", None)
    };
    let held = mana_auth::store::EffectDraft {
        kind: "held",
        ..effects::mail(ada.id.as_str(), &mail)
    };
    let actor = Context::of(Actor::User(ada.id.to_string()));
    ada.rename_with(&node.app, "Ada King", actor.then(held))
        .await
        .unwrap();
    let (another_event, same_event): (uuid::Uuid, uuid::Uuid) = (
        ids::event(),
        sqlx::query_scalar("select event_id from effects")
            .fetch_one(&node.admin)
            .await
            .unwrap(),
    );
    for (event_id, kind, subject) in [
        (another_event, "held-elsewhere", ada.id.as_str()),
        (same_event, "mail", ada.id.as_str()),
        (ids::event(), "mail", eve.id.as_str()),
    ] {
        sqlx::query(
            "insert into effects (event_id, kind, subject, sealed, position)
             select $1, $2, $3, sealed, position from effects where event_id = $4 and kind = 'held'",
        )
        .bind(event_id)
        .bind(kind)
        .bind(subject)
        .bind(same_event)
        .execute(&node.admin)
        .await
        .unwrap();
    }
    crate::harness::wait_until("all of them were tried", async || {
        let untried = "select count(*) from effects where last_error is null";
        crate::tables::number(&node.admin, untried).await == 0
    })
    .await;
    let errors: Vec<String> =
        sqlx::query_scalar("select last_error from effects where kind <> 'held'")
            .fetch_all(&node.admin)
            .await
            .unwrap();
    assert_eq!(errors, ["does not open"; 3]);
    assert_eq!(node.mails().len(), 0);
}

/// With a new pepper no address would be found and every address would be free.
#[tokio::test(flavor = "multi_thread")]
async fn a_pepper_that_was_lost_is_not_replaced_while_somebody_holds_an_address() {
    let app = TestApp::start(&[]).await;
    let open = || Claims::open(app.app.pool.clone(), app.app.store.custody());
    person("ada").sign_up(&app.app).await.unwrap();
    assert!(open().await.is_ok());
    sqlx::query("delete from custody where kind = 'service' and id like 'pepper%'")
        .execute(&app.admin)
        .await
        .unwrap();
    assert!(matches!(open().await, Err(CustodyError::Lost(_))));
}
