//! Whose a call is: what it shows of a session, whether its door lets that in, and how long the session lasts.

use std::sync::Arc;

use aggregates::Roles;
use axum::extract::MatchedPath;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::TimeDelta;
use percent_encoding::percent_decode_str;
use projections::devices;
use projections::sessions::SessionRow;
use serde_json::Value;

use super::answers::{Refusal, with_session, without_session_cookies};
use super::error::{Problem, Stated};
use super::request::Fields;
use super::web::Call;
use crate::accounts;
use crate::crypto::jwt::JwtError;
use crate::sessions::Live;
use crate::{guard, step_up};

static NOT_WHILE_IMPERSONATING: Stated = Stated {
    status: StatusCode::FORBIDDEN,
    code: Some("NOT_WHILE_IMPERSONATING"),
    message: "You cannot do this while you impersonate somebody",
};

/// From where a session is read.
#[derive(Clone, Copy)]
enum Source {
    Storage,
    /// This node's memory, which is up to a second old.
    Memory,
}

/// A session is fresh for this long after its beginning.
const FRESH_FOR: TimeDelta = TimeDelta::days(1);

/// What a request shows of a session.
pub enum Presented {
    /// Nothing, or nothing that we signed.
    Nothing,
    /// A token that we may have given out, of a session that is over.
    Over,
    /// A live session.
    Live(Session),
}

/// A live session in a request.
#[derive(Clone)]
pub struct Session {
    /// As it stands.
    pub live: Arc<Live>,
    /// The token that showed it.
    pub token: String,
}

/// Somebody who showed a live session, by whatever means.
pub struct Person {
    /// The session, as it stands.
    pub live: Arc<Live>,
    /// The session's token; none if an access token showed it.
    pub token: Option<String>,
}

impl Call {
    /// The session that the request shows.
    ///
    /// # Errors
    /// When the database has to be asked and does not answer.
    pub async fn session(&self) -> Result<Presented, Problem> {
        let Some(token) = self.token() else {
            return Ok(Presented::Nothing);
        };
        let now = self.app().clock.now();
        let found = self.app().sessions.find(&token, now).await?;
        self.presented(found, token).await
    }

