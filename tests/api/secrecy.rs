//! What is secret or personal stands neither in the database nor in the log lines.

#![cfg(test)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use mana_auth::telemetry::TextFields;
use serde_json::json;
use tracing::Dispatch;
use tracing::dispatcher::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::TestApp;
use crate::seen::{EMAIL, PASSWORD, PERSONAL, SETTINGS, Seen, whole_flow};

/// Columns of texts, bytes and JSON of which the planner may keep samples: they say nothing that an erasure or a rotation
/// has to take away.
const SAMPLED: [&str; 43] = [
    "action",
    "active_organization_id",
    "active_team_id",
    "aggregate_id",
    "aggregate_type",
    "check_value",
    "checksum",
    "context",
    "description",
    "event_id",
    "event_type",
    "event_version",
    "events.metadata",
    "events.payload",
    "id",
    "impersonated_by",
    "inviter_id",
    "kek_id",
    "key_id",
    "kind",
    "last_error",
    "models.name",
    "organization_id",
    "organization_roles.name",
    "owner",
    "passkey_id",
    "pepper_id",
    "permission",
    "provider_id",
    "public_key",
    "reason",
    "role",
    "scope",
    "scopes",
    "session_id",
    "state",
    "status",
    "subject",
    "team_id",
    "team_ids",
    "tier",
    "type",
    "user_id",
];

/// S-89: what PostgreSQL keeps beside the rows, until it looks at their table again.
#[tokio::test]
async fn the_planner_keeps_no_samples_of_what_is_personal_or_secret_s89() {
    let app = TestApp::start(&[]).await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, a.attname::text
         from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relnamespace in ('public'::regnamespace, 'read'::regnamespace) and c.relkind in ('r', 'p')
           and not c.relispartition and a.attnum > 0 and not a.attisdropped
           and a.atttypid in ('text'::regtype, 'text[]'::regtype, 'bytea'::regtype, 'json'::regtype, 'jsonb'::regtype)
           and a.attstattarget is distinct from 0",
    )
    .fetch_all(&app.admin)
    .await
    .unwrap();
    assert!(columns.len() > 40, "{columns:?}");
    let rest: Vec<String> = columns
        .into_iter()
        .filter(|(_, column)| !SAMPLED.contains(&column.as_str()))
        .map(|(table, column)| format!("{table}.{column}"))
        .filter(|column| !SAMPLED.contains(&column.as_str()))
        .collect();
    assert_eq!(rest, Vec::<String>::new(), "may samples of these be kept?");
}

/// S-26, I-5, I-6: a copy of the database signs nobody in, and its log names nobody.
#[tokio::test]
async fn the_database_holds_no_usable_secret_s26() {
    let app = TestApp::start(&SETTINGS).await;
    let seen = whole_flow(&app).await;
    // Live sessions and waiting mails are there as well.
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let live = app.post("/api/auth/sign-in/email", &body).await;
    assert_eq!(live.status, 200);
    let dump = app.dump().await;
    assert!(
        dump.contains("public.custody") && dump.contains("read.sessions") && dump.len() > 10_000
    );
    seen.is_absent_from(&dump, "the database");
    let mut rest = Seen::default();
    rest.add_answer(&live);
    rest.is_absent_from(&dump, "the database");
    // Links that end sessions, take a change back and delete; resets; and in three parts each, proofs of addresses.
    for (what, at_least) in [
        ("challenge", 3),
        ("API key", 1),
        ("mailed token", 5),
        ("reset token", 2),
        ("mailed proof", 9),
    ] {
        assert!(seen.count(what) >= at_least, "{what}s were seen");
    }

    assert!(
        !dump.to_lowercase().contains("babbage"),
        "who was deleted is forgotten"
    );
    let events: Vec<String> = sqlx::query_scalar("select e::text from events e")
        .fetch_all(&app.admin)
        .await
        .unwrap();
    let events = events.join("\n").to_lowercase();
    for personal in PERSONAL {
        assert!(
            !events.contains(&personal.to_lowercase()),
            "the log names {personal}"
        );
    }
}

/// Collects log lines.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects those of this thread for as long as what it gives back is kept.
    pub fn catch(&self) -> (Dispatch, DefaultGuard) {
        let subscriber = || {
            let subscriber = tracing_subscriber::fmt()
                .fmt_fields(TextFields)
                .with_max_level(tracing::Level::TRACE)
                .with_writer(self.clone());
            Dispatch::new(subscriber.finish())
        };
        // While there is only one, each thread decides for all whether a line is wanted; so there are two.
        let second = subscriber();
        (second, tracing::dispatcher::set_default(&subscriber()))
    }

    /// What was collected.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// S-37: whatever is written to the log at the most talkative level, nobody is named and nothing is given away. The
/// test's runtime has one thread, so the service in it writes here.
#[tokio::test]
async fn log_lines_hold_no_secret_and_name_nobody_s37() {
    let lines = Lines::default();
    let caught = lines.catch();
    let app = TestApp::start(&SETTINGS).await;
    let seen = whole_flow(&app).await;
    // Failures talk more than successes.
    sqlx::query("alter table read.sessions rename to hidden")
        .execute(&app.admin)
        .await
        .unwrap();
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let failed = app.post("/api/auth/sign-in/email", &body).await;
    assert_eq!(failed.status, 500, "{}", failed.text);
    assert!(
        !failed.text.contains("sessions"),
        "what failed is for the log"
    );
    sqlx::query("alter table read.hidden rename to sessions")
        .execute(&app.admin)
        .await
        .unwrap();
    drop(caught);
    let lines = lines.text();
    assert!(
        lines.contains("request failed") && lines.contains("/api/auth/sign-in/email"),
        "lines were caught"
    );
    seen.is_absent_from(&lines, "the log");
    for personal in PERSONAL {
        let line = lines
            .lines()
            .find(|line| line.to_lowercase().contains(&personal.to_lowercase()));
        assert_eq!(line, None, "{personal}");
    }
}
