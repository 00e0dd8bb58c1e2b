//! `config`: what is wrong is told all at once, and secrets are told by nobody.

use crate::command::{Cli, fresh_path};

/// Every setting that is secret, with a value that development takes.
const SECRETS: [(&str, &str); 7] = [
    ("BETTER_AUTH_SECRET", "hidden-session-secret-0123456789"),
    (
        "MANA_AUTH_KEK",
        "aGlkZGVuIGtleSBvZiAzMiBieXRlcywgaGlkZGVuISE=",
    ),
    ("MANA_SERVICE_KEY", "hidden-service-key"),
    ("DATABASE_URL", "postgres://app:hidden-one@localhost/auth"),
    (
        "MANA_AUTH_MIGRATION_URL",
        "postgres://owner@localhost/auth?password=hidden-two",
    ),
    (
        "SYNC_DATABASE_URL",
        "postgres://sync:hidden-three@localhost/sync",
    ),
    ("SMTP_PASS", "hidden-password"),
];

fn assert_hidden(text: &str) {
    for secret in ["hidden", SECRETS[1].1] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

fn with_secrets() -> Cli {
    let cli = Cli::new()
        .with("SMTP_USER", "mana")
        .with("SMTP_HOST", "127.0.0.1");
    SECRETS
        .iter()
        .fold(cli, |cli, (name, value)| cli.with(name, value))
}

/// The problems that a refusal lists.
fn problems(complaint: &str) -> Vec<&str> {
    let (first, problems) = complaint.split_once('\n').unwrap();
    assert_eq!(first, "error: the settings cannot be used");
    problems.lines().map(str::trim_start).collect()
}

#[tokio::test]
async fn settings_that_can_be_used_are_shown_without_secrets() {
    let cli = with_secrets();
    let checked = cli.run(&["config", "check"]).await.well();
    assert!(
        checked.ends_with("The settings can be used.\n"),
        "{checked}"
    );
    let shown = cli.run(&["config", "show"]).await.well();
    let json = cli.run(&["config", "show", "--json"]).await;
    for text in [&checked, &shown, &json.out] {
        assert_hidden(text);
    }
    let values = json.json().pop().unwrap();
    assert_eq!(values.as_object().unwrap().len(), shown.lines().count());
    for (name, value, source) in [
        ("BETTER_AUTH_SECRET", "***", "env"),
        ("MANA_AUTH_KEK", "***", "env"),
        ("DATABASE_URL", "postgres://app:***@localhost/auth", "env"),
        (
            "MANA_AUTH_MIGRATION_URL",
            "postgres://owner@localhost/auth?password=***",
            "env",
        ),
        ("SMTP_PASS", "***", "env"),
        ("SMTP_HOST", "127.0.0.1", "env"),
        ("JWT_AUDIENCE", "mana", "default"),
        ("MANA_CREDITS_URL", "unset", "default"),
    ] {
        assert_eq!(
            (&values[name]["value"], &values[name]["source"]),
            (&value.into(), &source.into()),
            "{name}"
        );
        let line = shown
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [name, source, value]);
    }
}

#[tokio::test]
async fn the_issuer_that_counts_is_shown() {
    let cli = Cli::new().with("JWT_ISSUER", "https://issuer.example");
    let with_base = cli.with("BASE_URL", "https://auth.example.com");
    for (cli, value, source) in [
        (cli, "https://issuer.example", "env"),
        (with_base, "https://auth.example.com", "default"),
    ] {
        let said = cli.run(&["config", "show", "--json"]).await;
        let issuer = &said.json().pop().unwrap()["JWT_ISSUER"];
        assert_eq!(
            (&issuer["value"], &issuer["source"]),
            (&value.into(), &source.into())
        );
    }
}

