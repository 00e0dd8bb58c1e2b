//! Bad input for the routes of organizations: without a session as all routes are tried, and with one that may do
//! everything.

use serde_json::{Value, json};

use super::ALL_ON;
use super::tenants::{filled, ids, requests};
use crate::bad_input::{Input, Kind, Route, optional, required};
use crate::harness::TestApp;

const NO_SESSION: Input = Input::Nothing(401, "UNAUTHORIZED");
const INVITATION: Input = Input::Body(&[required("invitationId", Kind::Text)]);
const ORGANIZATION: Input = Input::Body(&[required("organizationId", Kind::Text)]);
const TEAM_MEMBER: Input = Input::Body(&[
    required("teamId", Kind::Text),
    required("userId", Kind::Text),
    optional("organizationId", Kind::Text),
]);
/// What has to be there beside these fields is no text, and missing.
const INCOMPLETE: Input = Input::Body(&[optional("organizationId", Kind::Text)]);

/// Every route: methods, path and what it takes.
pub const ROUTES: &[Route] = &[
    (
        &["POST"],
        "/api/auth/organization/create",
        Input::Body(&[
            required("name", Kind::Kept),
            required("slug", Kind::Kept),
            optional("logo", Kind::Kept),
            optional("keepCurrentActiveOrganization", Kind::Bool),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/organization/check-slug",
        Input::Body(&[required("slug", Kind::Text)]),
    ),
    (&["POST"], "/api/auth/organization/update", INCOMPLETE),
    (&["POST"], "/api/auth/organization/delete", ORGANIZATION),
    (&["GET"], "/api/auth/organization/list", NO_SESSION),
    (
        &["POST"],
        "/api/auth/organization/set-active",
        Input::Body(&[optional("organizationSlug", Kind::Text)]),
    ),
    (
        &["GET"],
        "/api/auth/organization/get-organization",
        NO_SESSION,
    ),
    (
        &["GET"],
        "/api/auth/organization/get-full-organization",
        NO_SESSION,
    ),
    (&["GET"], "/api/auth/organization/list-members", NO_SESSION),
    (
        &["GET"],
        "/api/auth/organization/get-active-member",
        NO_SESSION,
    ),
    (
        &["GET"],
        "/api/auth/organization/get-active-member-role",
        NO_SESSION,
    ),
    (
        &["POST"],
        "/api/auth/organization/update-member-role",
        Input::Body(&[required("memberId", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/organization/remove-member",
        Input::Body(&[
            required("memberIdOrEmail", Kind::Text),
            optional("organizationId", Kind::Text),
        ]),
    ),
    (&["POST"], "/api/auth/organization/leave", ORGANIZATION),
    (
        &["POST"],
        "/api/auth/organization/has-permission",
        INCOMPLETE,
    ),
    (
        &["POST"],
        "/api/auth/organization/invite-member",
        Input::Body(&[
            required("email", Kind::Text),
            optional("organizationId", Kind::Text),
            optional("resend", Kind::Bool),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/organization/cancel-invitation",
        INVITATION,
    ),
    (
        &["POST"],
        "/api/auth/organization/accept-invitation",
        INVITATION,
    ),
    (
        &["POST"],
        "/api/auth/organization/reject-invitation",
        INVITATION,
    ),
    (
        &["GET"],
        "/api/auth/organization/get-invitation",
        Input::Nothing(400, "VALIDATION_ERROR"),
    ),
    (
        &["GET"],
        "/api/auth/organization/list-invitations",
        NO_SESSION,
    ),
    (
        &["GET"],
        "/api/auth/organization/list-user-invitations",
        Input::Nothing(400, ""),
    ),
    (
        &["POST"],
        "/api/auth/organization/create-role",
        Input::Body(&[required("role", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/organization/update-role",
        Input::Body(&[required("roleName", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/organization/delete-role",
        Input::Body(&[required("roleName", Kind::Text)]),
    ),
    (&["GET"], "/api/auth/organization/list-roles", NO_SESSION),
    (
        &["GET"],
        "/api/auth/organization/get-role",
        Input::Nothing(400, "VALIDATION_ERROR"),
    ),
    (
        &["POST"],
        "/api/auth/organization/create-team",
        Input::Body(&[required("name", Kind::Kept)]),
    ),
    (
        &["POST"],
        "/api/auth/organization/update-team",
        Input::Body(&[required("teamId", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/organization/remove-team",
        Input::Body(&[required("teamId", Kind::Text)]),
    ),
    (&["GET"], "/api/auth/organization/list-teams", NO_SESSION),
    (
        &["GET"],
        "/api/auth/organization/list-user-teams",
        NO_SESSION,
    ),
    (
        &["POST"],
        "/api/auth/organization/set-active-team",
        Input::Body(&[]),
    ),
    (
        &["GET"],
        "/api/auth/organization/list-team-members",
        NO_SESSION,
    ),
    (
        &["POST"],
        "/api/auth/organization/add-team-member",
        TEAM_MEMBER,
    ),
    (
        &["POST"],
        "/api/auth/organization/remove-team-member",
        TEAM_MEMBER,
    ),
];

/// Values that no field of these routes takes as they are.
fn odd_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5e300),
        json!(""),
        json!("\0"),
        json!("a\0b,owner"),
        json!("\u{202e}ä𝔘"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([[]]),
        json!(["a", 1]),
        json!({}),
        json!({"a": {"b": 1}}),
        json!({"project": "update"}),
        json!({"project": [1]}),
    ]
}

/// The same body with one of its fields, also of those in `data`, replaced.
fn replaced(body: &Value, value: &Value) -> Vec<Value> {
    let fields = body.as_object().unwrap();
    let mut bodies = Vec::new();
    for (name, field) in fields {
        let mut other = body.clone();
        other[name] = value.clone();
        bodies.push(other);
        if field.is_object() {
            for inner in replaced(field, value) {
                let mut other = body.clone();
                other[name] = inner;
                bodies.push(other);
            }
        }
    }
    bodies
}

#[tokio::test]
async fn odd_values_of_those_who_may_do_everything_are_refused() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let ids = ids(&tenant);
    let mut refused = 0;
    for (route, body) in requests() {
        let (method, path) = route.split_once(' ').unwrap();
        if method == "GET" {
            let path = path.split('?').next().unwrap();
            for query in [
                "?limit=x&offset=-1",
                "?sortBy=password&filterField=email",
                "?sortDirection=up",
                "?filterOperator=drop",
                "?membersLimit=1e9",
                "?organizationId=%00&teamId=%00&id=%00&userId=%00&roleId=%00",
                "?organizationSlug=%ff%fe%00&roleName=%ed%a0%80",
            ] {
                let answer = app
                    .organization_read(&tenant.owner, &format!("{path}{query}"))
                    .await;
                assert!(answer.status < 500, "{path}{query}: {}", answer.text);
            }
            continue;
        }
        let body: Value = serde_json::from_str(&filled(&body.to_string(), &ids)).unwrap();
        for value in odd_values() {
            for body in replaced(&body, &value) {
                let before = app.of_organization(&tenant.id).await;
                let answer = app.organization(&tenant.owner, path, &body).await;
                let what = format!("{path} {body:.300}: {} {}", answer.status, answer.text);
                assert!(answer.status < 500, "{what}");
                if answer.status >= 400 {
                    assert_eq!(app.of_organization(&tenant.id).await, before, "{what}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}
