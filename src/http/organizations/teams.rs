//! `/api/auth/organization/*`: teams, where `MANA_AUTH_TEAMS` is on, and which of them a session is in.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/create-team`, `/update-team`, `/remove-team` | |
//! | GET | `/list-teams`, `/list-user-teams` | of an organization, of a person |
//! | POST | `/set-active-team` | which one the session is in |
//! | GET | `/list-team-members` | to members of the team |
//! | POST | `/add-team-member`, `/remove-team-member` | |

use aggregates::UserId;
use aggregates::organization::OrganizationCommand;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use projections::team_members;
use projections::teams::{self, TeamRow};
use serde_json::{Value, json};

use super::asking::Asking;
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
        post_door("/organization/create-team", post(create)),
        post_door("/organization/update-team", post(update)),
        post_door("/organization/remove-team", post(remove)),
        get_door("/organization/list-teams", get(list)),
        get_door("/organization/list-user-teams", get(list_of_user)),
        post_door("/organization/set-active-team", post(set_active)).also_impersonated(),
        get_door("/organization/list-team-members", get(list_members)),
        post_door("/organization/add-team-member", post(add_member)),
        post_door("/organization/remove-team-member", post(remove_member)),
    ];
    let on = |door: Door| door.only_if(|config| config.teams);
    doors.into_iter().map(on).collect()
}

async fn create(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let name = fields.filled_text("name");
    fields.check_kept("name");
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::or_nothing(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let at = asking.app().clock.now();
    let row = TeamRow {
        id: ids::part_of_organization(),
        organization_id: id.clone(),
        name,
        created_at: at,
        updated_at: Some(at),
    };
    let command = OrganizationCommand::CreateTeam {
        actor: asking.acting().actor(),
        team_id: row.id.clone(),
        name: row.name.clone(),
        at,
    };
    let words = Words {
        not_a_member: &words::YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_CREATE_TEAMS_IN_THIS_ORGANIZATION,
    };
    let created = asking.acting().run(&id, command).await;
    created.map_err(|failure| words.refusal(failure))?;
    Ok(asking.answer(&shapes::team(&row)).await)
}

async fn update(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let team_id = fields.short_text("teamId");
    let mut data = fields.part("data", "body.data");
    let name = data.has("name").then(|| data.filled_text("name"));
    data.check_kept("name");
    let named = data.optional_short_text("organizationId");
    fields.done()?;
    data.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let command = OrganizationCommand::RenameTeam {
        actor: asking.acting().actor(),
        team_id: team_id.clone(),
        name,
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: &words::YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_TEAM,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_TEAM,
    };
    let renamed = asking.acting().run(&id, command).await;
    renamed.map_err(|failure| words.refusal(failure))?;
    let row = find(&asking, &team_id).await?;
    Ok(asking.answer(&shapes::team(&row)).await)
}

async fn find(asking: &Asking<'_>, team_id: &str) -> Result<TeamRow, Refusal> {
    let row = teams::find(&asking.app().pool, team_id).await?;
    row.ok_or_else(|| told(&words::TEAM_NOT_FOUND))
}

async fn remove(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let team_id = fields.short_text("teamId");
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let active = &words::YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM;
    if asking.active_team() == Some(&team_id) {
        return Err(told(active));
    }
    let command = OrganizationCommand::RemoveTeam {
        actor: asking.acting().actor(),
        team_id,
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: active,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_DELETE_TEAMS_IN_THIS_ORGANIZATION,
    };
    let removed = asking.acting().run(&id, command).await;
    removed.map_err(|failure| words.refusal(failure))?;
    let body = json!({"message": "Team removed successfully."});
    Ok(asking.answer(&body).await)
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    let stranger = &words::YOU_ARE_NOT_ALLOWED_TO_ACCESS_THIS_ORGANIZATION;
    asking.member(&id, stranger).await?;
    let rows = teams::of_organization(&asking.app().pool, &id).await?;
    let shown: Vec<_> = rows.iter().map(|row| shapes::team(&row.team)).collect();
    Ok(asking.answer(&shown).await)
}

async fn list_of_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let user_id = fields.optional_short_text("userId");
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let other = user_id.filter(|id| *id != asking.user_id());
    // One's own are shown wherever they are; another person's only where one may change members.
    let within = match &other {
        None => named,
        Some(_) => {
            let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
            let not_allowed = &words::YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER;
            let member = asking.member(&id, not_allowed).await?;
            let may_update = ("member", "update");
            asking.check(&member, may_update, not_allowed).await?;
            Some(id)
        }
    };
    let user_id = other.as_deref().unwrap_or(asking.user_id());
    let mut rows = teams::of_user(&asking.app().pool, user_id).await?;
    rows.retain(|row| within.as_ref().is_none_or(|id| row.organization_id == *id));
    let shown: Vec<_> = rows.iter().map(shapes::team).collect();
    Ok(asking.answer(&shown).await)
}