#[tokio::test]
async fn a_development_service_is_warned_of_its_published_secrets() {
    let said = Cli::new().run(&["config", "check"]).await.well();
    for name in ["BETTER_AUTH_SECRET", "MANA_AUTH_KEK", "MANA_SERVICE_KEY"] {
        assert!(
            said.contains(&format!("warning: {name} is not set")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn all_problems_are_told_together_by_every_command() {
    let cli = with_secrets()
        .with("PORT", "70000")
        .with("BASE_URL", "localhost")
        .with("MANA_AUTH_RATE_LIMIT", "maybe")
        .with("MANA_AUTH_HASH_ITERATIONS", "1")
        .with("MANA_AUTH_TYPO", "hidden-typo")
        .with("MANA_AUTH_KEK", "hidden-half-a-key")
        .with("DATABASE_URL", "mysql://app:hidden@localhost/auth");
    let names = [
        "BASE_URL",
        "DATABASE_URL",
        "MANA_AUTH_HASH_ITERATIONS",
        "MANA_AUTH_KEK",
        "MANA_AUTH_RATE_LIMIT",
        "MANA_AUTH_TYPO",
        "PORT",
    ];
    for command in [
        &["config", "check"][..],
        &["config", "show"],
        &["serve"],
        &["migrate"],
        &["doctor"],
        &["health"],
        &["events", "tail"],
    ] {
        let complaint = cli.run(command).await.refused(2);
        assert_hidden(&complaint);
        let mut told: Vec<&str> = problems(&complaint)
            .into_iter()
            .map(|problem| problem.split(':').next().unwrap())
            .collect();
        told.sort();
        assert_eq!(told, names, "{complaint}");
        assert!(
            complaint.contains("MANA_AUTH_TYPO: is not a known setting"),
            "{complaint}"
        );
    }
}

#[tokio::test]
async fn production_refuses_what_is_missing_short_or_published() {
    let cli = Cli::new().with("NODE_ENV", "production");
    let complaint = cli.run(&["config", "check"]).await.refused(2);
    let mut missing = problems(&complaint);
    missing.sort();
    let expected = [
        "BETTER_AUTH_SECRET: is required in production",
        "DATABASE_URL: is required in production",
        "MANA_AUTH_KEK: is required in production",
        "MANA_AUTH_MIGRATION_URL: is required in production",
        "MANA_SERVICE_KEY: is required in production",
        "SMTP_HOST: is required in production",
    ];
    assert_eq!(missing.len(), expected.len(), "{complaint}");
    for (problem, start) in missing.iter().zip(expected) {
        assert!(problem.starts_with(start), "{complaint}");
    }

    // One that is given and cannot be read is told once, beside what is really missing.
    let unreadable = cli.with("DATABASE_URL", "mysql://app:hidden@localhost/auth");
    let complaint = unreadable.run(&["config", "check"]).await.refused(2);
    assert_eq!(problems(&complaint).len(), expected.len(), "{complaint}");
    assert!(
        !complaint.contains("DATABASE_URL: is required"),
        "{complaint}"
    );

    let whole = with_secrets().with("NODE_ENV", "production");
    whole.run(&["config", "check"]).await.well();
    for (name, value, problem) in [
        (
            "BETTER_AUTH_SECRET",
            "mana-auth-development-secret-never-in-production",
            "is a published default",
        ),
        (
            "BETTER_AUTH_SECRET",
            "better-auth-secret-12345678901234567890",
            "is a published default",
        ),
        ("BETTER_AUTH_SECRET", "hidden-and-short", "is too short"),
        (
            "MANA_SERVICE_KEY",
            "dev-service-key",
            "is a published default",
        ),
        ("MANA_SERVICE_KEY", "hidden", "is too short"),
        (
            "MANA_AUTH_MIGRATION_URL",
            SECRETS[3].1,
            "has the same role as DATABASE_URL",
        ),
    ] {
        let complaint = whole
            .with(name, value)
            .run(&["config", "check"])
            .await
            .refused(2);
        let told = problems(&complaint);
        assert_eq!(told.len(), 1, "{complaint}");
        assert!(
            told[0].starts_with(&format!("{name}: {problem}")),
            "{complaint}"
        );
        assert_hidden(&complaint);
    }
}

#[tokio::test]
async fn a_file_gives_settings_and_the_environment_wins() {
    let (file, secret) = (fresh_path("settings.toml"), fresh_path("secret"));
    std::fs::write(&secret, "hidden-in-a-file-0123456789012345\n").unwrap();
    let text =
        format!("PORT = 4000\nJWT_AUDIENCE = \"file\"\nBETTER_AUTH_SECRET_FILE = {secret:?}\n");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let cli = Cli::new().with("JWT_AUDIENCE", "environment");
    let shown = cli
        .run(&["config", "show", "--json", "--config", file])
        .await;
    let values = shown.json().pop().unwrap();
    assert_eq!(
        (&values["PORT"]["value"], &values["PORT"]["source"]),
        (&"4000".into(), &"file".into())
    );
    assert_eq!(values["JWT_AUDIENCE"]["value"], "environment");
    assert_eq!(values["BETTER_AUTH_SECRET"]["value"], "***");
    assert_hidden(&shown.out);
    let by_name = cli
        .with("MANA_AUTH_CONFIG", file)
        .run(&["config", "show", "--json"])
        .await;
    assert_eq!(by_name.json().pop().unwrap()["PORT"]["value"], "4000");

    std::fs::write(
        file,
        "PORT = 4000\nMANA_AUTH_TYPO = \"hidden\"\nJWT_ISUER = \"x\"\n",
    )
    .unwrap();
    let complaint = cli
        .run(&["config", "check", "--config", file])
        .await
        .refused(2);
    assert_eq!(
        problems(&complaint),
        [
            "JWT_ISUER: is not a known setting",
            "MANA_AUTH_TYPO: is not a known setting"
        ]
    );
    let complaint = cli
        .run(&["config", "check", "--config", "/nowhere.toml"])
        .await
        .refused(2);
    assert!(complaint.contains("/nowhere.toml"), "{complaint}");
}
