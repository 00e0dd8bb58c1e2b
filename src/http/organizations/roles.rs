//! `/api/auth/organization/*`: roles that an organization defines, where `MANA_AUTH_DYNAMIC_ROLES` is on.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/create-role`, `/update-role`, `/delete-role` | |
//! | GET | `/list-roles`, `/get-role` | |

use aggregates::organization::{OrganizationCommand, RoleKey};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use projections::organization_roles::{self, RoleRow};
use serde_json::json;
use sqlx::types::Json;

use super::asking::Asking;
use super::members::permissions_of;
use super::shapes;
use super::words::{self, Words, told};
use crate::http::answers::Refusal;
use crate::http::doors::Door;
use crate::http::error::Stated;
use crate::http::request::{BodyTypes, Fields};
use crate::http::web::Call;
use crate::ids;

/// The doors.
pub fn doors() -> Vec<Door> {
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let doors = vec![
        post_door("/organization/create-role", post(create)),
        post_door("/organization/update-role", post(update)),
        post_door("/organization/delete-role", post(delete)),
        get_door("/organization/list-roles", get(list)),
        get_door("/organization/get-role", get(role)),
    ];
    let on = |door: Door| door.only_if(|config| config.dynamic_roles);
    doors.into_iter().map(on).collect()
}

const fn words(not_allowed: &'static Stated) -> Words {
    Words {
        not_a_member: &words::YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION,
        not_allowed,
    }
}

const CREATING: Words = words(&words::YOU_ARE_NOT_ALLOWED_TO_CREATE_A_ROLE);
const UPDATING: Words = words(&words::YOU_ARE_NOT_ALLOWED_TO_UPDATE_A_ROLE);
const DELETING: Words = words(&words::YOU_ARE_NOT_ALLOWED_TO_DELETE_A_ROLE);

/// The role that a request names.
fn role_key(fields: &mut Fields) -> RoleKey {
    match (fields.raw("roleName"), fields.raw("roleId")) {
        (Some(_), _) => RoleKey::Name(fields.short_text("roleName").to_lowercase()),
        (None, Some(_)) => RoleKey::Id(fields.short_text("roleId")),
        (None, None) => {
            fields.fits_nothing();
            RoleKey::Id(String::new())
        }
    }
}

fn is_meant(key: &RoleKey, row: &RoleRow) -> bool {
    match key {
        RoleKey::Id(id) => row.id == *id,
        RoleKey::Name(name) => row.name == *name,
    }
}

async fn create(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let name = fields.short_text("role").to_lowercase();
    let permission = fields.required("permission", permissions_of);
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let permission = permission.unwrap_or_default();
    let asking = Asking::of(&call).await?;
    let none = &words::YOU_MUST_BE_IN_AN_ORGANIZATION_TO_CREATE_A_ROLE;
    let id = asking.organization_id(named, none)?;
    let at = asking.app().clock.now();
    let row = RoleRow {
        id: ids::part_of_organization(),
        organization_id: id.clone(),
        name,
        permission: Json(permission),
        created_at: at,
        updated_at: None,
    };
    let command = OrganizationCommand::CreateRole {
        actor: asking.acting().actor(),
        role_id: row.id.clone(),
        name: row.name.clone(),
        permission: row.permission.0.clone(),
        at,
    };
    let created = asking.acting().run(&id, command).await;
    created.map_err(|failure| CREATING.refusal(failure))?;
    let body =
        json!({"success": true, "roleData": shapes::role(&row), "statements": row.permission});
    Ok(asking.answer(&body).await)
}

async fn update(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let mut data = fields.part("data", "body.data");
    let name = data.optional_short_text("roleName");
    let permission = data.optional("permission", permissions_of);
    let named = fields.optional_short_text("organizationId");
    let key = role_key(&mut fields);
    fields.done()?;
    data.done()?;
    let name = name.map(|name| name.to_lowercase());
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    asking.member(&id, UPDATING.not_a_member).await?;
    let before = find(&asking, &id, &key).await?;
    let command = OrganizationCommand::UpdateRole {
        actor: asking.acting().actor(),
        role: key,
        name: name.clone(),
        permission: permission.clone(),
        at: asking.app().clock.now(),
    };
    let updated = asking.acting().run(&id, command).await;
    updated.map_err(|failure| UPDATING.refusal(failure))?;
    // As clients know it: with the time of the change before this one.
    let before = before.ok_or_else(|| told(&words::ROLE_NOT_FOUND))?;
    let row = RoleRow {
        name: name.unwrap_or(before.name),
        permission: permission.map_or(before.permission, Json),
        ..before
    };
    let body = json!({"success": true, "roleData": shapes::role(&row)});
    Ok(asking.answer(&body).await)
}

async fn find(
    asking: &Asking<'_>,
    organization_id: &str,
    key: &RoleKey,
) -> Result<Option<RoleRow>, Refusal> {
    let rows = organization_roles::of_organization(&asking.app().pool, organization_id).await?;
    Ok(rows.into_iter().find(|row| is_meant(key, row)))
}

async fn delete(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let named = fields.optional_short_text("organizationId");
    let key = role_key(&mut fields);
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let command = OrganizationCommand::DeleteRole {
        actor: asking.acting().actor(),
        role: key,
        at: asking.app().clock.now(),
    };
    let deleted = asking.acting().run(&id, command).await;
    deleted.map_err(|failure| DELETING.refusal(failure))?;
    Ok(asking.answer(&json!({"success": true})).await)
}

/// The organization of a query, if whoever asks may read its roles.
async fn readable(
    asking: &Asking<'_>,
    named: Option<String>,
    not_allowed: &'static Stated,
) -> Result<String, Refusal> {
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let stranger = &words::YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION;
    let member = asking.member(&id, stranger).await?;
    asking.check(&member, ("ac", "read"), not_allowed).await?;
    Ok(id)
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = readable(&asking, named, &words::YOU_ARE_NOT_ALLOWED_TO_LIST_A_ROLE).await?;
    let rows = organization_roles::of_organization(&asking.app().pool, &id).await?;
    let shown: Vec<_> = rows.iter().map(shapes::role).collect();
    Ok(asking.answer(&shown).await)
}

async fn role(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = fields.optional_short_text("organizationId");
    let key = role_key(&mut fields);
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = readable(&asking, named, &words::YOU_ARE_NOT_ALLOWED_TO_READ_A_ROLE).await?;
    let row = find(&asking, &id, &key).await?;
    let row = row.ok_or_else(|| told(&words::ROLE_NOT_FOUND))?;
    Ok(asking.answer(&shapes::role(&row)).await)
}
