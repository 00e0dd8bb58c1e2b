//! Whoever asks, and for which organization. The person is always the session's (S-62); an organization that a request
//! names is one that they have to belong to.

use aggregates::organization::permissions::{self, Permissions};
use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use projections::members::{self, MemberRow};
use projections::organization_roles;
use projections::organizations::{self as read, OrganizationRow};
use serde::Serialize;

use super::words::{NOT_A_MEMBER_FORBIDDEN, ORGANIZATION_NOT_FOUND, told};
use crate::app::App;
use crate::http::answers::{Refusal, as_json, with_session, without_session_cookies};
use crate::http::error::{Problem, Stated};
use crate::http::request::Fields;
use crate::http::sessions::{Presented, Session};
use crate::http::web::Call;
use crate::organizations::{self, Acting};
use crate::sessions::Live;

/// Somebody with a session, in a request.
pub struct Asking<'a> {
    /// The request.
    pub call: &'a Call,
    /// Their session, as it stands.
    pub live: Arc<Live>,
    /// The session's token; none if an access token showed it.
    token: Option<String>,
}

/// The organization that a request names: by id, by slug, or not at all.
pub struct Named {
    id: Option<String>,
    slug: Option<String>,
}

impl Named {
    /// Of a query.
    pub fn read(fields: &mut Fields) -> Self {
        let mut named = |name| {
            fields
                .optional_short_text(name)
                .filter(|text| !text.is_empty())
        };
        Self {
            id: named("organizationId"),
            slug: named("organizationSlug"),
        }
    }
}

impl<'a> Asking<'a> {
    /// With the answer to requests without a session that most routes have.
    ///
    /// # Errors
    /// Without a session.
    pub async fn of(call: &'a Call) -> Result<Self, Refusal> {
        Self::or(call, Problem::Unauthorized).await
    }

    /// With another answer to requests without a session.
    ///
    /// # Errors
    /// Without a session.
    pub async fn or(call: &'a Call, refusal: Problem) -> Result<Self, Refusal> {
        Self::or_response(call, || refusal.into_response()).await
    }

    /// With an empty answer to requests without a session.
    ///
    /// # Errors
    /// Without a session.
    pub async fn or_nothing(call: &'a Call) -> Result<Self, Refusal> {
        Self::or_response(call, || as_json(StatusCode::UNAUTHORIZED.into_response())).await
    }

    async fn or_response(
        call: &'a Call,
        refusal: impl FnOnce() -> Response,
    ) -> Result<Self, Refusal> {
        match call.session().await? {
            Presented::Live(Session { live, token }) => Ok(Self {
                call,
                live,
                token: Some(token),
            }),
            Presented::Nothing => Err(Refusal::answer(refusal())),
            Presented::Over => {
                let response = without_session_cookies(refusal(), call);
                Err(Refusal::answer(response))
            }
        }
    }

    /// By an access token.
    ///
    /// # Errors
    /// If it shows nobody.
    pub async fn by_access_token(call: &'a Call) -> Result<Self, Refusal> {
        Ok(Self {
            call,
            live: call.required_bearer().await?,
            token: None,
        })
    }

