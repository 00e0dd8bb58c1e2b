//! `/api/auth/organization/*`: organizations, and which of them a session is in. Members, invitations, roles and teams
//! have files of their own beside this one.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/create`, `/update`, `/delete` | |
//! | POST | `/check-slug` | whether a slug is free |
//! | GET | `/list` | those that one belongs to |
//! | POST | `/set-active` | which one the session is in |
//! | GET | `/get-organization`, `/get-full-organization` | one of them, alone or with all that belongs to it |

mod asking;
pub mod gilden;
mod invitations;
mod members;
mod roles;
mod shapes;
mod teams;
mod words;

use aggregates::organization::{OrganizationCommand, Update, permissions};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use projections::organizations::{self as read, OrganizationRow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::asking::{Asking, Named};
use self::words::{Words, told};
use super::answers::Refusal;
use super::doors::Door;
use super::error::Problem;
use super::request::{BodyTypes, Fields};
use super::web::Call;
use crate::organizations::{self, Shown};
use crate::store::{RunError, StoreError};

/// Largest metadata that are kept, in bytes of JSON text.
const METADATA_MAX_BYTES: usize = 16 * 1024;

/// The doors.
pub fn doors() -> Vec<Door> {
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let own = vec![
        post_door("/organization/create", post(create)),
        post_door("/organization/check-slug", post(check_slug)).also_impersonated(),
        post_door("/organization/update", post(update)),
        post_door("/organization/delete", post(delete)),
        get_door("/organization/list", get(list)),
        post_door("/organization/set-active", post(set_active)).also_impersonated(),
        get_door("/organization/get-organization", get(organization)),
        get_door("/organization/get-full-organization", get(full)),
    ];
    own.into_iter()
        .chain(members::doors())
        .chain(invitations::doors())
        .chain(roles::doors())
        .chain(teams::doors())
        .collect()
}

/// The metadata of a body or of its `data`, as the text that came, without the spaces in it.
fn metadata(call: &Call, fields: &mut Fields, in_data: bool) -> Option<String> {
    #[derive(Deserialize)]
    struct Holder<'a> {
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    if !fields.has("metadata") {
        return None;
    }
    fields.record("metadata");
    let mut holder: Holder<'_> = serde_json::from_slice(&call.bytes).ok()?;
    if in_data {
        holder = serde_json::from_str(holder.data?.get()).ok()?;
    }
    let text = compact(holder.metadata?.get());
    if text.len() > METADATA_MAX_BYTES {
        let fault = format!("Too big: expected <={METADATA_MAX_BYTES} bytes of JSON");
        fields.fault("metadata", &fault);
    }
    Some(text)
}

/// A number of a query.
fn number(value: &Value) -> Option<usize> {
    value.as_str()?.parse().ok()
}

/// A text, or a list of texts; none with a NUL, which the database has none of.
fn one_or_more(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| {
        let text = value.as_str().filter(|text| !text.contains('\0'));
        text.map(str::to_owned)
    };
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

/// A JSON text without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            let kept = in_text || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = in_text,
                '"' => in_text = !in_text,
                _ => {}
            }
            kept
        })
        .collect()
}

