//! Organizations and what belongs to them, as clients see them.

use chrono::{DateTime, Utc};
use projections::invitations::InvitationRow;
use projections::members::{MemberRow, Person};
use projections::organization_roles::RoleRow;
use projections::organizations::OrganizationRow;
use projections::team_members::TeamMemberRow;
use projections::teams::TeamRow;
use projections::users::UserRow;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::http::shapes::{as_iso, iso};

fn optional(time: Option<DateTime<Utc>>) -> Option<String> {
    time.map(iso)
}

/// An organization; its metadata are the text that is stored.
pub fn organization(row: &OrganizationRow) -> Value {
    json!({
        "id": row.id, "name": row.name, "slug": row.slug, "logo": row.logo,
        "createdAt": iso(row.created_at), "metadata": row.metadata,
    })
}

/// An organization with its metadata as the object that they are, in the order in which they came: as JSON text. None
/// are left out, or `null`.
pub fn changed_organization(
    row: &OrganizationRow,
    members: Option<Value>,
    has_null: bool,
) -> String {
    let mut shown = organization(row);
    let fields = shown.as_object_mut().expect("made above");
    fields.remove("metadata");
    fields.extend(members.map(|members| ("members".to_owned(), members)));
    let metadata = row.metadata.as_deref();
    let metadata = metadata.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    let text = shown.to_string();
    match metadata.or(has_null.then_some("null")) {
        Some(metadata) => format!("{},\"metadata\":{metadata}}}", &text[..text.len() - 1]),
        None => text,
    }
}

/// A membership.
pub fn member(row: &MemberRow) -> Value {
    json!({
        "id": row.id, "organizationId": row.organization_id, "userId": row.user_id, "role": row.role,
        "createdAt": iso(row.created_at),
    })
}

/// A membership with what other members may know of the person.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonJson<'a> {
    id: &'a str,
    organization_id: &'a str,
    user_id: &'a str,
    role: &'a str,
    #[serde(serialize_with = "as_iso")]
    created_at: DateTime<Utc>,
    user: PublicJson<'a>,
}

#[derive(Serialize)]
struct PublicJson<'a> {
    id: &'a str,
    name: &'a str,
    email: &'a str,
    image: Option<&'a str>,
}

/// A membership with what other members may know of the person.
pub fn person(person: &Person) -> PersonJson<'_> {
    let MemberRow {
        id,
        organization_id,
        user_id,
        role,
        created_at,
    } = &person.member;
    PersonJson {
        id,
        organization_id,
        user_id,
        role,
        created_at: *created_at,
        user: PublicJson {
            id: user_id,
            name: &person.name,
            email: &person.email,
            image: person.image.as_deref(),
        },
    }
}

/// The membership of somebody whose row is at hand.
pub fn member_and_user(row: MemberRow, user: &UserRow) -> Value {
    json!(person(&Person {
        member: row,
        name: user.name.clone(),
        email: user.email.clone(),
        image: user.image.clone(),
    }))
}

/// An invitation; `teams` says whether there are any.
pub fn invitation(row: &InvitationRow, teams: bool) -> Value {
    let mut shown = json!({
        "id": row.id, "organizationId": row.organization_id, "email": row.email, "role": row.role,
        "status": row.status, "expiresAt": iso(row.expires_at), "createdAt": iso(row.created_at),
        "inviterId": row.inviter_id,
    });
    if teams {
        shown["teamId"] = json!(row.team_ids);
    }
    shown
}

/// A role.
pub fn role(row: &RoleRow) -> Value {
    json!({
        "id": row.id, "organizationId": row.organization_id, "role": row.name, "permission": row.permission,
        "createdAt": iso(row.created_at), "updatedAt": optional(row.updated_at),
    })
}

/// A team.
pub fn team(row: &TeamRow) -> Value {
    json!({
        "id": row.id, "organizationId": row.organization_id, "name": row.name,
        "createdAt": iso(row.created_at), "updatedAt": optional(row.updated_at),
    })
}

/// A membership of a team.
pub fn team_member(row: &TeamMemberRow) -> Value {
    json!({
        "id": row.id, "teamId": row.team_id, "userId": row.user_id, "createdAt": iso(row.created_at),
    })
}
