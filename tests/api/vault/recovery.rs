//! Recovery wraps of before: kept for 30 days, put back by their owner, gone with them (S-76). And who is told of
//! changes.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::Mode::{Absent, Standard, WithRecovery, ZeroKnowledge};
use super::{bring_to, line, mode_of, off, on, other_key, wrap};
use crate::account::email_of;
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED};
use crate::deletion::delete_account;
use crate::harness::TestApp;
use crate::limits::LIMITED;

const RESTORE: &str = "/recovery-wrap/restore";

async fn restore(app: &TestApp, who: &Session, more: Value) -> Answer {
    let mut body = json!({"password": PASSWORD});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    app.vault(who, "POST", RESTORE, &body).await
}

fn restored(name: &str, in_place: bool) -> Value {
    json!({
        "ok": true, "restored": in_place, "recoveryWrappedMk": format!("{name}-wrapped"),
        "recoveryIv": format!("{name}-iv"), "formatVersion": 1,
    })
}

async fn set(app: &TestApp, who: &Session, name: &str) {
    app.clock.advance(TimeDelta::minutes(1));
    app.vault_does(who, "POST", "/recovery-wrap", &wrap(name))
        .await;
}

async fn kept(app: &TestApp, who: &Session) -> i64 {
    let kept = format!(
        "custody where kind = 'recovery_wrap' and owner = '{}'",
        who.user_id
    );
    app.count(&kept).await
}

/// What the recovery code opens, as zero-knowledge mode shows it.
async fn recovery_of(app: &TestApp, who: &Session) -> Value {
    let given = app.vault_does(who, "GET", "/key", &Value::Null).await;
    given["recoveryWrappedMk"].clone()
}

/// S-76, the stolen session: whatever a thief does with it, the owner's recovery code opens the vault again.
#[tokio::test]
async fn what_a_stolen_session_does_to_the_recovery_wrap_is_undone_by_its_owner_s76() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    for (number, zero_knowledge) in [false, true].into_iter().enumerate() {
        let ada = app.signed_in(&format!("p{number}")).await;
        bring_to(
            &app,
            &ada,
            if zero_knowledge {
                ZeroKnowledge
            } else {
                WithRecovery
            },
        )
        .await;
        // More than once, so that the good one is not the last that was replaced.
        for name in ["thief", "thief again"] {
            set(&app, &ada, name).await;
        }
        if !zero_knowledge {
            app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
        }
        assert_eq!(recovery_of(&app, &ada).await, json!("thief again-wrapped"));
        let before = app.clock.now() - TimeDelta::minutes(2);
        let done = restore(&app, &ada, json!({"at": before})).await;
        assert_eq!((done.status, done.json()), (200, restored("first", true)));
        assert_eq!(recovery_of(&app, &ada).await, json!("first-wrapped"));
        let lines = app.vault_lines(&ada.user_id).await;
        assert_eq!(lines[lines.len() - 2], line("recovery_restore", 200, ""));
        // What was in its place is kept in turn.
        let done = restore(&app, &ada, json!({})).await;
        assert_eq!(done.json(), restored("thief again", true));
        assert_eq!(mode_of(&app, &ada).await, ZeroKnowledge);
    }
}

/// A wrap that was taken away comes back; one of before a rotation holds another key, is given out, and promises
/// nothing.
#[tokio::test]
async fn what_a_rotation_has_ended_is_given_out_and_not_put_back_s76() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    app.vault_does(&ada, "DELETE", "/recovery-wrap", &Value::Null)
        .await;
    assert_eq!(mode_of(&app, &ada).await, Standard);
    assert_eq!(
        restore(&app, &ada, json!({})).await.json(),
        restored("first", true)
    );
    assert_eq!(mode_of(&app, &ada).await, WithRecovery);
    assert_eq!(kept(&app, &ada).await, 0, "it is in its place again");

    let rotated = app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    assert_eq!(mode_of(&app, &ada).await, Standard);
    for _ in 0..2 {
        assert_eq!(
            restore(&app, &ada, json!({})).await.json(),
            restored("first", false)
        );
    }
    assert_eq!(mode_of(&app, &ada).await, Standard);
    assert_eq!(json!(app.vault_key(&ada).await), rotated["masterKey"]);
    let lines = app.vault_lines(&ada.user_id).await;
    assert_eq!(
        lines[lines.len() - 2],
        line("recovery_restore", 200, "another-key")
    );
    // The same after another key was handed back in zero-knowledge mode.
    set(&app, &ada, "second").await;
    set(&app, &ada, "third").await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &off(&other_key()))
        .await;
    assert_eq!(
        restore(&app, &ada, json!({})).await.json(),
        restored("second", false)
    );
}

