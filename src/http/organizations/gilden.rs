//! `/api/v1/gilden`: organizations as the apps' own clients know them. Behind an access token; what is done is what the
//! routes of the official client do, by the same rules.
//!
//! | method | path | |
//! |---|---|---|
//! | POST, GET | `` | make one; one's own |
//! | GET, PUT, DELETE | `/{id}` | one of them with all that belongs to it; change it; close it |
//! | POST | `/{id}/invite`, `/accept-invitation` | ask somebody in; come in |
//! | DELETE | `/{id}/members/{member_id}` | take a member out |
//! | PUT | `/{id}/members/{member_id}/role` | give a member another role |

use axum::Json;
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use serde_json::{Value, json};

use super::asking::Asking;
use super::words::{self, told};
use super::{invitations, joined, json_text, members, shapes};
use crate::http::answers::Refusal;
use crate::http::doors::Door;
use crate::http::limits;
use crate::http::request::{BodyTypes, Fields};
use crate::http::web::Call;
use crate::organizations::Shown;

/// What somebody is asked in as when nobody says.
const MEMBER: &str = "member";

/// The doors.
pub fn doors() -> Vec<Door> {
    vec![
        Door::open(Method::POST, "", post(create)),
        Door::open(Method::GET, "", get(list)),
        Door::open(Method::POST, "/accept-invitation", post(accept)),
        Door::open(Method::GET, "/{id}", get(full)),
        Door::open(Method::PUT, "/{id}", put(update)),
        Door::open(Method::DELETE, "/{id}", delete(close)),
        Door::open(Method::POST, "/{id}/invite", post(invite)).limited(limits::INVITE),
        Door::open(
            Method::DELETE,
            "/{id}/members/{member_id}",
            delete(remove_member),
        ),
        Door::open(
            Method::PUT,
            "/{id}/members/{member_id}/role",
            put(update_role),
        ),
    ]
}

/// An id of the address. None holds a NUL, and the database knows none.
fn known(id: String) -> String {
    if id.contains('\0') { String::new() } else { id }
}

/// Whoever asks, and the fields of their body.
async fn read(call: &Call) -> Result<(Asking<'_>, Fields), Refusal> {
    let asking = Asking::by_access_token(call).await?;
    Ok((asking, call.fields(BodyTypes::Json, false)?))
}

fn success() -> Response {
    Json(json!({"success": true})).into_response()
}

/// The pool of credits is the credits service's, which begins it with nothing.
async fn create(call: Call) -> Result<Response, Refusal> {
    let (asking, mut fields) = read(&call).await?;
    let shown = Shown {
        name: fields.filled_text("name"),
        slug: fields.filled_text("slug"),
        logo: fields.removable_text("logo").flatten(),
        metadata: None,
    };
    for kept in ["name", "slug", "logo"] {
        fields.check_kept(kept);
    }
    fields.done()?;
    let guild = super::make(&asking, shown, false, true).await?;
    let text = format!(r#"{{"gilde":{guild},"pool":{{"balance":0}}}}"#);
    Ok((StatusCode::CREATED, json_text(text)).into_response())
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let asking = Asking::by_access_token(&call).await?;
    Ok(asking.answer(&super::own(&asking).await?).await)
}

async fn full(Path(id): Path<String>, call: Call) -> Result<Response, Refusal> {
    let asking = Asking::by_access_token(&call).await?;
    let shown = super::everything(&asking, &known(id), None).await?;
    Ok(json_text(shown))
}

async fn update(Path(id): Path<String>, call: Call) -> Result<Response, Refusal> {
    let (asking, mut fields) = read(&call).await?;
    let update = super::read_update(&call, &mut fields, false);
    fields.done()?;
    let text = super::change(&asking, &known(id), update).await?;
    Ok(json_text(text))
}

async fn close(Path(id): Path<String>, call: Call) -> Result<Response, Refusal> {
    let asking = Asking::by_access_token(&call).await?;
    super::close(&asking, &known(id)).await?;
    Ok(success())
}

async fn invite(Path(id): Path<String>, call: Call) -> Result<Response, Refusal> {
    let (asking, mut fields) = read(&call).await?;
    let email = fields.short_text("email");
    let role = fields.optional_short_text("role");
    fields.done()?;
    let role = role.unwrap_or_else(|| MEMBER.to_owned());
    let sent = invitations::send(&asking, &known(id), &email, &[role], vec![], false).await?;
    let teams_on = asking.app().config.teams;
    Ok(asking.answer(&shapes::invitation(&sent, teams_on)).await)
}

async fn accept(call: Call) -> Result<Response, Refusal> {
    let (asking, mut fields) = read(&call).await?;
    let id = fields.short_text("invitationId");
    fields.done()?;
    let (body, _) = invitations::come_in(&asking, &id).await?;
    Ok(asking.answer(&body).await)
}

async fn remove_member(
    Path((id, member_id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Refusal> {
    let asking = Asking::by_access_token(&call).await?;
    let is_meant = |person: &projections::members::Person| person.member.id == member_id;
    members::take_out(&asking, &known(id), is_meant).await?;
    Ok(success())
}

async fn update_role(
    Path((id, member_id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Refusal> {
    let (asking, mut fields) = read(&call).await?;
    let role = fields.short_text("role");
    fields.done()?;
    let role = joined(&[role]).ok_or_else(|| told(&words::ROLE_NOT_FOUND))?;
    let member: Value = members::give_role(&asking, &known(id), &member_id, role).await?;
    Ok(asking.answer(&member).await)
}
