//! What happens at the same time as the deletion of an account: nothing about the person outlives it.

#![cfg(test)]

use mana_auth::accounts::Caller;
use mana_auth::door_log::{self, Tried};
use mana_auth::mail::MailKind;
use mana_auth::store::{Client, StoreError};
use mana_auth::{accounts, effects, links};

use futures_util::future::join_all;
use serde_json::json;

use crate::account::{NEW, email_of};
use crate::client::{PASSWORD, UNVERIFIED};
use crate::deletion::delete_account;
use crate::erasure::{PROXY, assert_erased, from_device, user_row};
use crate::harness::{TestApp, wait_until};
use crate::password_races::Held;
use crate::rebuild::compare;

const DEVICE: (&str, &str) = ("203.0.113.77", "Difference-Engine/2.1");

/// Fails unless every read model is what the log says.
async fn assert_rebuilt_alike(app: &TestApp) {
    for model in projections::ALL {
        let compared = compare(app, model).await;
        assert_eq!(compared.differing, Vec::<String>::new(), "{}", model.name);
    }
}

/// Between the moment when an account is closed and the one when its keys are destroyed, nothing is appended about
/// its owner on any node: no session begins, and none ends with a line in the security log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_appended_about_somebody_whose_account_is_closed() {
    let settings = [UNVERIFIED, PROXY];
    let app = TestApp::start(&settings).await;
    let (second, third) = (app.node(&settings).await, app.node(&settings).await);
    let ada = app.signed_in("ada").await;
    let other = third.sign_in("ada").await;
    let held = Held::start(&app).await;
    let deleting = delete_account(&app, &ada);
    // Who waits is let in in the order of arrival: closing, signing in, signing out, destroying.
    let meanwhile = async {
        held.waited_for_by(&app, 1).await;
        let body = json!({"email": email_of("ada"), "password": PASSWORD});
        let signing_in = from_device(&second, DEVICE, ("/api/auth/sign-in/email", ""), &body);
        let rest = async {
            held.waited_for_by(&app, 2).await;
            let path = ("/api/auth/sign-out", other.cookie.as_str());
            let nothing = json!({});
            let signing_out = from_device(&third, DEVICE, path, &nothing);
            let letting_go = async {
                held.waited_for_by(&app, 3).await;
                held.let_go().await;
            };
            tokio::join!(signing_out, letting_go).0
        };
        tokio::join!(signing_in, rest)
    };
    let ((), (signed_in, signed_out)) = tokio::join!(deleting, meanwhile);
    let wanted = (401, "INVALID_EMAIL_OR_PASSWORD".to_owned());
    assert_eq!(signed_in.refusal(), wanted, "{}", signed_in.text);
    assert_eq!(signed_out.status, 200, "{}", signed_out.text);
    app.effects_done().await;
    assert_erased(&app, &ada.user_id).await;
    assert_rebuilt_alike(&app).await;
}

/// Everything that can happen to an account at once, on two nodes: no answer is a failure, and whatever came first,
/// the deletion is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_of_a_person_outlives_a_deletion_amid_everything_else() {
    let settings = [UNVERIFIED, PROXY];
    let app = TestApp::start(&settings).await;
    let node = app.node(&settings).await;
    for round in 0..3 {
        let name = format!("p{round}");
        let (here, there) = (app.signed_in(&name).await, node.sign_in(&name).await);
        let nothing = json!({});
        let new_address = json!({"newEmail": format!("new-{name}@example.com")});
        let new_password = json!({"currentPassword": PASSWORD, "newPassword": NEW});
        let new_name = json!({"name": "Somebody else"});
        let good = json!({"email": email_of(&name), "password": PASSWORD});
        let wrong = json!({"email": email_of(&name), "password": "no such password"});
        let address = json!({"email": email_of(&name)});
        let requests = [
            ("/api/auth/sign-in/email", &good),
            ("/api/auth/delete-user", &nothing),
            ("/api/auth/sign-in/email", &wrong),
            ("/api/auth/change-email", &new_address),
            ("/api/auth/request-password-reset", &address),
            ("/api/auth/update-user", &new_name),
            ("/api/v1/auth/login", &good),
            ("/api/auth/change-password", &new_password),
            ("/api/v1/auth/change-password", &new_password),
            ("/api/auth/send-verification-email", &address),
            ("/api/auth/revoke-other-sessions", &nothing),
            ("/api/auth/sign-in/email", &good),
            ("/api/v1/auth/register", &good),
        ];
        let both = [(&app, &here), (&node, &there)];
        let all = (0..2 * requests.len()).map(|number| {
            let (at, own) = both[number % 2];
            let (path, body) = requests[number / 2];
            // What ends all other sessions comes from the same one, so that this one can delete the account.
            let ends_others = path.ends_with("password") || path.contains("revoke");
            let session = if ends_others { &here } else { own };
            from_device(at, DEVICE, (path, &session.cookie), body)
        });
        for (number, answered) in join_all(all).await.iter().enumerate() {
            let path = requests[number / 2].0;
            assert!(answered.status < 500, "{path}: {}", answered.text);
        }
        let closed = format!("read.erasures where id = '{}'", here.user_id);
        assert_eq!(app.count(&closed).await, 1);
        app.effects_done().await;
        assert_erased(&app, &here.user_id).await;
        for session in [&here, &there] {
            for at in [&app, &node] {
                wait_until("it is over", async || !at.is_live(&session.cookie).await).await;
            }
        }
    }
    assert_rebuilt_alike(&app).await;
}

/// A request that was on its way when the account was erased writes nothing about it any more, even on a node that
/// has not heard of the erasure and remembers the key.
#[tokio::test]
async fn what_is_late_writes_nothing_about_an_erased_person() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    app.effects_done().await;
    let user = user_row(&app, &ada.user_id).await;
    let caller = caller();
    let request = door_log::write(
        &app.app,
        Tried::PasswordResetRequested,
        &user.email,
        None,
        "OK",
        &caller,
    );
    let noted = request.await.unwrap();
    delete_account(&app, &ada).await;
    app.effects_done().await;
    let late = links::send_deletion(&app.app, &user, "/").await;
    assert!(matches!(late, Err(StoreError::NoDataKey)), "{late:?}");
    let failed = Tried::LoginFailure;
    let late = door_log::write(&app.app, failed, &user.email, Some(&user.id), "X", &caller);
    late.await.unwrap();
    door_log::attribute(&app.app, &noted, &user.id)
        .await
        .unwrap();
    assert_erased(&app, &ada.user_id).await;
    assert_eq!(
        app.count("door_events where ip_address = '203.0.113.9'")
            .await,
        1
    );

    let bob = app.signed_in("bob").await;
    app.effects_done().await;
    let key = app
        .app
        .store
        .custody()
        .data_key(&bob.user_id)
        .await
        .unwrap();
    assert!(key.is_some(), "remembered");
    let destroyed = sqlx::query("delete from custody where owner = $1").bind(&bob.user_id);
    destroyed.execute(&app.admin).await.unwrap();
    let mail = accounts::mail_to(MailKind::AccountExists, &user);
    let late = effects::enqueue(&app.app, &effects::mail(&bob.user_id, &mail)).await;
    assert!(matches!(late, Err(StoreError::NoDataKey)), "{late:?}");
}

fn caller() -> Caller {
    Caller {
        client: Client {
            ip_address: "203.0.113.9".to_owned(),
            user_agent: "Late".to_owned(),
        },
        network: String::new(),
        request_id: "late".to_owned(),
        traceparent: None,
    }
}
