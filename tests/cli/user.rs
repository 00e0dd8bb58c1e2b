//! `user`: accounts, with the same events as the API; what is refused changes nothing.

use mana_auth::crypto::password::breach::{BreachFilter, Key};
use serde_json::{Value, json};

use crate::client::{PASSWORD, UNVERIFIED};
use crate::command::{Cli, Said, fresh_path};
use crate::harness::TestApp;
use crate::place::{Place, beside};

/// Type and actor of every event of an account.
async fn history(cli: &Cli, id: &str) -> Vec<(String, String)> {
    let events = cli
        .run(&["events", "show", "user", id, "--json"])
        .await
        .json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| {
            (
                text(&event["event_type"]),
                text(&event["metadata"]["actor"]),
            )
        })
        .collect()
}

fn types(history: &[(String, String)]) -> Vec<&str> {
    history.iter().map(|(kind, _)| kind.as_str()).collect()
}

#[tokio::test]
async fn an_account_is_made_as_the_api_makes_one() {
    let app = TestApp::start(&[]).await;
    let cli = beside(&app);
    let create = [
        "user",
        "create",
        "Lovelace@Example.com",
        "--name",
        "Lovelace",
        "--password-stdin",
        "--verified",
    ];
    let made = cli
        .run_reading(&create, &format!("{PASSWORD}\r\n"))
        .await
        .well();
    let id = made.trim_end();
    app.verified("hopper").await;
    let hopper = app.sign_in("hopper").await;
    assert_eq!(app.sign_in("lovelace").await.user_id, id);

    let (by_hand, by_api) = (
        history(&cli, id).await,
        history(&cli, &hopper.user_id).await,
    );
    assert_eq!(
        types(&by_hand),
        [
            "user.registered",
            "user.password_set",
            "user.email_verified"
        ]
    );
    assert_eq!(types(&by_hand), types(&by_api));
    assert!(
        by_hand.iter().all(|(_, actor)| actor == "operator"),
        "{by_hand:?}"
    );
    app.effects_done().await;
    let mails = app.mails();
    assert!(
        mails.iter().all(|mail| mail.to == "hopper@example.com"),
        "no mail for whom an operator made"
    );
    let opened = cli
        .run(&["events", "show", "user", id, "--open", "--json"])
        .await
        .json();
    let registered = &opened[0]["payload"]["registered"];
    assert_eq!(
        registered["email"]["$personal"]["value"],
        "lovelace@example.com"
    );
    assert_eq!(registered["name"]["$personal"]["value"], "Lovelace");
}

#[tokio::test]
async fn what_cannot_be_an_account_changes_nothing() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let before = place.everything().await;
    let create = async |email: &str, password: &str| -> Said {
        let arguments = ["user", "create", email, "--password-stdin"];
        place.cli.run_reading(&arguments, password).await
    };
    let long = "x".repeat(129);
    let length = "error: a password has 8 to 128 characters\n";
    for (email, password, complaint) in [
        (
            "lovelace@example.com",
            PASSWORD,
            "error: the address is taken\n",
        ),
        (
            "LOVELACE@example.com",
            PASSWORD,
            "error: the address is taken\n",
        ),
        ("lovelace", PASSWORD, "error: invalid email address\n"),
        ("hopper@example.com", "", length),
        ("hopper@example.com", "seven 7", length),
        ("hopper@example.com", "seven 7\nand a second line", length),
        ("hopper@example.com", &long, length),
        // S-08: what sign-up refuses as well.
        (
            "grace.hopper@example.com",
            "Hopper2024!",
            "error: the password is too similar to the address or the name\n",
        ),
    ] {
        assert_eq!(create(email, password).await.refused(1), complaint);
    }
    // A password among the arguments would stand in every list of processes.
    let usage = place
        .cli
        .run(&["user", "create", "hopper@example.com"])
        .await
        .refused(2);
    assert!(usage.contains("--password-stdin"), "{usage}");
    assert_eq!(place.everything().await, before);
}

