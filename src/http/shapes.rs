//! People and sessions as clients see them.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use projections::sessions::SessionRow;
use projections::users::UserRow;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::sessions::Session;
use super::web::Call;

/// A time as clients know it: UTC with milliseconds.
pub fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same in a field of a shape.
///
/// # Errors
/// If the serializer has one.
pub fn as_iso<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&iso(*time))
}

fn as_optional_iso<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(iso).serialize(serializer)
}

/// A person as clients see them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserJson<'a> {
    name: &'a str,
    email: &'a str,
    email_verified: bool,
    image: Option<&'a str>,
    #[serde(serialize_with = "as_iso")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "as_iso")]
    updated_at: DateTime<Utc>,
    two_factor_enabled: bool,
    role: &'a str,
    banned: bool,
    ban_reason: Option<&'a str>,
    #[serde(serialize_with = "as_optional_iso")]
    ban_expires: Option<DateTime<Utc>>,
    access_tier: &'a str,
    locale: Option<&'a str>,
    id: &'a str,
}

/// A person as clients see them.
pub fn user_json(user: &UserRow) -> UserJson<'_> {
    UserJson {
        name: &user.name,
        email: &user.email,
        email_verified: user.email_verified,
        image: user.image.as_deref(),
        created_at: user.created_at,
        updated_at: user.updated_at,
        two_factor_enabled: user.two_factor_enabled,
        role: &user.role,
        banned: user.banned,
        ban_reason: user.ban_reason.as_deref(),
        ban_expires: user.ban_expires,
        access_tier: &user.tier,
        locale: user.locale.as_deref(),
        id: &user.id,
    }
}

impl Call {
    /// A session as clients see it: `token` is real for the one that asks, a handle for the others of a list.
    pub fn session_json<'a>(&self, session: &'a SessionRow, token: &'a str) -> SessionJson<'a> {
        let has_teams = self.app().config.teams;
        SessionJson {
            expires_at: session.expires_at,
            token,
            created_at: session.created_at,
            updated_at: session.updated_at,
            ip_address: &session.ip_address,
            user_agent: &session.user_agent,
            user_id: &session.user_id,
            active_organization_id: session.active_organization_id.as_deref(),
            active_team_id: has_teams.then_some(session.active_team_id.as_deref()),
            impersonated_by: session.impersonated_by.as_deref(),
            id: &session.id,
        }
    }

    /// A session as its own client sees it, with its person.
    pub fn session_and_user<'a>(
        &self,
        session: &'a SessionRow,
        token: &'a str,
        user: &'a UserRow,
    ) -> SessionAndUser<'a> {
        SessionAndUser {
            session: self.session_json(session, token),
            user: user_json(user),
        }
    }

    /// The answer to "who am I": the session as its own client sees it, with its person. It is the hottest
    /// one, so everything but the token is written only once for as long as the session is remembered.
    pub fn who_am_i(&self, session: &Session, extended: Option<&SessionRow>) -> Response {
        let Session { live, token } = session;
        let written;
        let (before, after) = match extended {
            None => live.shown(|| self.around_token(&live.session, &live.user)),
            Some(row) => {
                written = self.around_token(row, &live.user);
                &written
            }
        };
        let token = Value::from(token.as_str()).to_string();
        let mut response = Response::new(Body::from([before, token.as_str(), after].concat()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }

    /// The JSON of a session and its person before and after the session's token.
    fn around_token(&self, session: &SessionRow, user: &UserRow) -> (String, String) {
        let json = serde_json::to_string(&self.session_and_user(session, "", user))
            .expect("texts and times have a JSON form");
        // Only a time stands before it.
        let (before, after) = json
            .split_once(r#""token":"""#)
            .expect("the token is a field");
        (format!(r#"{before}"token":"#), after.to_owned())
    }
}

/// A session as its own client sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionJson<'a> {
    #[serde(serialize_with = "as_iso")]
    expires_at: DateTime<Utc>,
    token: &'a str,
    #[serde(serialize_with = "as_iso")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "as_iso")]
    updated_at: DateTime<Utc>,
    ip_address: &'a str,
    user_agent: &'a str,
    user_id: &'a str,
    active_organization_id: Option<&'a str>,
    /// Where there are no teams, clients know of no such field.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_team_id: Option<Option<&'a str>>,
    impersonated_by: Option<&'a str>,
    id: &'a str,
}

/// A session and its person.
#[derive(Serialize)]
pub struct SessionAndUser<'a> {
    session: SessionJson<'a>,
    user: UserJson<'a>,
}
