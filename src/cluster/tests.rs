use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tempfile::TempDir;

use super::*;

const UNSAFE: Options = Options {
    fsync: false,
    extra: Vec::new(),
    environment: Vec::new(),
};

/// A folder that the server's account can pass through.
fn open_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn refusal(data_dir: &Path) -> String {
    format!("{:#}", Cluster::start(data_dir, UNSAFE).unwrap_err())
}

fn on<T>(url: &str, work: impl AsyncFnOnce(PgConnection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options: PgConnectOptions = url.parse().unwrap();
        work(options.connect().await.unwrap()).await
    })
}

fn run(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    on(url, async |mut connection| {
        connection.execute(sql).await.map(|_| ())
    })
}

fn text(url: &str, sql: &str) -> String {
    on(url, async |mut connection| {
        sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    })
}

#[test]
fn each_url_signs_in_as_its_role_and_names_any_database() {
    let folder = open_folder();
    // Every character here means something to a shell, a URL or a list of folders.
    let data_dir = folder.path().join("a, \"b\" + 100% $HOME ü");
    let cluster = Cluster::start(&data_dir, UNSAFE).unwrap();

    let who =
        "select concat_ws(' ', current_user, current_database(), current_setting('is_superuser'))";
    assert_eq!(
        text(&cluster.migration_url(), who),
        "mana_auth_owner mana_auth off"
    );
    assert_eq!(
        text(&cluster.database_url(), who),
        "mana_auth_app mana_auth off"
    );
    assert_eq!(text(&cluster.superuser_url(), who), "postgres mana_auth on");
    assert_eq!(
        text(&cluster.url(Role::App, "template1"), who),
        "mana_auth_app template1 off"
    );
    assert_eq!(
        Cluster::url_in(&data_dir, Role::App).unwrap(),
        cluster.database_url()
    );

    let owner = cluster.migration_url();
    run(&owner, "create database \"t 1\"").unwrap();
    assert_eq!(
        text(&cluster.url(Role::Owner, "t 1"), who),
        "mana_auth_owner t 1 off"
    );
    assert_eq!(
        fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    cluster.stop().unwrap();
}

#[test]
fn app_role_creates_no_tables_and_owner_role_acts_for_it() {
    let folder = open_folder();
    let cluster = Cluster::start(&folder.path().join("pg"), UNSAFE).unwrap();

    let refused = run(&cluster.database_url(), "create table public.t ()").unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().code().unwrap(),
        "42501"
    );
    run(&cluster.migration_url(), "create table public.t ()").unwrap();
    run(
        &cluster.migration_url(),
        "create schema read authorization mana_auth_app",
    )
    .unwrap();
    run(&cluster.database_url(), "create table read.t ()").unwrap();
    let bypass = "select string_agg(rolname, ' ') from pg_roles where rolbypassrls";
    assert_eq!(text(&cluster.superuser_url(), bypass), "postgres");
}

