//! `/api/auth/organization/*`: who belongs to an organization, and what they may do.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/list-members` | everybody, or those that a filter finds |
//! | GET | `/get-active-member`, `/get-active-member-role` | oneself, or another member's roles |
//! | POST | `/update-member-role`, `/remove-member`, `/leave` | |
//! | POST | `/has-permission` | whether one may do something |

use aggregates::organization::permissions::Permissions;
use aggregates::organization::{OrganizationCommand, OrganizationError};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use projections::members::{self, Person};
use serde_json::{Value, json};

use super::asking::{Asking, Named};
use super::words::{self, Words, told};
use super::{joined, number, one_or_more, shapes};
use crate::http::answers::{Refusal, as_json};
use crate::http::doors::Door;
use crate::http::request::{BodyTypes, Fields};
use crate::http::web::Call;
use crate::store::RunError;

/// The doors.
pub fn doors() -> Vec<Door> {
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    vec![
        get_door("/organization/list-members", get(list)),
        get_door("/organization/get-active-member", get(active_member)),
        get_door("/organization/get-active-member-role", get(member_role)),
        post_door("/organization/update-member-role", post(update_role)),
        post_door("/organization/remove-member", post(remove)),
        post_door("/organization/leave", post(leave)),
        post_door("/organization/has-permission", post(has_permission)).also_impersonated(),
    ]
}

/// What members can be found and sorted by, as JSON names it.
const FIELDS: [&str; 5] = ["id", "organizationId", "userId", "role", "createdAt"];
const OPERATORS: [&str; 11] = [
    "eq",
    "ne",
    "lt",
    "lte",
    "gt",
    "gte",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "ends_with",
];

/// The value of a field, in a form that sorts as it should.
fn value(person: &Person, field: &str) -> String {
    let member = &person.member;
    match field {
        "id" => member.id.clone(),
        "organizationId" => member.organization_id.clone(),
        "userId" => member.user_id.clone(),
        "role" => member.role.clone(),
        _ => crate::http::shapes::iso(member.created_at),
    }
}

fn matches(value: &str, operator: &str, wanted: &str) -> bool {
    let mut listed = wanted.split(',').map(str::trim);
    match operator {
        "ne" => value != wanted,
        "lt" => value < wanted,
        "lte" => value <= wanted,
        "gt" => value > wanted,
        "gte" => value >= wanted,
        "in" => listed.any(|wanted| value == wanted),
        "not_in" => listed.all(|wanted| value != wanted),
        "contains" => value.contains(wanted),
        "starts_with" => value.starts_with(wanted),
        "ends_with" => value.ends_with(wanted),
        _ => value == wanted,
    }
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = Named::read(&mut fields);
    let limit = fields.optional("limit", number);
    let offset = fields.optional("offset", number).unwrap_or(0);
    let sort_by = fields.optional_choice("sortBy", &FIELDS);
    let descending = fields.optional_choice("sortDirection", &["asc", "desc"]) == Some("desc");
    let filter_field = fields.optional_choice("filterField", &FIELDS);
    let operator = fields.optional_choice("filterOperator", &OPERATORS);
    let wanted = fields.optional_short_text("filterValue");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.named_id(named).await?;
    let id = id.ok_or_else(|| told(&words::NO_ACTIVE_ORGANIZATION))?;
    asking
        .member(&id, &words::YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION)
        .await?;
    // There are a hundred at most.
    let mut people = members::people(&asking.app().pool, &id).await?;
    if let (Some(field), Some(wanted)) = (filter_field, wanted) {
        let operator = operator.unwrap_or("eq");
        people.retain(|person| matches(&value(person, field), operator, &wanted));
    }
    if let Some(field) = sort_by {
        people.sort_by_key(|person| value(person, field));
    }
    if descending {
        people.reverse();
    }
    let page = people.iter().skip(offset).take(limit.unwrap_or(usize::MAX));
    let page: Vec<_> = page.map(shapes::person).collect();
    let body = json!({"members": page, "total": people.len()});
    Ok(asking.answer(&body).await)
}

async fn active_member(call: Call) -> Result<Response, Refusal> {
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(None, &words::NO_ACTIVE_ORGANIZATION)?;
    let member = asking.member(&id, &words::MEMBER_NOT_FOUND).await?;
    let shown = shapes::member_and_user(member, &asking.live.user);
    Ok(asking.answer(&shown).await)
}

