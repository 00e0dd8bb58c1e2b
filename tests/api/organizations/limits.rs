//! How large an organization can become: what is one too many is refused, also where two come at the same moment.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::ALL_ON;
use crate::client::Session;
use crate::harness::TestApp;

/// People, pending invitations, teams and roles of its own that an organization has at most, each by itself.
const MOST: usize = 100;

/// How many of something an organization has.
async fn held(app: &TestApp, owner: &Session, route: &str, part: &str) -> usize {
    let found = app.organization_read(owner, route).await.json();
    let found = if part.is_empty() {
        &found
    } else {
        &found[part]
    };
    found.as_array().map_or(0, Vec::len)
}

/// Asks for the n-th thing, again and again, until a hundred are there; the next is refused so.
async fn fill(
    app: &TestApp,
    owner: &Session,
    (route, body): (&str, impl Fn(usize) -> Value),
    (list, part): (&str, &str),
    refusal: (u16, &str),
) {
    for n in held(app, owner, list, part).await..MOST {
        app.organized(owner, route, &body(n)).await;
    }
    let one_more = app.organization(owner, route, &body(MOST)).await;
    assert_eq!(one_more.refusal(), (refusal.0, refusal.1.to_owned()));
    assert_eq!(held(app, owner, list, part).await, MOST);
}

#[tokio::test]
async fn an_organization_has_a_hundred_teams_roles_and_invitations() {
    let app = TestApp::start(&ALL_ON).await;
    let owner = app.signed_in("olga").await;
    let id = app.founded(&owner, "acme").await;
    let team = |n| json!({"name": format!("team {n}")});
    let refusal = (400, "YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_TEAMS");
    let asked = ("create-team", team);
    fill(&app, &owner, asked, ("list-teams", ""), refusal).await;

    let role = |n| json!({"role": format!("role-{n}"), "permission": {"project": ["update"]}});
    let asked = ("create-role", role);
    let refusal = (400, "TOO_MANY_ROLES");
    fill(&app, &owner, asked, ("list-roles", ""), refusal).await;

    let invite = |n| json!({"email": format!("i{n}@example.com"), "role": "member"});
    let asked = ("invite-member", invite);
    let refusal = (403, "INVITATION_LIMIT_REACHED");
    fill(&app, &owner, asked, ("list-invitations", ""), refusal).await;
    // Whoever is invited already may be invited again, and what has run out counts no more.
    let again = json!({"email": "i7@example.com", "role": "member", "resend": true});
    app.organized(&owner, "invite-member", &again).await;
    app.clock.advance(chrono::TimeDelta::hours(49));
    let owner = app.sign_in("olga").await;
    app.invited(&owner, &id, "later", "member").await;
}

#[tokio::test]
async fn of_the_last_two_who_come_one_is_too_many() {
    let app = TestApp::start(&ALL_ON).await;
    let node = app.node(&ALL_ON).await;
    let owner = app.signed_in("olga").await;
    let id = app.founded(&owner, "acme").await;
    let come = async |app: &TestApp, name: &str| {
        let session = app.signed_in(name).await;
        let invitation = app.invited(&owner, &id, name, "member").await;
        (session, json!({"invitationId": invitation}))
    };
    for n in 1..MOST - 1 {
        let (session, body) = come(&app, &format!("m{n}")).await;
        app.organized(&session, "accept-invitation", &body).await;
    }
    let [one, two] = [come(&app, "one").await, come(&app, "two").await];
    let both = [(&app, &one), (&node, &two)];
    let answers = join_all(
        both.map(|(app, (session, body))| app.organization(session, "accept-invitation", body)),
    )
    .await;
    let refused: Vec<_> = answers.iter().filter(|one| one.status != 200).collect();
    assert_eq!(refused.len(), 1, "{}, {}", answers[0].text, answers[1].text);
    let refusal = (403, "ORGANIZATION_MEMBERSHIP_LIMIT_REACHED".to_owned());
    assert_eq!(refused[0].refusal(), refusal);
    let members = format!("list-members?organizationId={id}&limit=200");
    assert_eq!(held(&app, &owner, &members, "members").await, MOST);
}