#[test]
fn committed_rows_survive_a_killed_postmaster() {
    let folder = open_folder();
    let data_dir = folder.path().join("pg");
    let cluster = Cluster::start(&data_dir, Options::default()).unwrap();
    run(
        &cluster.migration_url(),
        "create table t as select 'kept' as word",
    )
    .unwrap();

    let killed = Command::new("kill")
        .args(["-9", &cluster.pid().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    drop(cluster);
    assert!(
        data_dir.join("postmaster.pid").exists(),
        "a killed postmaster leaves its lock file"
    );

    let cluster = Cluster::start(&data_dir, Options::default()).unwrap();
    assert_eq!(text(&cluster.migration_url(), "select word from t"), "kept");
}

#[test]
fn each_start_makes_up_for_what_a_crash_left_out() {
    let folder = open_folder();
    let data_dir = folder.path().join("pg");
    let half_made = folder.path().join("pg.new-1");
    fs::create_dir(&half_made).unwrap();
    fs::write(half_made.join("PG_VERSION"), "15").unwrap();

    let cluster = Cluster::start(&data_dir, UNSAFE).unwrap();
    assert!(!half_made.exists());
    let superuser = cluster.url(Role::Superuser, "postgres");
    run(&superuser, "drop database mana_auth").unwrap();
    run(&superuser, "drop role mana_auth_app").unwrap();
    cluster.stop().unwrap();

    let cluster = Cluster::start(&data_dir, UNSAFE).unwrap();
    let member = "select pg_has_role('mana_auth_owner', current_user, 'member')::text";
    assert_eq!(text(&cluster.database_url(), member), "true");
}

#[test]
fn empty_folder_is_used_and_a_foreign_one_is_left_alone() {
    let folder = open_folder();
    let empty = folder.path().join("deep/er/pg");
    fs::create_dir_all(&empty).unwrap();
    Cluster::start(&empty, UNSAFE).unwrap().stop().unwrap();

    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "mine").unwrap();
    let refused = refusal(&foreign);
    assert!(
        refused.contains("is not empty and holds no PostgreSQL cluster"),
        "{refused}"
    );
    assert_eq!(
        fs::read_to_string(foreign.join("letter.txt")).unwrap(),
        "mine"
    );
}

#[test]
fn folder_runs_one_server_at_a_time() {
    let folder = open_folder();
    let data_dir = folder.path().join("pg");
    let cluster = Cluster::start(&data_dir, UNSAFE).unwrap();
    let refused = refusal(&data_dir);
    assert!(
        refused.contains("another mana-auth process runs the PostgreSQL cluster"),
        "{refused}"
    );
    assert_eq!(
        text(&cluster.database_url(), "select 'still here'"),
        "still here"
    );
}

#[test]
fn server_stops_when_the_thread_that_started_it_dies() {
    let folder = open_folder();
    let data_dir = folder.path().join("pg");
    let mut cluster = Cluster::start(&data_dir, UNSAFE).unwrap();
    assert_eq!(
        system::server_in(&data_dir).is_some(),
        cfg!(target_os = "linux")
    );

    cluster.server._parent = channel().0;
    assert!(cluster.server.child.wait().unwrap().success());
    drop(cluster);
    assert_eq!(system::server_in(&data_dir), None);
}

#[test]
fn server_that_cannot_start_says_why() {
    let folder = open_folder();
    let extra = vec![("shared_buffers".to_owned(), "a lot".to_owned())];
    let options = Options {
        fsync: false,
        extra,
        environment: Vec::new(),
    };
    let refused = Cluster::start(&folder.path().join("pg"), options).unwrap_err();
    assert!(
        format!("{refused:#}").contains("shared_buffers"),
        "{refused:#}"
    );
}

#[test]
fn too_long_socket_path_is_refused_with_its_length() {
    let folder = open_folder();
    let refused = refusal(&folder.path().join("x".repeat(100)));
    assert!(refused.contains("the system allows 107"), "{refused}");
    assert!(
        !folder
            .path()
            .join(format!("{}.lock", "x".repeat(100)))
            .exists()
    );
}

#[test]
fn folder_closed_to_the_server_is_named() {
    let folder = open_folder();
    let closed = folder.path().join("closed");
    DirBuilder::new().mode(0o700).create(&closed).unwrap();
    match Account::for_folder(&closed).unwrap().check_reaches(&closed) {
        // As root the server is somebody else; otherwise the folder is our own.
        Err(refused) => {
            let named = format!("cannot enter {}; choose", closed.display());
            assert!(refused.to_string().contains(&named), "{refused}");
        }
        Ok(()) => assert!(Cluster::start(&closed.join("pg"), UNSAFE).is_ok()),
    }
}

#[test]
fn missing_release_is_named_with_its_package() {
    let refused = Binaries::find(Some("9")).unwrap_err().to_string();
    assert!(
        refused.contains("PostgreSQL 9, which made this cluster"),
        "{refused}"
    );
    assert!(
        refused.contains("apt-get install postgresql-9"),
        "{refused}"
    );
}
