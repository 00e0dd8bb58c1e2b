//! `rebuild`: read models made anew. What happens under traffic is in the tests of the API.

use serde_json::json;

use crate::command::Cli;
use crate::place::Place;

#[tokio::test]
async fn a_read_model_is_made_anew() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let rows = "select coalesce(string_agg(u::text, '|' order by id), '') from read.users u";
    let before = place.text(rows).await;
    place
        .tamper("update read.users set role = 'admin', name = 'somebody else'")
        .await;
    let said = place.cli.run(&["rebuild", "users"]).await.well();
    assert!(
        said.starts_with("users: 1 rows from the log up to position 3 in "),
        "{said}"
    );
    assert_eq!(place.text(rows).await, before);

    place.tamper("delete from read.users").await;
    let lines = place.cli.run(&["rebuild", "--all", "--json"]).await.json();
    let (progress, made): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["progress"].is_string());
    assert!(
        progress
            .iter()
            .all(|line| line["done"].is_i64() && line["total"] == 3)
    );
    let made: Vec<_> = made
        .iter()
        .map(|line| (&line["model"], &line["rows"], &line["position"]))
        .collect();
    assert_eq!(
        made,
        [
            (&json!("users"), &json!(1), &json!(3)),
            (&json!("sessions"), &json!(0), &json!(3)),
            (&json!("signing_keys"), &json!(1), &json!(3)),
            (&json!("security_events"), &json!(1), &json!(3)),
            (&json!("devices"), &json!(0), &json!(3)),
            (&json!("erasures"), &json!(0), &json!(3)),
            (&json!("accounts"), &json!(1), &json!(3)),
            (&json!("passkeys"), &json!(0), &json!(3)),
            (&json!("api_keys"), &json!(0), &json!(3)),
            (&json!("organizations"), &json!(0), &json!(3)),
            (&json!("members"), &json!(0), &json!(3)),
            (&json!("invitations"), &json!(0), &json!(3)),
            (&json!("organization_roles"), &json!(0), &json!(3)),
            (&json!("teams"), &json!(0), &json!(3)),
            (&json!("team_members"), &json!(0), &json!(3)),
            (&json!("vault_audit"), &json!(0), &json!(3)),
        ]
    );
    assert_eq!(place.text(rows).await, before);
    place.cli.run(&["doctor", "--deep"]).await.well();
}

#[tokio::test]
async fn a_rebuild_that_cannot_be_done_changes_nothing() {
    let place = Place::new().await;
    place.person("lovelace").await;
    place
        .tamper("update events set payload = '{\"lovelace@example.com\": {}}' where event_type = 'user.registered'")
        .await;
    let before = place.everything().await;
    let complaint = place.cli.run(&["rebuild", "planets"]).await.refused(1);
    assert_eq!(
        complaint,
        "error: there is no read model \"planets\"; there are users, sessions, signing_keys, \
         security_events, devices, erasures, accounts, passkeys, api_keys, organizations, members, \
         invitations, organization_roles, teams, team_members, vault_audit\n"
    );
    let complaint = place.cli.run(&["rebuild", "users"]).await.refused(1);
    assert!(
        complaint.starts_with("error: rebuilding users\n  because: "),
        "{complaint}"
    );
    assert!(
        complaint.contains("event at 2") && !complaint.contains("lovelace"),
        "{complaint}"
    );
    assert_eq!(place.cli.run(&["rebuild"]).await.code, 2);
    assert_eq!(place.everything().await, before);
}

#[tokio::test]
async fn the_help_lists_every_read_model() {
    let help = Cli::new().run(&["rebuild", "--help"]).await.well();
    let words: Vec<&str> = help
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    for model in projections::ALL {
        assert!(words.contains(&model.name), "{}: {help}", model.name);
    }
}
