//! I-1: nobody changes the log, neither the service's role nor its owner nor a superuser by accident.

use mana_auth::cluster::Role;
use mana_auth::database;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::harness::TestApp;
use crate::people::person;
use crate::tables::{number, snapshot};

/// SQLSTATE of a missing right, and of a refusal by our triggers.
const NO_RIGHT: &str = "42501";
const REFUSED: &str = "23001";

async fn connection(node: &TestApp, role: Role) -> PgConnection {
    let options = database::options(&node.database_url(role)).unwrap();
    options.connect().await.unwrap()
}

/// The SQLSTATE with which a statement is refused.
async fn refusal(connection: &mut PgConnection, statement: &str) -> String {
    match connection.execute(statement).await {
        Ok(done) => panic!("not refused: {statement} ({done:?})"),
        Err(error) => {
            let error = error.into_database_error().unwrap();
            error.code().unwrap().into_owned()
        }
    }
}

async fn partitions(node: &TestApp) -> Vec<String> {
    sqlx::query_scalar("select inhrelid::regclass::text from pg_inherits where inhparent = 'events'::regclass order by 1")
        .fetch_all(&node.admin)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_updates_deletes_or_truncates_the_log_or_a_partition_of_it() {
    let node = TestApp::start(&[]).await;
    person("Ada").sign_up(&node.app).await.unwrap();
    let before = snapshot(&node.admin).await;
    let partitions = partitions(&node).await;
    assert!(partitions.len() >= 3, "two lie ahead of the head");
    let head = partitions[0].as_str();
    assert_eq!(
        number(&node.admin, &format!("select count(*) from {head}")).await,
        number(&node.admin, "select count(*) from events").await,
        "the rows that are to be defended are in the first partition"
    );
    for (role, code) in [
        (Role::App, NO_RIGHT),
        (Role::Owner, REFUSED),
        (Role::Superuser, REFUSED),
    ] {
        let mut connection = connection(&node, role).await;
        for table in ["events", head] {
            for statement in [
                format!("update {table} set payload = '{{}}'"),
                format!("update {table} set position = position where position = 1"),
                format!("delete from {table}"),
                format!("delete from {table} where position = 1"),
            ] {
                let got = refusal(&mut connection, &statement).await;
                assert_eq!(got, code, "{role:?}: {statement}");
            }
        }
        for table in ["events"]
            .into_iter()
            .chain(partitions.iter().map(String::as_str))
        {
            for statement in [
                format!("truncate {table}"),
                format!("truncate {table} cascade"),
            ] {
                let got = refusal(&mut connection, &statement).await;
                assert_eq!(got, code, "{role:?}: {statement}");
            }
        }
    }
    assert_eq!(snapshot(&node.admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_made_later_is_defended_like_the_first() {
    let node = TestApp::start(&[]).await;
    // As if the log had grown to where the third partition begins.
    node.admin
        .execute(
            "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
             values (20000000, 'test', 'far', 1, 'test.happened', '1', '{}', '{}', gen_random_uuid())",
        )
        .await
        .unwrap();
    let mut app = connection(&node, Role::App).await;
    // The service has them made, without the right to make tables; it may have been faster than we are.
    app.execute("select ensure_event_partitions()")
        .await
        .unwrap();
    let last = partitions(&node).await.pop().unwrap();
    assert_eq!(last, "events_000004");
    let mut superuser = connection(&node, Role::Superuser).await;
    assert_eq!(
        refusal(&mut superuser, &format!("truncate {last}")).await,
        REFUSED
    );
    assert_eq!(
        refusal(&mut app, &format!("truncate {last}")).await,
        NO_RIGHT
    );
    assert_eq!(
        refusal(&mut superuser, "delete from events_000002").await,
        REFUSED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_role_cannot_alter_what_defends_the_log() {
    let node = TestApp::start(&[]).await;
    let mut app = connection(&node, Role::App).await;
    for statement in [
        "create table public.other (id text)",
        "create function public.other() returns integer language sql as 'select 1'",
        "alter table events add column other text",
        "alter table events disable trigger all",
        "alter table events disable trigger events_no_change",
        "alter table events rename to other",
        "alter table events owner to mana_auth_app",
        "alter table events detach partition events_000001",
        "drop table events",
        "drop table events_000001",
        "drop trigger events_no_change on events",
        "drop trigger events_no_truncate on events_000000",
        "create trigger other before insert on events for each row execute function refuse_change()",
        "create rule other as on delete to events do instead nothing",
        "drop function refuse_change() cascade",
        "alter function refuse_change() rename to other",
        "create or replace function refuse_change() returns trigger language plpgsql as 'begin return new; end'",
        "drop function append(text[], text[], bigint[], bigint[], text[], text[], text[], text[], bigint[], integer[],
                              bigint[], text[], text[], text[], text[], uuid[], text[], text[], jsonb)",
        "alter schema public owner to mana_auth_app",
        "drop schema public cascade",
        "set role mana_auth_owner",
        "set session authorization mana_auth_owner",
        "set session_replication_role = replica",
        "update log_epochs set number = 2",
        "delete from log_epochs",
        "delete from streams",
    ] {
        assert_eq!(refusal(&mut app, statement).await, NO_RIGHT, "{statement}");
    }
    // PostgreSQL only warns of a grant by somebody who has nothing to grant.
    app.execute("grant all on events to mana_auth_app")
        .await
        .unwrap();
    assert_eq!(refusal(&mut app, "delete from events").await, NO_RIGHT);
    for role in [Role::App, Role::Owner] {
        let bypasses: bool = sqlx::query_scalar(
            "select rolsuper or rolbypassrls or rolcreaterole from pg_roles where rolname = $1",
        )
        .bind(role.name())
        .fetch_one(&node.admin)
        .await
        .unwrap();
        assert!(!bypasses, "{role:?} has no right beside its own");
    }
}
