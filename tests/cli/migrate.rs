//! `migrate`: the schema, once and again, and never backwards.

use mana_auth::cluster::Role;
use mana_auth::database;
use sqlx::{ConnectOptions as _, Executor as _, Row as _};

use crate::harness::Shared;
use crate::place::Place;

/// Tables, columns, functions and rights, as text.
const SHAPE: &str = "select coalesce(string_agg(line, E'\\n' order by line), '') from (
    select format('%s.%s %s %s', table_schema, table_name, column_name, data_type) as line
    from information_schema.columns where table_schema in ('public', 'read')
    union all select format('%s %s', p.oid::regprocedure, md5(p.prosrc))
    from pg_proc p where pronamespace in ('public'::regnamespace, 'read'::regnamespace)
    union all select format('%s %s', c.oid::regclass, (select array_agg(a::text order by a::text) from unnest(relacl) a))
    from pg_class c where relnamespace in ('public'::regnamespace, 'read'::regnamespace) and relkind in ('r', 'p')) lines";

#[tokio::test]
async fn an_empty_database_is_brought_up_to_date_once_and_again() {
    let place = Place::new().await;
    let shape = place.text(SHAPE).await;
    // A database without anything, as an administrator hands it over.
    let empty = format!("{}_empty", place.name());
    let create = format!("create database {empty} owner mana_auth_owner");
    place.admin.execute(create.as_str()).await.unwrap();
    let url = |role| Shared::get().url(role, &empty);
    let cli = place
        .cli
        .with("DATABASE_URL", &url(Role::App))
        .with("MANA_AUTH_MIGRATION_URL", &url(Role::Owner));
    let complaint = cli.run(&["user", "sessions", "nobody"]).await.refused(1);
    assert!(complaint.contains("run `mana-auth migrate`"), "{complaint}");
    let mut admin = database::options(&url(Role::Superuser))
        .unwrap()
        .connect()
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            cli.run(&["migrate"]).await.well(),
            "The database is up to date.\n"
        );
        let made: String = admin.fetch_one(SHAPE).await.unwrap().get(0);
        assert_eq!(made, shape);
    }
    assert!(cli.run(&["keys", "list"]).await.well().contains("active"));
}

/// What a database was before there were factors.
const BEFORE_FACTORS: &str = "
    drop table read.accounts, read.passkeys, read.api_keys;
    drop function read.apply_accounts, read.apply_passkeys, read.apply_api_keys;
    alter table read.sessions drop column active_organization_id, drop column active_team_id,
        drop column impersonated_by;
    alter table read.users drop column banned, drop column ban_reason, drop column ban_expires,
        drop column two_factor_enabled;
    delete from _sqlx_migrations where version = 20261126090000";

#[tokio::test]
async fn people_who_were_there_before_get_what_a_rebuild_would_give_them() {
    let place = Place::new().await;
    for name in ["lovelace", "hopper"] {
        place.person(name).await;
    }
    let rows = "select to_jsonb(a)::text as line from read.accounts a order by 1";
    let before = place.text(rows).await;
    sqlx::raw_sql(BEFORE_FACTORS)
        .execute(&place.admin)
        .await
        .unwrap();
    place.cli.run(&["migrate"]).await.well();
    assert_eq!(place.text(rows).await, before);
    place.cli.run(&["doctor", "--deep"]).await.well();
}

#[tokio::test]
async fn a_database_that_is_newer_than_the_program_is_refused() {
    let place = Place::new().await;
    let newer =
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (20991231000000, 'of a later version', true, '', 0)";
    place.admin.execute(newer).await.unwrap();
    let before = place.everything().await;
    let expected = "error: the database is newer than this program: it has migration 20991231000000, \
                    which this version does not know. Run a newer mana-auth\n";
    assert_eq!(place.cli.run(&["migrate"]).await.refused(1), expected);
    let service = place.cli.with("PORT", "0").run(&["serve"]).await;
    assert_eq!(service.code, 1);
    assert!(service.err.ends_with(expected), "{}", service.err);
    assert_eq!(place.everything().await, before);
}

#[tokio::test]
async fn one_role_for_everything_is_told_and_refused_in_production() {
    let place = Place::new().await;
    let one = place.cli.with("DATABASE_URL", &place.url(Role::Owner));
    let said = one.run(&["migrate"]).await;
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "The database is up to date.\n")
    );
    assert!(
        said.err.contains("both owns the log and serves requests"),
        "{}",
        said.err
    );
    let production = one
        .with("NODE_ENV", "production")
        .with(
            "BETTER_AUTH_SECRET",
            "a secret of more than thirty characters",
        )
        .with(
            "MANA_AUTH_KEK",
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        )
        .with("MANA_SERVICE_KEY", "a key that services share")
        .with("SMTP_HOST", "127.0.0.1");
    let complaint = production.run(&["migrate"]).await.refused(2);
    assert!(
        complaint.contains("MANA_AUTH_MIGRATION_URL: has the same role as DATABASE_URL"),
        "{complaint}"
    );
}