/// S-75: one that was altered keeps nobody from the others, and whoever asks for it has their line.
#[tokio::test]
async fn a_wrap_that_does_not_open_is_passed_over_unless_it_is_asked_for_s75() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    let first_was_there = app.clock.now();
    for name in ["second", "third"] {
        set(&app, &ada, name).await;
    }
    let second_was_there = app.clock.now() - TimeDelta::minutes(1);
    let alter = async |ids: &str| {
        let alter = format!(
            "update custody set ciphertext = set_byte(ciphertext, 0, 255 - get_byte(ciphertext, 0))
             where kind = 'recovery_wrap' and id = (select {ids}(id) from custody where kind = 'recovery_wrap')"
        );
        let done = sqlx::query(&alter).execute(&app.admin).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    };
    let fails = async |more: Value| {
        let broken = restore(&app, &ada, more).await;
        assert_eq!(broken.status, 500, "{}", broken.text);
        let lines = app.vault_lines(&ada.user_id).await;
        let failed = line("recovery_restore", 500, "wrap-not-opened");
        assert_eq!(lines.last(), Some(&failed));
    };
    // The last that was replaced.
    alter("max").await;
    fails(json!({})).await;
    fails(json!({"at": second_was_there})).await;
    alter("max").await;
    // The first.
    alter("min").await;
    fails(json!({"at": first_was_there})).await;
    let done = restore(&app, &ada, json!({})).await;
    assert_eq!((done.status, done.json()), (200, restored("second", true)));
    let second_was_back = app.clock.now();
    set(&app, &ada, "fourth").await;
    set(&app, &ada, "fifth").await;
    alter("max").await;
    let done = restore(&app, &ada, json!({"at": second_was_back})).await;
    assert_eq!((done.status, done.json()), (200, restored("second", true)));
}

#[tokio::test]
async fn there_may_be_nothing_to_put_back() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    for (number, mode) in super::MODES.into_iter().enumerate() {
        let who = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &who, mode).await;
        let refused = restore(&app, &who, json!({})).await;
        let (wanted, context) = if mode == Absent {
            (
                json!({"error": "vault not initialised", "code": "VAULT_NOT_INITIALISED"}),
                "no-vault",
            )
        } else {
            let error = "no previous recovery wrap is kept";
            (
                json!({"error": error, "code": "NO_PREVIOUS_RECOVERY_WRAP"}),
                "nothing-kept",
            )
        };
        assert_eq!((refused.status, refused.json()), (404, wanted), "{mode:?}");
        let lines = app.vault_lines(&who.user_id).await;
        assert_eq!(lines.last(), Some(&line("recovery_restore", 404, context)));
        assert_eq!(mode_of(&app, &who).await, mode);
    }
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    let begun = app.clock.now();
    set(&app, &ada, "second").await;
    // Before there was one, and since the one of now is there.
    for at in [begun - TimeDelta::minutes(1), app.clock.now()] {
        assert_eq!(
            restore(&app, &ada, json!({"at": at})).await.status,
            404,
            "{at}"
        );
    }
    for at in [json!("yesterday"), json!(1), json!(["x"])] {
        let refused = restore(&app, &ada, json!({"at": at})).await;
        assert_eq!(refused.refusal(), (400, "BAD_REQUEST".to_owned()), "{at}");
    }
    assert_eq!(restore(&app, &ada, json!({"at": begun})).await.status, 200);
}