/// S-06: the list of breached passwords holds here too.
#[tokio::test]
async fn a_password_that_others_know_is_refused_s06() {
    let place = Place::new().await;
    let file = fresh_path("breached");
    let mut filter = BreachFilter::with_room_for(1);
    filter.add(Key::of_password(b"trustno1"));
    filter.write(&file).unwrap();
    let file = file.to_string_lossy();
    let cli = place.cli.with("MANA_AUTH_BREACHED_PASSWORDS", &file);
    let create = ["user", "create", "ada@example.com", "--password-stdin"];
    assert_eq!(
        cli.run_reading(&create, "trustno1").await.refused(1),
        "error: the password is known from a breach\n"
    );
    let people = "select count(*)::text from read.users";
    assert_eq!(place.text(people).await, "0");
    place.cli.run_reading(&create, "trustno1").await.well();
}

#[tokio::test]
async fn role_tier_and_proof_are_changed_once() {
    let place = Place::new().await;
    let id = place.person("lovelace").await;
    for (arguments, answer) in [
        (
            &["set-role", "Lovelace@example.com", "admin"][..],
            "has the role admin",
        ),
        (&["set-tier", &id, "founder"], "has the tier founder"),
        (&["verify-email", &id], "has a proven address"),
    ] {
        let arguments = [&["user"], arguments].concat();
        let said = place.cli.run(&arguments).await.well();
        assert_eq!(said, format!("User {id} {answer}.\n"));
        // Said again, it is true already: no further event.
        let before = place.everything().await;
        assert_eq!(place.cli.run(&arguments).await.well(), said);
        assert_eq!(place.everything().await, before);
    }
    assert_eq!(
        types(&history(&place.cli, &id).await)[2..],
        [
            "user.role_changed",
            "user.tier_changed",
            "user.email_verified"
        ]
    );
    let row = place
        .text("select to_jsonb(u)::text from read.users u")
        .await;
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!(
        (&row["role"], &row["tier"], &row["email_verified"]),
        (&json!("admin"), &json!("founder"), &json!(true))
    );
}

/// Whoever is configured to be an admin is one as soon as the address is proven, by whatever command.
#[tokio::test]
async fn a_configured_admin_is_one_once_the_address_is_proven() {
    let place = Place::new().await;
    let admins = "ada@example.com,hopper@example.com";
    let cli = place.cli.with("MANA_AUTH_ADMIN_EMAILS", admins);
    let count = "select count(*)::text from read.users where role = 'admin'";
    let create = ["user", "create", "ada@example.com", "--password-stdin"];
    let verified = [&create[..], &["--verified"]].concat();
    cli.run_reading(&verified, PASSWORD).await.well();
    assert_eq!(place.text(count).await, "1");
    let id = place.person("hopper").await;
    assert_eq!(place.text(count).await, "1", "not proven yet");
    cli.run(&["user", "verify-email", &id]).await.well();
    assert_eq!(place.text(count).await, "2");
}

/// S-65: nobody loses the last admin by a slip of the pen; whoever means it says so.
#[tokio::test]
async fn the_last_admin_stays_one_unless_it_is_forced_s65() {
    let place = Place::new().await;
    let (id, other) = (place.person("lovelace").await, place.person("hopper").await);
    let set = |who: &str, role: &str| ["user", "set-role", who, role].map(str::to_owned);
    let run = async |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.cli.run(&arguments).await
    };
    run(&set(&id, "admin")).await.well();
    let before = place.everything().await;
    for role in ["user", "service"] {
        let complaint = run(&set(&id, role)).await.refused(1);
        let wanted = "error: nobody else is an admin; --force takes the role away all the same\n";
        assert_eq!(complaint, wanted, "{role}");
    }
    // Neither what is so already nor another one's role is in the way.
    run(&set(&id, "admin")).await.well();
    run(&set(&other, "user")).await.well();
    assert_eq!(place.everything().await, before);
    run(&set(&other, "admin")).await.well();
    run(&set(&id, "user")).await.well();
    let forced = [&set(&other, "user")[..], &["--force".to_owned()]].concat();
    run(&forced).await.well();
    let admins = place.text("select count(*)::text from read.users where role = 'admin'");
    assert_eq!(admins.await, "0");
}