    /// The service.
    pub fn app(&self) -> &'a App {
        self.call.app()
    }

    /// Whoever asks, as somebody who acts.
    pub fn acting(&self) -> Acting<'_> {
        Acting {
            app: self.app(),
            live: &self.live,
            caller: &self.call.caller,
        }
    }

    /// Id of the person.
    pub fn user_id(&self) -> &str {
        &self.live.user.id
    }

    /// The organization that the session is in.
    pub fn active(&self) -> Option<&str> {
        self.live.session.active_organization_id.as_deref()
    }

    /// The team that the session is in.
    pub fn active_team(&self) -> Option<&str> {
        self.live.session.active_team_id.as_deref()
    }

    /// The organization that a body names, else the one that the session is in.
    ///
    /// # Errors
    /// In the given words, if there is neither.
    pub fn organization_id(
        &self,
        named: Option<String>,
        none: &'static Stated,
    ) -> Result<String, Refusal> {
        named
            .filter(|id| !id.is_empty())
            .or_else(|| self.active().map(str::to_owned))
            .ok_or_else(|| told(none))
    }

    /// The same where it may be named by its slug.
    ///
    /// # Errors
    /// If nothing has the slug, or the database does not answer.
    pub async fn named_id(&self, named: Named) -> Result<Option<String>, Refusal> {
        if let Some(slug) = named.slug {
            let id = organizations::id_of_slug(self.app(), &slug).await?;
            return id.map(Some).ok_or_else(|| told(&ORGANIZATION_NOT_FOUND));
        }
        Ok(named.id.or_else(|| self.active().map(str::to_owned)))
    }

    /// An organization that the person belongs to, and as what.
    ///
    /// # Errors
    /// If there is no such organization, or they do not belong to it.
    pub async fn entered(&self, id: &str) -> Result<(OrganizationRow, MemberRow), Refusal> {
        let pool = &self.app().pool;
        let found = read::entered(pool, id, self.user_id()).await?;
        let (row, member) = found.ok_or_else(|| told(&ORGANIZATION_NOT_FOUND))?;
        let member = member.ok_or_else(|| told(&NOT_A_MEMBER_FORBIDDEN))?;
        Ok((row, member))
    }

    /// The person's membership in an organization.
    ///
    /// # Errors
    /// In the given words, if they do not belong to it.
    pub async fn member(
        &self,
        organization_id: &str,
        stranger: &'static Stated,
    ) -> Result<MemberRow, Refusal> {
        let member = members::of(&self.app().pool, organization_id, self.user_id()).await?;
        member.ok_or_else(|| told(stranger))
    }

    /// Whether one of a member's roles allows everything that is asked for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn allows(&self, member: &MemberRow, asked: &Permissions) -> Result<bool, Refusal> {
        let predefined = permissions::roles(&member.role).all(permissions::is_predefined);
        let custom = if predefined {
            vec![]
        } else {
            organization_roles::of_organization(&self.app().pool, &member.organization_id).await?
        };
        let of = |name: &str| {
            let found = custom.iter().find(|role| role.name == name);
            found.map(|role| &role.permission.0)
        };
        Ok(permissions::allows(&member.role, of, asked))
    }

    /// The same for a single action.
    ///
    /// # Errors
    /// In the given words, if it is not allowed.
    pub async fn check(
        &self,
        member: &MemberRow,
        (resource, action): (&str, &str),
        not_allowed: &'static Stated,
    ) -> Result<(), Refusal> {
        let asked = [(resource.to_owned(), vec![action.to_owned()])].into();
        if self.allows(member, &asked).await? {
            Ok(())
        } else {
            Err(told(not_allowed))
        }
    }

    /// A good answer; the session lasts longer when it is time.
    pub async fn answer(&self, body: &impl Serialize) -> Response {
        self.answered(Json(body).into_response()).await
    }

    /// The same for one that is written already.
    pub async fn answered(&self, response: Response) -> Response {
        match self.session() {
            Some(session) => self.call.prolonged(response, &session).await,
            None => response,
        }
    }

    fn session(&self) -> Option<Session> {
        let live = self.live.clone();
        let token = self.token.clone()?;
        Some(Session { live, token })
    }

    /// A good answer with the session's cookie in it.
    pub async fn answer_with_cookie(&self, body: &impl Serialize) -> Response {
        let response = Json(body).into_response();
        let Some(session) = self.session() else {
            return response;
        };
        self.call.prolong(&session).await;
        let remembered = self.live.session.remembered;
        with_session(response, self.call, &session.token, remembered)
    }

    /// Puts the session into an organization and one of its teams, or into none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn go_to(
        &self,
        organization_id: Option<&str>,
        team_id: Option<&str>,
    ) -> Result<(), Refusal> {
        Ok(self.acting().go_to(organization_id, team_id).await?)
    }
}