/// Roles joined by commas, each of them once; `None` if there are none.
fn joined(roles: &[String]) -> Option<String> {
    let mut single: Vec<&str> = vec![];
    for role in roles.iter().flat_map(|roles| permissions::roles(roles)) {
        if !role.is_empty() && !single.contains(&role) {
            single.push(role);
        }
    }
    (!single.is_empty()).then(|| single.join(","))
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn create(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let name = fields.filled_text("name");
    let slug = fields.filled_text("slug");
    let logo = fields.optional_short_text("logo");
    let metadata = metadata(&call, &mut fields, false);
    let keep = fields.optional_bool("keepCurrentActiveOrganization");
    for kept in ["name", "slug"] {
        fields.check_kept(kept);
    }
    fields.done()?;
    let asking = Asking::or_nothing(&call).await?;
    let shown = Shown {
        name,
        slug,
        logo,
        metadata,
    };
    let text = make(&asking, shown, keep == Some(true), false).await?;
    Ok(asking.answered(json_text(text)).await)
}

/// Makes an organization, and puts the session into it unless it is to stay where it is; it as JSON text.
async fn make(
    asking: &Asking<'_>,
    shown: Shown,
    stays: bool,
    is_guild: bool,
) -> Result<String, Refusal> {
    let made = asking.acting().create(shown, is_guild).await;
    let made = made.map_err(|failure| match failure {
        RunError::Store(StoreError::ClaimTaken(_)) => told(&words::ORGANIZATION_ALREADY_EXISTS),
        failure => Words {
            not_a_member: &words::USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
            not_allowed: &words::USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
        }
        .refusal(failure),
    })?;
    if !stays {
        let id = made.organization.id.as_str();
        asking.go_to(Some(id), made.team_id.as_deref()).await?;
    }
    let members = json!([shapes::member(&made.owner)]);
    let organization = &made.organization;
    Ok(shapes::changed_organization(
        organization,
        Some(members),
        false,
    ))
}

async fn check_slug(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let slug = fields.short_text("slug");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    match organizations::id_of_slug(asking.app(), &slug).await? {
        Some(_) => Err(told(&words::ORGANIZATION_SLUG_ALREADY_TAKEN)),
        None => Ok(asking.answer(&json!({"status": true})).await),
    }
}

async fn update(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let mut data = fields.part("data", "body.data");
    let update = read_update(&call, &mut data, true);
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    data.done()?;
    let asking = Asking::or(&call, Problem::Stated(&words::NOBODY_UPDATES, None)).await?;
    let id = asking.organization_id(named, &words::ORGANIZATION_NOT_FOUND)?;
    let text = change(&asking, &id, update).await?;
    Ok(asking.answered(json_text(text)).await)
}

/// The changes that a body, or its `data`, asks for.
fn read_update(call: &Call, fields: &mut Fields, in_data: bool) -> Update {
    let filled = |fields: &mut Fields, name| fields.has(name).then(|| fields.filled_text(name));
    let update = Update {
        name: filled(fields, "name"),
        slug: filled(fields, "slug"),
        logo: fields.removable_text("logo"),
        metadata: metadata(call, fields, in_data).map(Some),
    };
    for kept in ["name", "slug", "logo"] {
        fields.check_kept(kept);
    }
    update
}

/// Changes an organization; it as JSON text.
async fn change(asking: &Asking<'_>, id: &str, update: Update) -> Result<String, Refusal> {
    let Update {
        name: None,
        slug: None,
        logo: None,
        metadata: None,
    } = update
    else {
        let command = OrganizationCommand::Update {
            actor: asking.acting().actor(),
            update,
            at: asking.app().clock.now(),
        };
        let updated = asking.acting().run(id, command).await;
        updated.map_err(|failure| UPDATING.refusal(failure))?;
        let row = read::find(&asking.app().pool, id).await?;
        let row = row.ok_or_else(|| told(&words::ORGANIZATION_NOT_FOUND))?;
        return Ok(shapes::changed_organization(&row, None, true));
    };
    Err(Problem::NothingToUpdate.into())
}

const UPDATING: Words = Words {
    not_a_member: &words::USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
    not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_ORGANIZATION,
};

async fn delete(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.short_text("organizationId");
    fields.done()?;
    let asking = Asking::or_nothing(&call).await?;
    let row = close(&asking, &id).await?;
    Ok(asking.answer(&shapes::organization(&row)).await)
}

/// Closes an organization; it as it was.
async fn close(asking: &Asking<'_>, id: &str) -> Result<OrganizationRow, Refusal> {
    let words = Words {
        not_a_member: &words::USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_ORGANIZATION,
    };
    let row = read::find(&asking.app().pool, id).await?;
    let row = row.ok_or_else(|| told(words.not_a_member))?;
    let deleted = asking.acting().delete(id).await;
    deleted.map_err(|failure| words.refusal(failure))?;
    if asking.active() == Some(id) {
        asking.go_to(None, None).await?;
    }
    Ok(row)
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let asking = Asking::of(&call).await?;
    Ok(asking.answer(&own(&asking).await?).await)
}

/// The organizations of whoever asks.
async fn own(asking: &Asking<'_>) -> Result<Vec<Value>, Refusal> {
    let rows = read::of_user(&asking.app().pool, asking.user_id()).await?;
    Ok(rows.iter().map(shapes::organization).collect())
}

async fn set_active(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.removable_text("organizationId");
    fields.check_kept("organizationId");
    let slug = fields.optional_short_text("organizationSlug");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = match (id, slug) {
        (Some(None), _) if asking.active().is_none() => {
            return Ok(asking.answer(&Value::Null).await);
        }
        (Some(None), _) => {
            asking.go_to(None, None).await?;
            return Ok(asking.answer_with_cookie(&Value::Null).await);
        }
        (Some(Some(id)), _) => Some(id),
        (None, Some(slug)) => {
            let id = organizations::id_of_slug(asking.app(), &slug).await?;
            Some(id.ok_or_else(|| told(&words::ORGANIZATION_NOT_FOUND))?)
        }
        (None, None) => asking.active().map(str::to_owned),
    };
    let Some(id) = id else {
        return Ok(asking.answer(&Value::Null).await);
    };
    let pool = &asking.app().pool;
    let row = read::find(pool, &id).await?;
    let row = row.ok_or_else(|| told(&words::ORGANIZATION_NOT_FOUND))?;
    if projections::members::of(pool, &id, asking.user_id())
        .await?
        .is_none()
    {
        // As clients know it: whoever asks for one that is not theirs is in none afterwards.
        if asking.active().is_some() {
            asking.go_to(None, None).await?;
        }
        return Err(told(&words::NOT_A_MEMBER_FORBIDDEN));
    }
    let team = asking
        .active_team()
        .filter(|_| asking.active() == Some(&id));
    asking.go_to(Some(&id), team).await?;
    Ok(asking.answer_with_cookie(&shapes::organization(&row)).await)
}

async fn organization(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = Named::read(&mut fields);
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let Some(id) = asking.named_id(named).await? else {
        return Ok(asking.answer(&Value::Null).await);
    };
    let (row, _) = asking.entered(&id).await?;
    Ok(asking.answer(&shapes::organization(&row)).await)
}

async fn full(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = Named::read(&mut fields);
    let limit = fields.optional("membersLimit", number);
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let Some(id) = asking.named_id(named).await? else {
        return Ok(asking.answer(&Value::Null).await);
    };
    let shown = everything(&asking, &id, limit).await?;
    Ok(asking.answered(json_text(shown)).await)
}

/// An organization with all that belongs to it, as far as whoever asks may see it; as JSON text.
async fn everything(
    asking: &Asking<'_>,
    id: &str,
    limit: Option<usize>,
) -> Result<String, Refusal> {
    #[derive(Serialize)]
    struct Everything<'a> {
        #[serde(flatten)]
        organization: Value,
        members: Vec<shapes::PersonJson<'a>>,
        invitations: Vec<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        teams: Option<Vec<Value>>,
    }
    let (row, member) = asking.entered(id).await?;
    let (pool, teams_on) = (&asking.app().pool, asking.app().config.teams);
    let may_invite = [("invitation".to_owned(), vec!["create".to_owned()])].into();
    let sees_invitations = asking.allows(&member, &may_invite).await?;
    let (people, invited, teams) = tokio::try_join!(
        projections::members::people(pool, id),
        async {
            match sees_invitations {
                true => projections::invitations::of_organization(pool, id).await,
                false => Ok(vec![]),
            }
        },
        async {
            match teams_on {
                true => projections::teams::of_organization(pool, id).await,
                false => Ok(vec![]),
            }
        }
    )?;
    let owns = permissions::is_owner(&member.role);
    let counted = teams.iter().map(|counted| {
        let mut team = shapes::team(&counted.team);
        team["memberCount"] = json!(counted.members);
        team
    });
    let people = people.iter().take(limit.unwrap_or(usize::MAX));
    let shown = Everything {
        organization: shapes::organization(&row),
        members: people.map(shapes::person).collect(),
        invitations: invited
            .iter()
            .filter(|row| owns || !permissions::is_owner(&row.role))
            .map(|row| shapes::invitation(row, teams_on))
            .collect(),
        teams: teams_on.then(|| counted.collect()),
    };
    Ok(serde_json::to_string(&shown).expect("it is plain JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keep_their_order_and_lose_their_spaces() {
        assert_eq!(
            compact("{ \"b\" : [1, 2] ,\n \"a\": \"x \\\" y\\\\\" }"),
            r#"{"b":[1,2],"a":"x \" y\\"}"#
        );
    }
}