#[tokio::test]
async fn wrong_words_and_unknown_people_change_nothing() {
    let place = Place::new().await;
    let id = place.person("lovelace").await;
    let before = place.everything().await;
    for (word, known) in [
        ("set-role", "user, admin, auditor, service"),
        ("set-tier", "guest, public, beta, alpha, founder"),
    ] {
        let usage = place.cli.run(&["user", word, &id, "king"]).await.refused(2);
        assert!(
            usage.contains(&format!("expected one of: {known}")),
            "{usage}"
        );
    }
    for command in [
        &["verify-email"][..],
        &["set-role", "admin"],
        &["set-tier", "beta"],
        &["unlock"],
        &["sessions"],
        &["sessions", "--json"],
        &["revoke-sessions"],
    ] {
        for nobody in ["hopper@example.com", "nobody", ""] {
            let arguments = [&["user", command[0], nobody], &command[1..]].concat();
            let complaint = place.cli.run(&arguments).await.refused(1);
            assert_eq!(complaint, format!("error: there is no account {nobody}\n"));
        }
        let arguments = [&["user", command[0], "not@an@address"], &command[1..]].concat();
        let complaint = place.cli.run(&arguments).await.refused(1);
        assert_eq!(complaint, "error: invalid email address\n");
    }
    assert_eq!(place.everything().await, before);
}

#[tokio::test]
async fn sessions_are_listed_without_their_secrets_and_ended() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let cli = beside(&app);
    let first = app.signed_in("lovelace").await;
    let id = first.user_id.as_str();
    let body = json!({"email": "lovelace@example.com", "password": PASSWORD});
    let request = app.request("POST", "/api/auth/sign-in/email").json(&body);
    let answer = crate::client::answer(request.header("user-agent", "Analytical\tEngine")).await;
    let second = crate::client::session_of(&answer);
    app.signed_in("hopper").await;

    let said = cli.run(&["user", "sessions", id]).await.well();
    assert_eq!(said.lines().count(), 2);
    assert!(
        said.contains("Analytical\\tEngine"),
        "no control character reaches the terminal: {said}"
    );
    let json = cli
        .run(&["user", "sessions", "lovelace@example.com", "--json"])
        .await;
    let list = json.json().pop().unwrap();
    let fields = [
        "created_at",
        "expires_at",
        "id",
        "ip_address",
        "remembered",
        "updated_at",
        "user_agent",
    ];
    assert_eq!(list.as_array().unwrap().len(), 2);
    for session in list.as_array().unwrap() {
        assert_eq!(
            session.as_object().unwrap().keys().collect::<Vec<_>>(),
            fields
        );
        assert!(said.contains(session["id"].as_str().unwrap()));
    }
    for token in [&first.token, &second.token] {
        assert!(!said.contains(token) && !json.out.contains(token));
    }

    let ended = cli.run(&["user", "revoke-sessions", id]).await.well();
    assert_eq!(
        ended,
        format!("User {id} is signed out; 2 sessions ended.\n")
    );
    let session = list[0]["id"].as_str().unwrap();
    let events = cli
        .run(&["events", "show", "session", session, "--json"])
        .await
        .json();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event_type"], &last["metadata"]["actor"]),
        (&json!("session.ended"), &json!("operator"))
    );
    assert_eq!(last["payload"]["ended"]["reason"], "revoked");
    assert_eq!(
        cli.run(&["user", "sessions", id]).await.well(),
        "No sessions.\n"
    );
    assert_eq!(
        cli.run(&["user", "sessions", id, "--json"]).await.well(),
        "[]\n"
    );
    let none = cli.run(&["user", "revoke-sessions", id]).await.well();
    assert_eq!(
        none,
        format!("User {id} is signed out; 0 sessions ended.\n")
    );
    assert_eq!(
        app.count("read.sessions").await,
        1,
        "somebody else's session goes on"
    );
}