async fn set_active(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let team_id = fields.removable_text("teamId");
    fields.check_kept("teamId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let team_id = match team_id {
        Some(None) if asking.active_team().is_none() => {
            return Ok(asking.answer(&Value::Null).await);
        }
        Some(None) => {
            asking.go_to(asking.active(), None).await?;
            return Ok(asking.answer_with_cookie(&Value::Null).await);
        }
        Some(Some(team_id)) => team_id,
        None => match asking.active_team() {
            None => return Ok(asking.answer(&Value::Null).await),
            Some(team_id) => {
                let row = find(&asking, team_id).await?;
                check_in_team(&asking, &row, &words::NOT_IN_TEAM_FORBIDDEN).await?;
                return Ok(asking.answer_with_cookie(&shapes::team(&row)).await);
            }
        },
    };
    let id = asking.organization_id(None, &words::NO_ACTIVE_ORGANIZATION)?;
    let row = find(&asking, &team_id).await?;
    if row.organization_id != id {
        return Err(told(&words::TEAM_NOT_FOUND));
    }
    check_in_team(&asking, &row, &words::NOT_IN_TEAM_FORBIDDEN).await?;
    asking.go_to(Some(&id), Some(&row.id)).await?;
    Ok(asking.answer_with_cookie(&shapes::team(&row)).await)
}

/// Whether whoever asks belongs to a team; gives its members.
async fn check_in_team(
    asking: &Asking<'_>,
    team: &TeamRow,
    stranger: &'static Stated,
) -> Result<Vec<team_members::TeamMemberRow>, Refusal> {
    let rows = team_members::of_team(&asking.app().pool, &team.id).await?;
    if rows.iter().any(|row| row.user_id == asking.user_id()) {
        Ok(rows)
    } else {
        Err(told(stranger))
    }
}

async fn list_members(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let team_id = fields.optional_short_text("teamId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let team_id = team_id
        .or_else(|| asking.active_team().map(str::to_owned))
        .ok_or_else(|| told(&words::YOU_DO_NOT_HAVE_AN_ACTIVE_TEAM))?;
    let team = find(&asking, &team_id).await?;
    let rows = check_in_team(&asking, &team, &words::USER_IS_NOT_A_MEMBER_OF_THE_TEAM).await?;
    let shown: Vec<_> = rows.iter().map(shapes::team_member).collect();
    Ok(asking.answer(&shown).await)
}

/// Team, person and organization of a body.
async fn of_member<'a>(call: &'a Call) -> Result<(Asking<'a>, [String; 3]), Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let team_id = fields.short_text("teamId");
    let user_id = fields.short_text("userId");
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(call).await?;
    let id = asking.organization_id(named, &words::NO_ACTIVE_ORGANIZATION)?;
    Ok((asking, [team_id, user_id, id]))
}

async fn add_member(call: Call) -> Result<Response, Refusal> {
    let (asking, [team_id, user_id, id]) = of_member(&call).await?;
    let command = OrganizationCommand::AddTeamMember {
        actor: asking.acting().actor(),
        team_member_id: ids::part_of_organization(),
        team_id: team_id.clone(),
        user_id: UserId::new(&user_id),
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: &words::USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_CREATE_A_NEW_TEAM_MEMBER,
    };
    let added = asking.acting().run(&id, command).await;
    added.map_err(|failure| words.refusal(failure))?;
    let mut rows = team_members::of_team(&asking.app().pool, &team_id)
        .await?
        .into_iter();
    let row = rows.find(|row| row.user_id == user_id);
    let row = row.ok_or_else(|| told(&words::USER_IS_NOT_A_MEMBER_OF_THE_TEAM))?;
    Ok(asking.answer(&shapes::team_member(&row)).await)
}

async fn remove_member(call: Call) -> Result<Response, Refusal> {
    let (asking, [team_id, user_id, id]) = of_member(&call).await?;
    let command = OrganizationCommand::RemoveTeamMember {
        actor: asking.acting().actor(),
        team_id,
        user_id: UserId::new(user_id),
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: &words::USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_REMOVE_A_TEAM_MEMBER,
    };
    let removed = asking.acting().run(&id, command).await;
    removed.map_err(|failure| words.refusal(failure))?;
    let body = json!({"message": "Team member removed successfully."});
    Ok(asking.answer(&body).await)
}
