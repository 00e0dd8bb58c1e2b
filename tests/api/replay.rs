//! Replays the recorded exchanges of `tests/contract` against the running service.
//!
//! Every exchange of an area that is built passes, or stands on the list of deliberate differences with its reason.
//! What is not built yet is counted: `cargo test --test api replay -- --nocapture` prints both.

#![cfg(test)]

mod account_preparations;
mod admin_preparations;
mod built;
mod factor_preparations;
mod matching;
mod organization_preparations;
mod passkey_preparations;
mod placeholders;
mod player;
mod preparations;
mod social_preparations;
mod transcripts;
mod verdict;

use std::collections::BTreeMap;

use crate::harness::TestApp;
use crate::provider::FakeProvider;
use built::is_built;
use player::{Player, step_played};
use verdict::{Outcome, deliberate_differences, judge};

/// What the service signs with, so that preparations can make tokens which no route would make.
const SECRET: &str = "replay-secret-0123456789-abcdefghijklmnopqrstuvwxyz";

/// The configured base URL where a case does not name one: `<base>` in the recordings.
const BASE_URL: &str = "http://localhost:3901";

/// The settings that correspond to those of the recorded server, and the case's own over them.
fn settings(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([
        ("BASE_URL", BASE_URL.to_owned()),
        ("BETTER_AUTH_SECRET", SECRET.to_owned()),
        (
            "TRUSTED_ORIGINS",
            "http://app.localhost:5173,https://*.trusted.example".to_owned(),
        ),
        ("MANA_AUTH_COOKIE_PREFIX", "better-auth".to_owned()),
        ("MANA_AUTH_RATE_LIMIT", "off".to_owned()),
        ("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "false".to_owned()),
        ("MANA_AUTH_ADMIN_EMAILS", "j2@example.com".to_owned()),
        // Recorded mails lead to the API itself.
        ("MANA_AUTH_MAGIC_LINK_PAGE", "false".to_owned()),
        // The recorded server asked no old address.
        ("MANA_AUTH_CHANGE_EMAIL_CONFIRM", "false".to_owned()),
    ]);
    for (name, value) in config {
        let switch = if value == "1" { "true" } else { "false" };
        match name.as_str() {
            "BASE_URL" => settings.insert("BASE_URL", value.clone()),
            "COOKIE_DOMAIN" => settings.insert("COOKIE_DOMAIN", value.clone()),
            "COOKIE_PREFIX" => settings.insert("MANA_AUTH_COOKIE_PREFIX", value.clone()),
            "REQUIRE_EMAIL_VERIFICATION" => {
                settings.insert("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", switch.to_owned())
            }
            "SEND_ON_SIGN_IN" => settings.insert("MANA_AUTH_SEND_ON_SIGN_IN", switch.to_owned()),
            "CHANGE_EMAIL_CONFIRM" => {
                settings.insert("MANA_AUTH_CHANGE_EMAIL_CONFIRM", switch.to_owned())
            }
            "DELETE_USER_CONFIRM" => {
                settings.insert("MANA_AUTH_DELETE_USER_CONFIRM", switch.to_owned())
            }
            "RATE_LIMIT" => {
                settings.insert("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8".to_owned());
                settings.insert("MANA_AUTH_RATE_LIMIT", "on".to_owned())
            }
            "MAGIC_LINK_DISABLE_SIGNUP" => {
                let allowed = if value == "1" { "false" } else { "true" };
                settings.insert("MANA_AUTH_MAGIC_LINK_SIGNUP", allowed.to_owned())
            }
            "TEAMS" => settings.insert("MANA_AUTH_TEAMS", switch.to_owned()),
            "DYNAMIC_AC" => settings.insert("MANA_AUTH_DYNAMIC_ROLES", switch.to_owned()),
            "ORG_REQUIRE_VERIFIED" => {
                settings.insert("MANA_AUTH_ORG_REQUIRE_VERIFIED", switch.to_owned())
            }
            "CANCEL_ON_REINVITE" => {
                settings.insert("MANA_AUTH_CANCEL_ON_REINVITE", switch.to_owned())
            }
            "MULTI_SESSION" => settings.insert("MANA_AUTH_MULTI_SESSION", switch.to_owned()),
            // Always so here (S-07).
            "REVOKE_ON_RESET" => None,
            // Left out on purpose: its exchanges are deliberate differences.
            "COOKIE_CACHE" => None,
            other => panic!("a recorded setting without a counterpart: {other}"),
        };
    }
    let settings = settings.into_iter();
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The settings of the provider that the recorded server knew: it played it itself.
fn of_provider(provider: &FakeProvider, base: &str) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<_, _> = provider.settings("fake", false).into_iter().collect();
    let authorize = format!("{base}/__idp/authorize");
    settings.insert("MANA_AUTH_SOCIAL_FAKE_AUTHORIZE_URL".to_owned(), authorize);
    settings
}

/// Plays one area: each configuration has its own service, shared by its cases in their order.
async fn replay(area: &str) {
    let transcript = transcripts::load(area);
    let provider = FakeProvider::start().await;
    let mut services: Vec<(BTreeMap<String, String>, TestApp)> = Vec::new();
    let mut played = Vec::new();
    for case in &transcript.cases {
        if !(0..case.steps.len()).any(|step| is_built(area, case, step)) {
            let exchanges = case
                .steps
                .iter()
                .enumerate()
                .filter(|(_, step)| step.request.is_some());
            played.extend(
                exchanges.map(|(number, step)| step_played(case, number, step, Outcome::NotBuilt)),
            );
            continue;
        }
        let mut settings = settings(&case.config);
        if ["accounts", "social"].contains(&area) {
            settings.extend(of_provider(&provider, &settings["BASE_URL"]));
        }
        if !services.iter().any(|(other, _)| *other == settings) {
            let pairs: Vec<(&str, &str)> = settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            services.push((settings.clone(), TestApp::start(&pairs).await));
        }
        let (_, app) = services
            .iter()
            .find(|(other, _)| *other == settings)
            .expect("started above if it was not");
        played.extend(
            Player::new(app, &provider, &settings["BASE_URL"])
                .play(area, case)
                .await,
        );
    }
    let verdict = judge(area, &played, &deliberate_differences());
    println!(
        "{area}: {} passed, {} deliberately different, {} not built yet",
        verdict.passed, verdict.deliberate, verdict.not_built
    );
    assert!(
        verdict.problems.is_empty(),
        "not as recorded:\n{}",
        verdict.problems
    );
}

#[tokio::test]
async fn admin_answers_as_recorded() {
    replay("admin").await;
}

#[tokio::test]
async fn accounts_answers_as_recorded() {
    replay("accounts").await;
}

#[tokio::test]
async fn bearer_answers_as_recorded() {
    replay("bearer").await;
}

#[tokio::test]
async fn custom_v1_answers_as_recorded() {
    replay("custom-v1").await;
}

#[tokio::test]
async fn email_verification_answers_as_recorded() {
    replay("email-verification").await;
}

#[tokio::test]
async fn errors_answers_as_recorded() {
    replay("errors").await;
}

#[tokio::test]
async fn jwt_answers_as_recorded() {
    replay("jwt").await;
}

#[tokio::test]
async fn magic_link_answers_as_recorded() {
    replay("magic-link").await;
}

#[tokio::test]
async fn passkey_answers_as_recorded() {
    replay("passkey").await;
}

#[tokio::test]
async fn organization_answers_as_recorded() {
    replay("organization").await;
}

#[tokio::test]
async fn organization_roles_answers_as_recorded() {
    replay("organization-roles").await;
}

#[tokio::test]
async fn organization_teams_answers_as_recorded() {
    replay("organization-teams").await;
}

#[tokio::test]
async fn multi_session_answers_as_recorded() {
    replay("multi-session").await;
}

#[tokio::test]
async fn two_factor_answers_as_recorded() {
    replay("two-factor").await;
}

#[tokio::test]
async fn password_reset_answers_as_recorded() {
    replay("password-reset").await;
}

#[tokio::test]
async fn rate_limit_answers_as_recorded() {
    replay("rate-limit").await;
}

#[tokio::test]
async fn secure_cookies_answers_as_recorded() {
    replay("secure-cookies").await;
}

#[tokio::test]
async fn session_answers_as_recorded() {
    replay("session").await;
}

#[tokio::test]
async fn sign_in_answers_as_recorded() {
    replay("sign-in").await;
}

#[tokio::test]
async fn sign_out_answers_as_recorded() {
    replay("sign-out").await;
}

#[tokio::test]
async fn sign_up_answers_as_recorded() {
    replay("sign-up").await;
}

#[tokio::test]
async fn social_answers_as_recorded() {
    replay("social").await;
}

#[tokio::test]
async fn user_answers_as_recorded() {
    replay("user").await;
}

/// The whole of the recordings is read, and what is not built yet is printed by area and route.
#[test]
fn every_recorded_exchange_is_accounted_for() {
    let (mut cases, mut due, mut not_built) = (0, 0, BTreeMap::<(String, String), usize>::new());
    for transcript in transcripts::load_all() {
        for case in &transcript.cases {
            cases += 1;
            for (number, step) in case.steps.iter().enumerate() {
                let Some(request) = &step.request else {
                    continue;
                };
                if is_built(&transcript.area, case, number) {
                    due += 1;
                } else {
                    // Routes of one plugin share their first segment.
                    let route = request
                        .path
                        .trim_start_matches("/api/auth/")
                        .split('/')
                        .next()
                        .unwrap_or_default();
                    *not_built
                        .entry((transcript.area.clone(), route.to_owned()))
                        .or_default() += 1;
                }
            }
        }
    }
    let open: usize = not_built.values().sum();
    println!(
        "{due} of {} recorded exchanges are played; not built yet, by area and route:",
        due + open
    );
    for ((area, route), exchanges) in &not_built {
        println!("{exchanges:5}  {area}: {route}");
    }
    assert_eq!(
        (cases, due, open),
        (198, 839, 0),
        "as the README beside the recordings says"
    );
    let listed = deliberate_differences();
    assert!(
        listed
            .iter()
            .all(|entry| built::AREAS.contains(&entry.area.as_str())),
        "deliberate, but never played"
    );
}
