//! `/api/auth/organization/*`: who is asked in, and what becomes of it.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/invite-member`, `/cancel-invitation` | by members who may |
//! | POST | `/accept-invitation`, `/reject-invitation` | by whom it is for |
//! | GET | `/get-invitation`, `/list-user-invitations` | to whom they are for |
//! | GET | `/list-invitations` | all of an organization |

use aggregates::EmailAddress;
use aggregates::organization::{OrganizationCommand, OrganizationError};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use projections::invitations::{self, InvitationRow};
use projections::{members, organizations, users};
use serde_json::{Value, json};

use super::asking::Asking;
use super::words::{self, Words, told, told_more};
use super::{joined, one_or_more, shapes};
use crate::http::answers::Refusal;
use crate::http::doors::Door;
use crate::http::error::{Problem, Stated};
use crate::http::limits;
use crate::http::request::{BodyTypes, Fields};
use crate::http::web::Call;
use crate::organizations::NewInvitation;
use crate::store::RunError;

/// The doors.
pub fn doors() -> Vec<Door> {
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    vec![
        post_door("/organization/invite-member", post(invite)).limited(limits::INVITE),
        post_door("/organization/cancel-invitation", post(cancel)),
        post_door("/organization/accept-invitation", post(accept)),
        post_door("/organization/reject-invitation", post(reject)),
        get_door("/organization/get-invitation", get(invitation)),
        get_door("/organization/list-invitations", get(list)),
        get_door("/organization/list-user-invitations", get(list_own)),
    ]
}

const INVITING: Words = Words {
    not_a_member: &words::MEMBER_NOT_FOUND,
    not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION,
};

async fn invite(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let email = fields.short_text("email");
    let role = fields.required("role", one_or_more);
    let named = fields.optional_short_text("organizationId");
    let resend = fields.optional_bool("resend").unwrap_or(false);
    let team_ids = fields.optional("teamId", one_or_more);
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::ORGANIZATION_NOT_FOUND)?;
    let teams_on = asking.app().config.teams;
    let team_ids = team_ids.filter(|_| teams_on).unwrap_or_default();
    let roles = role.unwrap_or_default();
    let sent = send(&asking, &id, &email, &roles, team_ids, resend).await?;
    Ok(asking.answer(&shapes::invitation(&sent, teams_on)).await)
}

/// Invites an address.
pub(super) async fn send(
    asking: &Asking<'_>,
    id: &str,
    email: &str,
    roles: &[String],
    team_ids: Vec<String>,
    resend: bool,
) -> Result<InvitationRow, Refusal> {
    let email = EmailAddress::parse(email).map_err(|_| Problem::InvalidEmail)?;
    let member = asking.member(id, INVITING.not_a_member).await?;
    let may_invite = ("invitation", "create");
    asking
        .check(&member, may_invite, INVITING.not_allowed)
        .await?;
    let role = joined(roles).ok_or_else(|| told(&words::ROLE_NOT_FOUND))?;
    if team_ids.iter().any(|id| id.contains(',')) {
        return Err(told(&words::INVALID_TEAM_ID));
    }
    let row = organizations::find(&asking.app().pool, id).await?;
    let row = row.ok_or_else(|| told(INVITING.not_a_member))?;
    let invitation = NewInvitation {
        email,
        role,
        team_ids,
        resend,
    };
    let sent = asking.acting().invite(&row, invitation).await;
    sent.map_err(|failure| match failure {
        // This route says it without a code.
        RunError::Refused(OrganizationError::RoleNotFound(name)) => {
            let uncoded = Stated {
                code: None,
                ..words::copied(&words::ROLE_NOT_FOUND)
            };
            told_more(
                &uncoded,
                json!({"message": format!("ROLE_NOT_FOUND: {name}")}),
            )
        }
        RunError::Refused(OrganizationError::RoleAboveOwn) => {
            told(&words::YOU_ARE_NOT_ALLOWED_TO_INVITE_USER_WITH_THIS_ROLE)
        }
        failure => INVITING.refusal(failure),
    })
}

/// The invitation with this id.
async fn find(
    asking: &Asking<'_>,
    id: &str,
    none: &'static Stated,
) -> Result<InvitationRow, Refusal> {
    let row = invitations::find(&asking.app().pool, id).await?;
    row.ok_or_else(|| told(none))
}

async fn cancel(call: Call) -> Result<Response, Refusal> {
    let (asking, id) = named_invitation(&call).await?;
    let row = find(&asking, &id, &words::INVITATION_NOT_FOUND).await?;
    let command = OrganizationCommand::CancelInvitation {
        actor: asking.acting().actor(),
        invitation_id: id,
        at: asking.app().clock.now(),
    };
    let words = Words {
        not_a_member: &words::MEMBER_NOT_FOUND,
        not_allowed: &words::YOU_ARE_NOT_ALLOWED_TO_CANCEL_THIS_INVITATION,
    };
    let canceled = asking.acting().run(&row.organization_id, command).await;
    canceled.map_err(|failure| words.refusal(failure))?;
    Ok(answered(&asking, row, "canceled", |invitation| invitation).await)
}

async fn named_invitation(call: &Call) -> Result<(Asking<'_>, String), Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.short_text("invitationId");
    fields.done()?;
    Ok((Asking::of(call).await?, id))
}

/// The answer that shows what became of an invitation.
async fn answered(
    asking: &Asking<'_>,
    row: InvitationRow,
    status: &str,
    shape: impl FnOnce(Value) -> Value,
) -> Response {
    let row = InvitationRow {
        status: status.to_owned(),
        ..row
    };
    let shown = shapes::invitation(&row, asking.app().config.teams);
    asking.answer(&shape(shown)).await
}

