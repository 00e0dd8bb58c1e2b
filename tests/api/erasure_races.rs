//! What happens at the same time as the deletion of an account: nothing about the person outlives it.

#![cfg(test)]

use mana_auth::accounts::Caller;
use mana_auth::door_log::{self, Tried};
use mana_auth::mail::MailKind;
use mana_auth::store::{Client, StoreError};
use mana_auth::{accounts, effects, links};

use crate::client::UNVERIFIED;
use crate::deletion::delete_account;
use crate::erasure::{assert_erased, user_row};
use crate::harness::TestApp;

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