/// S-76: for 30 days to the millisecond, whether or not anybody has cleaned up; then it is destroyed.
#[tokio::test]
async fn a_wrap_is_kept_for_30_days_s76_s32() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    set(&app, &ada, "second").await;
    app.clock
        .advance(TimeDelta::days(30) - TimeDelta::milliseconds(1));
    let session = app.sign_in("ada").await;
    let done = restore(&app, &session, json!({})).await;
    assert_eq!(done.json(), restored("first", true));
    app.clock.advance(TimeDelta::days(30));
    let session = app.sign_in("ada").await;
    assert_eq!(restore(&app, &session, json!({})).await.status, 404);
    assert_eq!(kept(&app, &ada).await, 1, "nobody has cleaned up");
    for (days, left) in [("29 days 23 hours", 1), ("30 days 1 minute", 0)] {
        let aged = format!(
            "update custody set created_at = clock_timestamp() - interval '{days}' where kind = 'recovery_wrap'"
        );
        sqlx::query(&aged).execute(&app.admin).await.unwrap();
        mana_auth::maintenance::chores(&app.app).await.unwrap();
        assert_eq!(kept(&app, &ada).await, left, "{days}");
    }
}

/// S-76, S-60: a session alone is not enough, unless it has just begun.
#[tokio::test]
async fn whoever_puts_a_wrap_back_has_just_shown_who_they_are_s60_s76() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    for name in ["second", "third", "fourth"] {
        app.vault_does(&ada, "POST", "/recovery-wrap", &wrap(name))
            .await;
    }
    app.clock
        .advance(TimeDelta::minutes(5) - TimeDelta::milliseconds(1));
    let fresh = app.vault(&ada, "POST", RESTORE, &Value::Null).await;
    assert_eq!(fresh.status, 200, "{}", fresh.text);
    app.clock.advance(TimeDelta::milliseconds(1));
    let before = app.vault_events(&ada.user_id).await.len();
    for body in [
        Value::Null,
        json!({}),
        json!({"password": ""}),
        json!({"password": 1}),
    ] {
        let refused = app.vault(&ada, "POST", RESTORE, &body).await;
        let wanted = json!({"error": "Session is not fresh", "code": "SESSION_NOT_FRESH"});
        assert_eq!((refused.status, refused.json()), (403, wanted));
    }
    let wrong = app
        .vault(
            &ada,
            "POST",
            RESTORE,
            &json!({"password": "not the password"}),
        )
        .await;
    let wanted = json!({"error": "Invalid credentials", "code": "INVALID_CREDENTIALS"});
    assert_eq!((wrong.status, wrong.json()), (401, wanted));
    let mut lines = app.vault_lines(&ada.user_id).await;
    let mut denied = vec![line("recovery_restore", 403, "not-proven"); 4];
    denied.push(line("recovery_restore", 401, "wrong-password"));
    assert_eq!(lines.split_off(before), denied, "S-75");
    assert_eq!(restore(&app, &ada, json!({})).await.status, 200);
    let again = app.sign_in("ada").await;
    assert_eq!(
        app.vault(&again, "POST", RESTORE, &Value::Null)
            .await
            .status,
        200
    );
}

/// S-75: a line has the status that was answered, also when passwords are not looked at any more.
#[tokio::test]
async fn whoever_guesses_at_the_password_has_lines_with_the_status_that_was_answered_s75() {
    let app = TestApp::start(&LIMITED).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let mut answered = vec![];
    for _ in 0..8 {
        let refused = restore(&app, &ada, json!({"password": "not the password"})).await;
        answered.push(refused.status);
        let context = match refused.status {
            401 => "wrong-password",
            429 => "too-many-tries",
            status => panic!("{status}: {}", refused.text),
        };
        let last = app.vault_lines(&ada.user_id).await.pop();
        assert_eq!(
            last,
            Some(line("recovery_restore", refused.status, context))
        );
    }
    assert_eq!((answered[0], answered[7]), (401, 429), "{answered:?}");
}

