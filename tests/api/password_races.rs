//! What happens at the same time as a new password: no session that begins with the old one outlives it (S-07).

#![cfg(test)]

use futures_util::future::join_all;
use mana_auth::cluster::Role;
use mana_auth::database;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::account::NEW;
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED};
use crate::harness::{TestApp, wait_until};

/// The lock that every append takes. Who waits for it is let in in the order of arrival.
const APPENDS: i64 = 7_165_746_300;

/// Appends that wait until they are let go.
pub struct Held(PgConnection);

impl Held {
    pub async fn start(app: &TestApp) -> Held {
        let url = app.database_url(Role::Superuser);
        let mut holder = database::options(&url).unwrap().connect().await.unwrap();
        let lock = format!("select pg_advisory_lock({APPENDS})");
        holder.execute(lock.as_str()).await.unwrap();
        Held(holder)
    }

    /// Waits until so many nodes wait.
    pub async fn waited_for_by(&self, app: &TestApp, nodes: i64) {
        let waiting = "pg_locks where locktype = 'advisory' and not granted
            and database = (select oid from pg_database where datname = current_database())";
        wait_until("an append waits", async || {
            app.count(waiting).await == nodes
        })
        .await;
    }

    pub async fn let_go(self) {
        self.0.close().await.unwrap();
    }
}

/// The live sessions of an account.
async fn live(app: &TestApp, session: &Session) -> i64 {
    let of_user = format!("read.sessions where user_id = '{}'", session.user_id);
    app.count(&of_user).await
}

async fn change(app: &TestApp, session: &Session, start_again: bool) -> Answer {
    let body = json!({
        "currentPassword": PASSWORD, "newPassword": NEW, "revokeOtherSessions": start_again,
    });
    app.post_as("/api/auth/change-password", &session.cookie, &body)
        .await
}

/// S-07: the password is checked before it is changed, the session would begin after.
#[tokio::test]
async fn a_sign_in_that_is_overtaken_by_a_new_password_is_refused_s07() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let held = Held::start(&app).await;
    let changing = async {
        let changed = change(&app, &ada, false).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    };
    let signing_in = async {
        held.waited_for_by(&app, 1).await;
        let late = node.try_sign_in("ada", PASSWORD);
        let wait_and_let_go = async {
            held.waited_for_by(&app, 2).await;
            held.let_go().await;
        };
        let (late, ()) = tokio::join!(late, wait_and_let_go);
        let wanted = (401, "INVALID_EMAIL_OR_PASSWORD".to_owned());
        assert_eq!(late.refusal(), wanted, "{}", late.text);
    };
    tokio::join!(changing, signing_in);
    assert_eq!(live(&app, &ada).await, 1);
    assert!(app.is_live(&ada.cookie).await);
}

/// S-07: whoever changes a password twice, or has it reset, before the first change has begun a session anew.
#[tokio::test]
async fn no_session_begins_after_a_change_that_another_one_has_overtaken_s07() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let first = Held::start(&app).await;
    let changing = change(&app, &ada, true);
    let overtaking = async {
        first.waited_for_by(&app, 1).await;
        // It gets its turn between the new password and the session that follows.
        let let_go = async {
            first.waited_for_by(&app, 2).await;
            first.let_go().await;
        };
        let (second, ()) = tokio::join!(Held::start(&app), let_go);
        second.waited_for_by(&app, 1).await;
        let another =
            "update custody set version = version + 1 where kind = 'password' and owner = $1";
        let another = sqlx::query(another).bind(&ada.user_id);
        another.execute(&app.admin).await.unwrap();
        second.let_go().await;
    };
    let (changed, ()) = tokio::join!(changing, overtaking);
    assert_eq!(changed.refusal(), (401, "UNAUTHORIZED".to_owned()));
    assert_eq!(live(&app, &ada).await, 0);
    assert_eq!(changed.session_cookie(), "");
}

/// S-07: of many at once, on two nodes, whatever comes first.
#[tokio::test]
async fn of_many_sign_ins_during_a_change_none_outlives_it_with_the_old_password_s07() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    for round in 0..3 {
        let name = format!("p{round}");
        let ada = app.signed_in(&name).await;
        let sign_ins = join_all((0..40).map(|number| {
            let at = [&app, &node][number % 2];
            at.try_sign_in(&name, PASSWORD)
        }));
        let (sign_ins, changed) = tokio::join!(sign_ins, change(&app, &ada, false));
        assert_eq!(changed.status, 200, "{}", changed.text);
        for sign_in in &sign_ins {
            match sign_in.status {
                200 => {}
                401 => continue,
                other => panic!("{other}: {}", sign_in.text),
            }
            let cookie = sign_in.session_cookie();
            assert!(!app.is_live(&cookie).await);
            wait_until("it is over on the other node", async || {
                !node.is_live(&cookie).await
            })
            .await;
        }
        assert!(app.is_live(&ada.cookie).await);
        assert_eq!(live(&app, &ada).await, 1);
        assert_eq!(node.try_sign_in(&name, NEW).await.status, 200);
    }
}