    /// The same, read from storage: for what an admin does (I-9).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stored_session(&self) -> Result<Presented, Problem> {
        let Some(token) = self.token() else {
            return Ok(Presented::Nothing);
        };
        let now = self.app().clock.now();
        let found = self.app().sessions.find_stored(&token, now).await?;
        self.presented(found, token).await
    }

    async fn presented(
        &self,
        found: Option<Arc<Live>>,
        token: String,
    ) -> Result<Presented, Problem> {
        Ok(match found {
            Some(live) => {
                self.admit(&live).await?;
                Presented::Live(Session { live, token })
            }
            None => Presented::Over,
        })
    }

    /// Lets a session through this door: that of an admin who acts as somebody through those that are open to them (S-66),
    /// and through those that ask for a step-up only whoever has shown lately who they are (S-60).
    ///
    /// # Errors
    /// If it stays shut.
    pub async fn admit(&self, live: &Live) -> Result<(), Problem> {
        let path = self.path.as_ref().map_or("", MatchedPath::as_str);
        let limits = &self.web.limits;
        if live.session.impersonated_by.is_some()
            && !limits.admits_impersonation(&self.method, path)
        {
            return Err(Problem::Stated(&NOT_WHILE_IMPERSONATING, None));
        }
        if limits.asks_for_step_up(&self.method, path) {
            // Rare on the hottest routes, whose work stays small without it.
            Box::pin(self.step_up(live)).await?;
        }
        Ok(())
    }

    /// Asks for a proof that is a few minutes old, where the service is configured to.
    ///
    /// # Errors
    /// If there is none; it says by what one is made.
    pub async fn step_up(&self, live: &Live) -> Result<(), Problem> {
        let app = self.app();
        if !app.config.step_up {
            return Ok(());
        }
        // Never from the cache (I-9): another node may have ended the session, or seen a factor, a moment ago.
        let id = &live.session.id;
        let stored = app.sessions.find_by_id(id, app.clock.now()).await?;
        let live = stored.ok_or(Problem::Unauthorized)?;
        match step_up::missing(app, &live) {
            None => Ok(()),
            Some(factor) => Err(Problem::StepUpRequired {
                methods: step_up::methods(app, &live, factor).await?,
            }),
        }
    }

    /// Asks for such a proof where the person has not signed in lately from where the request comes: their session may
    /// have been taken along (S-60).
    ///
    /// # Errors
    /// If there is none.
    pub async fn step_up_on_unknown_device(&self, live: &Live) -> Result<(), Problem> {
        let app = self.app();
        if !app.config.step_up {
            return Ok(());
        }
        let since = app.clock.now() - guard::KNOWN_FOR;
        if let Some(device) = devices::id(&live.user.id, &self.caller.client)
            && devices::is_known(&app.pool, &device, since).await?
        {
            return Ok(());
        }
        self.step_up(live).await
    }

    /// The live session behind the request, or whatever clients know when there is none.
    ///
    /// # Errors
    /// Without a session; the cookies of one that is over are cleared.
    pub async fn required_session(&self) -> Result<Session, Refusal> {
        match self.session().await? {
            Presented::Live(session) => Ok(session),
            Presented::Nothing => Err(Problem::Unauthorized.into()),
            Presented::Over => Err(Refusal::answer(without_session_cookies(
                Problem::Unauthorized.into_response(),
                self,
            ))),
        }
    }

    /// The same for a route that asks for a session that began less than a day ago.
    ///
    /// # Errors
    /// Without a session, or with one that is older.
    pub async fn fresh_session(&self) -> Result<Session, Refusal> {
        let session = self.required_session().await?;
        if self.is_fresh(&session.live.session) {
            Ok(session)
        } else {
            Err(Problem::SessionNotFresh.into())
        }
    }

    /// Who the request shows: by the session's cookie or token, else by an access token of a session that is still
    /// live (S-31).
    ///
    /// # Errors
    /// When the database has to be asked and does not answer.
    pub async fn person(&self) -> Result<Option<Person>, Problem> {
        if let Presented::Live(Session { live, token }) = self.session().await? {
            return Ok(Some(Person {
                live,
                token: Some(token),
            }));
        }
        match self.of_access_token().await? {
            Some(Ok(live)) => Ok(Some(Person { live, token: None })),
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// The same, for routes that need somebody.
    ///
    /// # Errors
    /// If it shows nobody.
    pub async fn required_person(&self) -> Result<Person, Problem> {
        self.person().await?.ok_or(Problem::NoSession)
    }

    /// An admin, by an access token. Role and session are looked up, not read from the token.
    ///
    /// # Errors
    /// If it is somebody else, or nobody.
    pub async fn required_admin(&self) -> Result<Arc<Live>, Problem> {
        let live = self.required_bearer().await?;
        if live.user.has_role(Roles::admin().as_str()) {
            Ok(live)
        } else {
            Err(Problem::AdminOnly)
        }
    }

    /// An admin, or an auditor, who may read what everybody did and change nothing; by an access token.
    ///
    /// # Errors
    /// If it is somebody else, or nobody.
    pub async fn required_auditor(&self) -> Result<Arc<Live>, Problem> {
        let live = self.required_bearer().await?;
        let may_read = [Roles::admin(), Roles::auditor()]
            .iter()
            .any(|role| live.user.has_role(role.as_str()));
        if may_read {
            Ok(live)
        } else {
            Err(Problem::AdminOnly)
        }
    }

    /// Somebody, by an access token whose session is still live (S-31).
    ///
    /// # Errors
    /// If it shows nobody.
    pub async fn required_bearer(&self) -> Result<Arc<Live>, Problem> {
        self.of_access_token()
            .await?
            .ok_or(Problem::BearerMissing)?
    }

    /// Somebody, by an access token or a session's token as bearer, else by the session's cookie; always as storage has
    /// it (I-9). Whether the door is open to whoever acts as them is the caller's to ask: see [`Self::admit`].
    ///
    /// # Errors
    /// If it shows nobody, or a page that is not trusted sent the cookie.
    pub async fn required_stored_person(&self) -> Result<Arc<Live>, Problem> {
        self.shown_person(Source::Storage).await
    }

    /// The same, as this node remembers it: for what is done only if the session still lives when it is written down
    /// ([`Context::while_it_lives`](crate::store::Context::while_it_lives)).
    ///
    /// # Errors
    /// As there.
    pub async fn required_remembered_person(&self) -> Result<Arc<Live>, Problem> {
        self.shown_person(Source::Memory).await
    }

    async fn shown_person(&self, source: Source) -> Result<Arc<Live>, Problem> {
        let (sessions, now) = (&self.app().sessions, self.app().clock.now());
        let find = async |token: &str| match source {
            Source::Storage => sessions.find_stored(token, now).await,
            Source::Memory => sessions.find(token, now).await,
        };
        if self.bearer_text().is_none() {
            self.check_page()?;
            self.web.trusted.check_cross_site(&self.headers)?;
            let token = self.cookie("session_token").ok_or(Problem::BearerMissing)?;
            let live = find(&token).await?;
            return live.ok_or(Problem::BearerMissing);
        }
        if let Some(token) = self.bearer()
            && let Some(live) = find(&token).await?
        {
            return Ok(live);
        }
        self.shown_by_access_token(source)
            .await?
            .ok_or(Problem::BearerMissing)?
    }

    /// The live session of an access token in the request, or why it is none.
    async fn of_access_token(&self) -> Result<Option<Result<Arc<Live>, Problem>>, Problem> {
        let shown = self.shown_by_access_token(Source::Storage).await?;
        if let Some(Ok(live)) = &shown {
            self.admit(live).await?;
        }
        Ok(shown)
    }

    async fn shown_by_access_token(
        &self,
        source: Source,
    ) -> Result<Option<Result<Arc<Live>, Problem>>, Problem> {
        let Some(token) = self.bearer_text() else {
            return Ok(None);
        };
        let app = self.app();
        let (issuer, audience) = (&app.config.jwt_issuer, &app.config.jwt_audience);
        let claims = match app.signing.verify(token, issuer, audience).await? {
            Ok(claims) => claims,
            Err(error) => {
                let expired = error == JwtError::Expired;
                return Ok(Some(Err(Problem::BearerInvalid { expired })));
            }
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let (sid, now) = (text("sid"), app.clock.now());
        let live = match source {
            Source::Storage => app.sessions.find_by_id(sid, now).await?,
            Source::Memory => app.sessions.find_by_id_lately(sid, now).await?,
        };
        let live = live.filter(|live| live.user.id == text("sub"));
        Ok(Some(live.ok_or(Problem::BearerInvalid { expired: false })))
    }

    /// Whether a session began less than a day ago (contract 7), or a step-up was made in it since then.
    pub fn is_fresh(&self, session: &SessionRow) -> bool {
        let shown_at = session.first_factor_at.max(Some(session.created_at));
        shown_at.is_some_and(|at| self.app().clock.now() - at < FRESH_FOR)
    }

    /// Makes a used session last longer when it is time; the new row if it does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn extend(&self, session: &Session) -> Result<Option<SessionRow>, Problem> {
        // First what rules out nearly every request and costs nothing.
        if !accounts::is_due_for_extension(self.app(), &session.live.session) {
            return Ok(None);
        }
        let off = Fields::of_query(self.query.as_deref())
            .raw("disableRefresh")
            .is_some_and(|value| value == "true");
        if off || self.is_brief() {
            return Ok(None);
        }
        let extended = accounts::extend_session(self.app(), &session.live.session, &self.caller);
        Ok(Box::pin(extended).await?)
    }

    /// Makes the session of a request that was carried out last longer when it is time; whether it does. A failure was
    /// logged when it became a problem, and is left to the next use: what was asked for is done.
    pub async fn prolong(&self, session: &Session) -> bool {
        matches!(self.extend(session).await, Ok(Some(_)))
    }

    /// The same, with the session's cookie in the answer again if it does.
    pub async fn prolonged(&self, response: Response, session: &Session) -> Response {
        if self.prolong(session).await {
            with_session(response, self, &session.token, true)
        } else {
            response
        }
    }

    /// The session token that the request shows: a bearer's, else the cookie's.
    fn token(&self) -> Option<String> {
        self.bearer().or_else(|| self.cookie("session_token"))
    }

    /// `Authorization: Bearer x`: with a dot the signed value, encoded or not, without one the bare token.
    fn bearer(&self) -> Option<String> {
        let value = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return None;
        }
        if token.contains('.') {
            self.app().cookies.verify(token)
        } else {
            Some(percent_decode_str(token).decode_utf8().ok()?.into_owned())
        }
    }

    /// A text behind `Authorization: Bearer `, as it stands.
    pub fn bearer_text(&self) -> Option<&str> {
        self.headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")
    }
}