async fn member_role(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = Named::read(&mut fields);
    let user_id = fields.optional_short_text("userId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.named_id(named).await?;
    let id = id.ok_or_else(|| told(&words::NO_ACTIVE_ORGANIZATION))?;
    let stranger = &words::YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION;
    let own = asking.member(&id, stranger).await?;
    let member = match user_id {
        Some(user_id) => members::of(&asking.app().pool, &id, &user_id)
            .await?
            .ok_or_else(|| told(stranger))?,
        None => own,
    };
    Ok(asking.answer(&json!({"role": member.role})).await)
}

const UPDATING: Words = Words {
    not_a_member: &words::MEMBER_NOT_FOUND,
    not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER,
};

async fn update_role(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let role = fields.required("role", one_or_more);
    let member_id = fields.short_text("memberId");
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let Some(role) = joined(&role.unwrap_or_default()) else {
        let nothing = StatusCode::BAD_REQUEST.into_response();
        return Err(Refusal::answer(as_json(nothing)));
    };
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let member = give_role(&asking, &id, &member_id, role).await?;
    Ok(asking.answer(&member).await)
}

/// Gives a member other roles, joined by commas; their membership then.
pub(super) async fn give_role(
    asking: &Asking<'_>,
    id: &str,
    member_id: &str,
    role: String,
) -> Result<Value, Refusal> {
    let command = OrganizationCommand::ChangeMemberRole {
        actor: asking.acting().actor(),
        member_id: member_id.to_owned(),
        role,
        at: asking.app().clock.now(),
    };
    let changed = asking.acting().run(id, command).await;
    changed.map_err(|failure| match failure {
        RunError::Refused(OrganizationError::LastOwner) => {
            told(&words::YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER)
        }
        failure => UPDATING.refusal(failure),
    })?;
    let person = find(asking, id, |person| person.member.id == member_id).await?;
    Ok(shapes::member(&person.member))
}

/// The first member of whom something is true.
async fn find(
    asking: &Asking<'_>,
    organization_id: &str,
    is_meant: impl FnMut(&Person) -> bool,
) -> Result<Person, Refusal> {
    let mut people = members::people(&asking.app().pool, organization_id)
        .await?
        .into_iter();
    let mut is_meant = is_meant;
    let found = people.find(|person| is_meant(person));
    found.ok_or_else(|| told(&words::MEMBER_NOT_FOUND))
}

async fn remove(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let whom = fields.short_text("memberIdOrEmail");
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let by_address = whom.contains('@');
    let address = whom.to_lowercase();
    let person = take_out(&asking, &id, |person| {
        if by_address {
            person.email == address
        } else {
            person.member.id == whom
        }
    })
    .await?;
    let member = if by_address {
        json!(shapes::person(&person))
    } else {
        shapes::member(&person.member)
    };
    Ok(asking.answer(&json!({"member": member})).await)
}

/// Ends the membership of the first member of whom something is true.
pub(super) async fn take_out(
    asking: &Asking<'_>,
    id: &str,
    is_meant: impl FnMut(&Person) -> bool,
) -> Result<Person, Refusal> {
    // Only members hear who else is one.
    asking.member(id, &words::MEMBER_NOT_FOUND).await?;
    let person = find(asking, id, is_meant).await?;
    let command = OrganizationCommand::RemoveMember {
        actor: asking.acting().actor(),
        member_id: person.member.id.clone(),
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: &words::MEMBER_NOT_FOUND,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_MEMBER,
    };
    let removed = asking.acting().run(id, command).await;
    removed.map_err(|failure| words.refusal(failure))?;
    if person.member.user_id == asking.user_id() && asking.active() == Some(id) {
        asking.go_to(None, None).await?;
    }
    Ok(person)
}

async fn leave(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let member = asking.member(&id, &words::MEMBER_NOT_FOUND).await?;
    let command = OrganizationCommand::Leave {
        actor: asking.acting().actor(),
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: &words::MEMBER_NOT_FOUND,
        not_allowed: &words::MEMBER_NOT_FOUND,
    };
    let left = asking.acting().run(&id, command).await;
    left.map_err(|failure| words.refusal(failure))?;
    if asking.active() == Some(&id) {
        asking.go_to(None, None).await?;
    }
    let shown = shapes::member_and_user(member, &asking.live.user);
    Ok(asking.answer(&shown).await)
}

async fn has_permission(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let asked = match (fields.raw("permissions"), fields.raw("permission")) {
        (Some(asked), _) => permissions_of(asked),
        // The name that it had once is let through and means nothing.
        (None, Some(Value::Object(_))) => Some(Permissions::new()),
        (None, _) => None,
    };
    if asked.is_none() {
        fields.fits_nothing();
    }
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asked = asked.unwrap_or_default();
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let member = asking
        .member(&id, &words::NOT_A_MEMBER_UNAUTHORIZED)
        .await?;
    let success = asking.allows(&member, &asked).await?;
    let body = json!({"error": null, "success": success});
    Ok(asking.answer(&body).await)
}

/// Actions by resource, if that is what a value says.
pub fn permissions_of(value: &Value) -> Option<Permissions> {
    let actions = |value: &Value| {
        let actions = value.as_array()?.iter();
        actions
            .map(|action| action.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    };
    let resources = value.as_object()?.iter();
    resources
        .map(|(resource, value)| Some((resource.clone(), actions(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_every_operator() {
        for (operator, wanted, found) in [
            ("eq", "b", true),
            ("ne", "b", false),
            ("lt", "c", true),
            ("lte", "b", true),
            ("gt", "b", false),
            ("gte", "b", true),
            ("in", "a, b", true),
            ("not_in", "a,b", false),
            ("contains", "b", true),
            ("starts_with", "c", false),
            ("ends_with", "b", true),
        ] {
            assert_eq!(matches("b", operator, wanted), found, "{operator}");
        }
        assert_eq!(OPERATORS.len(), 11);
    }
}