#[tokio::test]
async fn revoked_sessions_are_worth_nothing() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("lovelace").await;
    assert!(app.is_live(&session.cookie).await);
    let cli = beside(&app);
    cli.run(&["user", "revoke-sessions", &session.user_id])
        .await
        .well();
    // The service hears of it from the log, within a second at most.
    crate::harness::wait_until("the session is over", async || {
        !app.is_live(&session.cookie).await
    })
    .await;
}

#[tokio::test]
async fn whoever_was_locked_out_may_try_again() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_RATE_LIMIT", "on")]).await;
    let lovelace = app.signed_in("lovelace").await;
    app.try_sign_in("lovelace", "not the password").await;
    // As many as it takes, and no time passes.
    let full =
        "update rate_limits set count = 1000, allowed_at = clock_timestamp() + interval '1 hour'";
    sqlx::query(full).execute(&app.admin).await.unwrap();
    assert_eq!(app.try_sign_in("lovelace", PASSWORD).await.status, 429);
    let said = beside(&app)
        .run(&["user", "unlock", "lovelace@example.com"])
        .await
        .well();
    assert!(
        said.starts_with(&format!("User {} may try again", lovelace.user_id)),
        "{said}"
    );
    app.sign_in("lovelace").await;
}

/// Whoever was erased is nobody for every command, and what is left of them can be looked at by every command.
#[tokio::test]
async fn of_an_erased_account_only_its_history_is_left_without_what_was_personal() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let cli = beside(&app);
    let gone = app.signed_in("lovelace").await;
    let id = gone.user_id.as_str();
    let erased = app
        .post_as("/api/auth/delete-user", &gone.cookie, &json!({}))
        .await;
    assert_eq!(erased.status, 200, "{}", erased.text);
    app.effects_done().await;
    for command in [
        &["verify-email"][..],
        &["set-role", "admin"],
        &["set-tier", "beta"],
        &["unlock"],
        &["sessions"],
        &["revoke-sessions"],
    ] {
        for who in ["lovelace@example.com", id] {
            let arguments = [&["user", command[0], who], &command[1..]].concat();
            let complaint = cli.run(&arguments).await.refused(1);
            assert_eq!(complaint, format!("error: there is no account {who}\n"));
        }
    }
    let show = ["events", "show", "user", id];
    let sealed = cli.run(&show).await.well();
    assert!(sealed.contains("\"email\":\"<sealed>\""), "{sealed}");
    let open = cli.run(&[&show[..], &["--open"]].concat()).await.well();
    assert!(open.contains("\"email\":\"<erased>\""), "{open}");
    assert!(open.contains("\"name\":\"<erased>\""), "{open}");
    assert!(open.contains("user.erasure_requested"), "{open}");
    let tail = cli.run(&["events", "tail", "--after", "0"]).await.well();
    let stream = tail
        .lines()
        .find_map(|line| line.split_once(" session/"))
        .and_then(|(_, rest)| rest.split(' ').next())
        .expect("the session's stream");
    let session = ["events", "show", "session", stream, "--open"];
    let session = cli.run(&session).await.well();
    assert!(session.contains("\"ip_address\":\"<erased>\""), "{session}");
    for said in [&sealed, &open, &tail, &session] {
        assert!(!said.contains("lovelace"), "{said}");
    }
    let report = cli.run(&["doctor", "--deep"]).await.well();
    assert!(report.contains("read model erasures equals its events: 1 checked"));
}