/// The invitation, if it stands and is for whoever asks.
async fn addressed(
    asking: &Asking<'_>,
    id: &str,
    none: &'static Stated,
    unverified: &'static Stated,
) -> Result<InvitationRow, Refusal> {
    let row = find(asking, id, none).await?;
    if !row.stands(asking.app().clock.now()) {
        return Err(told(none));
    }
    let user = &asking.live.user;
    if row.email != user.email {
        return Err(told(&words::YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION));
    }
    if asking.app().config.organizations_require_verified && !user.email_verified {
        return Err(told(unverified));
    }
    Ok(row)
}

const ANSWERING: Words = Words {
    not_a_member: &words::INVITATION_NOT_FOUND,
    not_allowed: &words::INVITER_IS_NO_LONGER_A_MEMBER_OF_THE_ORGANIZATION,
};

async fn accept(call: Call) -> Result<Response, Refusal> {
    let (asking, id) = named_invitation(&call).await?;
    let (body, has_team) = come_in(&asking, &id).await?;
    Ok(if has_team {
        asking.answer_with_cookie(&body).await
    } else {
        asking.answer(&body).await
    })
}

/// Accepts an invitation, and puts the session into the organization; what is answered, and whether that is a team, too.
pub(super) async fn come_in(asking: &Asking<'_>, id: &str) -> Result<(Value, bool), Refusal> {
    let row = addressed(
        asking,
        id,
        &words::INVITATION_NOT_FOUND,
        &words::EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION,
    )
    .await?;
    let accepted = asking.acting().accept(&row).await;
    let member = accepted.map_err(|failure| ANSWERING.refusal(failure))?;
    let organization_id = row.organization_id.as_str();
    let only_team = asking.app().config.teams.then(|| {
        let mut teams = row.teams();
        teams.next().filter(|_| teams.next().is_none())
    });
    let only_team = only_team.flatten();
    asking.go_to(Some(organization_id), only_team).await?;
    let has_team = only_team.is_some();
    let row = InvitationRow {
        status: "accepted".to_owned(),
        ..row.clone()
    };
    let body = json!({
        "invitation": shapes::invitation(&row, asking.app().config.teams),
        "member": shapes::member(&member),
    });
    Ok((body, has_team))
}

async fn reject(call: Call) -> Result<Response, Refusal> {
    let (asking, id) = named_invitation(&call).await?;
    let none = &words::NO_INVITATION_TO_REJECT;
    let row = addressed(
        &asking,
        &id,
        none,
        &words::EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION,
    )
    .await?;
    let rejected = asking.acting().reject(&row).await;
    rejected.map_err(|failure| match failure {
        RunError::Refused(OrganizationError::InvitationNotFound) => told(none),
        failure => ANSWERING.refusal(failure),
    })?;
    let shape = |invitation| json!({"invitation": invitation, "member": null});
    Ok(answered(&asking, row, "rejected", shape).await)
}

async fn invitation(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let id = fields.short_text("id");
    fields.done()?;
    let nobody = Problem::Stated(&words::NOT_AUTHENTICATED, None);
    let asking = Asking::or(&call, nobody).await?;
    let row = addressed(
        &asking,
        &id,
        &words::INVITATION_NOT_FOUND,
        &words::EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION,
    )
    .await?;
    let pool = &asking.app().pool;
    let (organization, inviter, person) = tokio::try_join!(
        organizations::find(pool, &row.organization_id),
        members::of(pool, &row.organization_id, &row.inviter_id),
        users::find(pool, &row.inviter_id),
    )?;
    let organization = organization.ok_or_else(|| told(&words::ORGANIZATION_NOT_FOUND))?;
    let (Some(_), Some(person)) = (inviter, person) else {
        return Err(told(ANSWERING.not_allowed));
    };
    let mut shown = shapes::invitation(&row, asking.app().config.teams);
    shown["organizationName"] = json!(organization.name);
    shown["organizationSlug"] = json!(organization.slug);
    shown["inviterEmail"] = json!(person.email);
    Ok(asking.answer(&shown).await)
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let named = fields.optional_short_text("organizationId");
    fields.done()?;
    let asking = Asking::of(&call).await?;
    let id = asking.organization_id(named, &words::ORGANIZATION_ID_REQUIRED)?;
    let member = asking.member(&id, &words::NOT_A_MEMBER_UNCODED).await?;
    let may_list = ("invitation", "create");
    asking
        .check(
            &member,
            may_list,
            &words::YOU_ARE_NOT_ALLOWED_TO_LIST_INVITATIONS,
        )
        .await?;
    let rows = invitations::of_organization(&asking.app().pool, &id).await?;
    let teams_on = asking.app().config.teams;
    let shown = rows.iter().map(|row| shapes::invitation(row, teams_on));
    Ok(asking.answer(&shown.collect::<Vec<_>>()).await)
}

async fn list_own(call: Call) -> Result<Response, Refusal> {
    let fields = Fields::of_query(call.query.as_deref());
    let nobody = Problem::Stated(&words::NO_SESSION_FOR_INVITATIONS, None);
    if fields.has("email") {
        return Err(told(&words::EMAIL_NOT_FOR_CLIENTS));
    }
    let asking = Asking::or(&call, nobody).await?;
    let user = &asking.live.user;
    if !user.email_verified {
        return Err(told(&words::EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION));
    }
    let app = asking.app();
    let rows = invitations::of_email(&app.pool, &user.email, app.clock.now()).await?;
    let shown = rows.iter().map(|addressed| {
        let mut shown = shapes::invitation(&addressed.invitation, app.config.teams);
        shown["organizationName"] = json!(addressed.organization_name);
        shown
    });
    Ok(asking.answer(&shown.collect::<Vec<_>>()).await)
}