/// S-76: whoever owns the vault is told of every change to who can open it, and of nothing else.
#[tokio::test]
async fn changes_are_mailed_s76() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let mut told = 0;
    for (method, path, body, says) in [
        ("POST", "/init", Value::Null, None),
        ("POST", "/init", Value::Null, None),
        ("GET", "/key", Value::Null, None),
        ("POST", "/rotate", Value::Null, None),
        ("POST", "/zero-knowledge", on(), None),
        ("DELETE", "/recovery-wrap", Value::Null, None),
        (
            "POST",
            "/recovery-wrap",
            wrap("first"),
            Some("eingerichtet"),
        ),
        (
            "POST",
            "/recovery-wrap",
            wrap("second"),
            Some("durch einen anderen ersetzt"),
        ),
        (
            "POST",
            RESTORE,
            json!({"password": PASSWORD}),
            Some("wieder ein früherer"),
        ),
        ("POST", RESTORE, json!({"password": "wrong"}), None),
        (
            "DELETE",
            "/recovery-wrap",
            Value::Null,
            Some("gilt seit gerade eben nicht mehr"),
        ),
        (
            "POST",
            "/recovery-wrap",
            wrap("third"),
            Some("eingerichtet"),
        ),
        ("POST", "/zero-knowledge", on(), Some("eingeschaltet")),
        ("POST", "/zero-knowledge", on(), None),
        (
            "POST",
            "/recovery-wrap",
            wrap("fourth"),
            Some("durch einen anderen ersetzt"),
        ),
        ("DELETE", "/recovery-wrap", Value::Null, None),
        ("POST", "/rotate", Value::Null, None),
        (
            "POST",
            "/zero-knowledge",
            off(&other_key()),
            Some("ausgeschaltet"),
        ),
        ("POST", "/zero-knowledge", off(&other_key()), None),
        (
            "POST",
            "/rotate",
            Value::Null,
            Some("gilt seit gerade eben nicht mehr"),
        ),
    ] {
        app.vault(&ada, method, path, &body).await;
        app.effects_done().await;
        let mails = app.mails();
        let mails: Vec<_> = mails
            .iter()
            .filter(|mail| mail.kind == "vault_changed")
            .collect();
        if let Some(says) = says {
            told += 1;
            let mail = mails.last().expect(says);
            assert!(mail.text.contains(says), "{method} {path}: {}", mail.text);
            assert_eq!(mail.to, email_of("ada"));
            let link = mail.url.as_deref().unwrap();
            assert!(link.contains("/api/v1/auth/end-sessions?token="), "{link}");
        }
        assert_eq!(mails.len(), told, "{method} {path} {body}");
    }
}

/// I-7: of a vault nothing is left but its lines, and those name nobody.
#[tokio::test]
async fn erasure_destroys_the_vault_and_what_was_kept_of_it_i7() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    for who in [&ada, &bob] {
        bring_to(&app, who, WithRecovery).await;
        set(&app, who, "second").await;
    }
    assert_eq!(
        (app.count("encryption_vaults").await, kept(&app, &ada).await),
        (2, 1)
    );
    let lines = app.vault_lines(&ada.user_id).await;
    delete_account(&app, &ada).await;
    assert_eq!(
        (app.count("encryption_vaults").await, kept(&app, &ada).await),
        (1, 0)
    );
    assert_eq!(kept(&app, &bob).await, 1);
    assert_eq!(
        app.vault_lines(&ada.user_id).await,
        lines,
        "the history stands"
    );
    for event in app.vault_events(&ada.user_id).await {
        assert!(event.access().client.get().is_none());
    }
    assert_eq!(
        app.vault(&ada, "POST", "/init", &Value::Null).await.status,
        401
    );
    app.vault_key(&bob).await;
}
