//! What every handler of the API works with: the service, its cookies and trusted origins, and the call
//! that it answers.

use std::net::IpAddr;
use std::sync::Arc;

use aggregates::Roles;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use percent_encoding::percent_decode_str;
use projections::sessions::SessionRow;
use projections::users::UserRow;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::client::{self, RequestId};
use super::cookies::Cookies;
use super::doors::Limits;
use super::error::{Problem, Stated};
use super::limits::Brakes;
use super::origin::Trusted;
use super::request::{BodyTypes, Fields, read_body};
use crate::accounts::{self, Caller};
use crate::app::App;
use crate::crypto::jwt::JwtError;
use crate::sessions::Live;
use crate::step_up;
use crate::store::idempotency::{Fingerprint, Known, Outcome};

/// Fields of a body that say where a request may lead.
const REDIRECT_FIELDS: [&str; 4] = [
    "callbackURL",
    "redirectTo",
    "errorCallbackURL",
    "newUserCallbackURL",
];

static NOT_WHILE_IMPERSONATING: Stated = Stated {
    status: StatusCode::FORBIDDEN,
    code: Some("NOT_WHILE_IMPERSONATING"),
    message: "You cannot do this while you impersonate somebody",
};

/// A session is fresh for this long after its beginning.
const FRESH_FOR: TimeDelta = TimeDelta::days(1);
/// A request's body has this long to arrive.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// The state of all handlers.
pub struct Web {
    /// The service.
    pub app: Arc<App>,
    /// Names and attributes of cookies.
    pub cookies: Cookies,
    /// Pages that may call, and places where a call may lead.
    pub trusted: Trusted,
    /// Whether clients reach the service over TLS.
    pub over_https: bool,
    limits: Limits,
    brakes: Brakes,
}

impl Web {
    /// For a service.
    pub fn new(app: Arc<App>) -> Self {
        let cookies = Cookies::new(&app.config);
        let trusted = Trusted::new(app.config.trusted_origins.iter().map(String::as_str));
        Self {
            over_https: app.config.secure_cookies(),
            app,
            cookies,
            trusted,
            limits: Limits::of_all_doors(),
            brakes: Brakes::default(),
        }
    }
}

impl Web {
    /// Counts a request by the limit of its door, before anything of it is looked at.
    async fn count(
        &self,
        method: &Method,
        path: Option<&MatchedPath>,
        address: Option<IpAddr>,
    ) -> Result<(), Problem> {
        let found = path.and_then(|path| self.limits.find(method, path.as_str()));
        match found {
            Some((_, Some(limit))) => limit.take(&self.app, address).await,
            Some((path, None)) if self.app.config.rate_limit => self.brakes.take(path, address),
            Some((_, None)) | None => Ok(()),
        }
    }
}

/// One request, read as far as every handler needs it.
pub struct Call {
    /// The state.
    pub web: Arc<Web>,
    /// Of the request.
    pub method: Method,
    /// Of the request.
    pub headers: HeaderMap,
    /// Of the route.
    path: Option<MatchedPath>,
    /// Behind the question mark.
    pub query: Option<String>,
    /// Of the client, if it is known.
    pub address: Option<IpAddr>,
    /// Who asks.
    pub caller: Caller,
    /// The body.
    pub bytes: Bytes,
}

impl FromRequest<Arc<Web>> for Call {
    type Rejection = Problem;

    async fn from_request(mut request: Request, web: &Arc<Web>) -> Result<Self, Problem> {
        let method = request.method().clone();
        let query = request.uri().query().map(str::to_owned);
        let address = client::address(
            request.headers(),
            request.extensions(),
            &web.app.config.trusted_proxies,
        );
        let path = request.extensions().get::<MatchedPath>().cloned();
        web.count(&method, path.as_ref(), address).await?;
        let request_id = request
            .extensions()
            .get::<RequestId>()
            .cloned()
            .unwrap_or_else(|| RequestId::of(request.headers()));
        let headers = std::mem::take(request.headers_mut());
        let caller = client::caller(&headers, address, &request_id);
        let bytes = if request.body().is_end_stream() {
            Bytes::new()
        } else {
            // Rare on the hottest routes, whose work stays small without it.
            Box::pin(body(request, web)).await?
        };
        Ok(Self {
            web: web.clone(),
            method,
            path,
            headers,
            query,
            address,
            caller,
            bytes,
        })
    }
}

async fn body(request: Request, web: &Arc<Web>) -> Result<Bytes, Problem> {
    // Whoever announces a body and does not send it must not hold a connection for ever.
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, web));
    body.await
        .map_err(|_| Problem::BodyTooSlow)?
        .map_err(|rejection| match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::PayloadTooLarge,
            _ => Problem::InvalidJson,
        })
}

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
    /// The service.
    pub fn app(&self) -> &App {
        &self.web.app
    }

    /// Reads the body in the order of checks that clients know: its type and JSON, then the page that
    /// sent it, then where it wants to lead. The schema is the handler's.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn fields(&self, types: BodyTypes, also_record: bool) -> Result<Fields, Problem> {
        let body = read_body(&self.headers, &self.bytes, types)?;
        self.web
            .trusted
            .check_cookie_request(&self.method, &self.headers)?;
        if let Some(body) = &body {
            for field in REDIRECT_FIELDS {
                match body.get(field) {
                    None => {}
                    Some(Value::String(target)) => self.check_redirect(field, target)?,
                    Some(_) => return Err(Problem::RedirectNotText(field)),
                }
            }
        }
        let form = self
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/x-www"));
        Ok(Fields::of_body(body, form, also_record))
    }

    /// The same for a body that may be any object.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn record(&self, types: BodyTypes) -> Result<Fields, Problem> {
        let body = read_body(&self.headers, &self.bytes, types)?;
        self.web
            .trusted
            .check_cookie_request(&self.method, &self.headers)?;
        Ok(Fields::of_record(body))
    }

    /// Whether the request may lead there; an empty target is no target.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_redirect(&self, field: &'static str, target: &str) -> Result<(), Problem> {
        if target.is_empty() || self.web.trusted.may_lead_to(target) {
            Ok(())
        } else {
            Err(Problem::InvalidRedirect(field))
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

    /// The value of one of our signed cookies.
    pub fn cookie(&self, key: &str) -> Option<String> {
        let signer = &self.app().cookies;
        self.web.cookies.read(signer, &self.headers, key)
    }

    /// Whether the browser holds the cookie of a session that ends with it.
    pub fn is_brief(&self) -> bool {
        self.cookie("dont_remember").is_some()
    }

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
        if !app.config.step_up || step_up::missing(app, live).is_none() {
            return Ok(());
        }
        // It may have been shown to another node a moment ago.
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

    /// The live session behind the request, or whatever clients know when there is none.
    ///
    /// # Errors
    /// Without a session; the cookies of one that is over are cleared.
    pub async fn required_session(&self) -> Result<Session, Refusal> {
        match self.session().await? {
            Presented::Live(session) => Ok(session),
            Presented::Nothing => Err(Problem::Unauthorized.into()),
            Presented::Over => Err(Refusal(Box::new(without_session_cookies(
                Problem::Unauthorized.into_response(),
                self,
            )))),
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
        let (sessions, now) = (&self.app().sessions, self.app().clock.now());
        if self.bearer_text().is_none() {
            self.check_page()?;
            self.web.trusted.check_cross_site(&self.headers)?;
            let token = self.cookie("session_token").ok_or(Problem::BearerMissing)?;
            let live = sessions.find_stored(&token, now).await?;
            return live.ok_or(Problem::BearerMissing);
        }
        if let Some(token) = self.bearer()
            && let Some(live) = sessions.find_stored(&token, now).await?
        {
            return Ok(live);
        }
        self.shown_by_access_token()
            .await?
            .ok_or(Problem::BearerMissing)?
    }

    /// The live session of an access token in the request, or why it is none.
    async fn of_access_token(&self) -> Result<Option<Result<Arc<Live>, Problem>>, Problem> {
        let shown = self.shown_by_access_token().await?;
        if let Some(Ok(live)) = &shown {
            self.admit(live).await?;
        }
        Ok(shown)
    }

    async fn shown_by_access_token(&self) -> Result<Option<Result<Arc<Live>, Problem>>, Problem> {
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
        let live = app
            .sessions
            .find_by_id(text("sid"), app.clock.now())
            .await?;
        let live = live.filter(|live| live.user.id == text("sub"));
        Ok(Some(live.ok_or(Problem::BearerInvalid { expired: false })))
    }

    /// With a cookie, the page that sent the request must be trusted.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_page(&self) -> Result<(), Problem> {
        self.web
            .trusted
            .check_cookie_request(&self.method, &self.headers)
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

    /// The `Idempotency-Key` of the request, if it has one, tied to route and body.
    ///
    /// # Errors
    /// If the key is not 1 to 255 visible ASCII characters.
    pub fn idempotency(&self, route: &str) -> Result<Option<Fingerprint>, Problem> {
        let Some(key) = self.headers.get("idempotency-key") else {
            return Ok(None);
        };
        let visible = |key: &&str| {
            (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        let key = key
            .to_str()
            .ok()
            .filter(visible)
            .ok_or(Problem::IdempotencyKeyInvalid)?;
        Ok(Some(Fingerprint::of(
            &self.app().root,
            route,
            key,
            &self.bytes,
        )))
    }

    /// Whether the request was carried out before.
    ///
    /// # Errors
    /// If the key was used for another request, or cannot be looked up.
    pub async fn repeated(
        &self,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Option<Option<Outcome>>, Problem> {
        let Some(fingerprint) = fingerprint else {
            return Ok(None);
        };
        match fingerprint
            .look_up(&self.app().pool, self.app().store.custody())
            .await?
        {
            Known::New => Ok(None),
            Known::Repeated(outcome) => Ok(Some(outcome)),
            Known::Misused => Err(Problem::IdempotencyKeyMisused),
        }
    }
}

/// Why a handler ends early: a problem, or a whole answer.
pub struct Refusal(Box<Response>);

impl Refusal {
    /// A whole answer.
    pub fn answer(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(Box::new(error.into().into_response()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// An answer that was given before, byte for byte.
pub fn replay(outcome: Outcome) -> Response {
    let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::OK);
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (HeaderName::from_static("idempotency-replayed"), "true"),
    ];
    (status, headers, outcome.body).into_response()
}

/// Adds the cookies of a new or extended session.
pub fn with_session_cookies(
    mut response: Response,
    call: &Call,
    token: &str,
    remembered: bool,
) -> Response {
    let cookies = call
        .web
        .cookies
        .session(&call.app().cookies, token, remembered, call.is_brief());
    set_cookies(&mut response, cookies);
    response
}

/// Adds the cookies, and the token header that goes with them on the official client's routes.
pub fn with_session(response: Response, call: &Call, token: &str, remembered: bool) -> Response {
    let mut response = with_session_cookies(response, call, token, remembered);
    set_header(
        &mut response,
        "set-auth-token",
        &call.app().cookies.sign(token),
    );
    expose(&mut response, "set-auth-token");
    response
}

/// Clears the cookies of a session.
pub fn without_session_cookies(mut response: Response, call: &Call) -> Response {
    set_cookies(&mut response, call.web.cookies.clear_session());
    response
}

/// Adds cookies that we made.
pub fn set_cookies(response: &mut Response, cookies: Vec<String>) {
    for cookie in cookies {
        let value =
            HeaderValue::from_str(&cookie).expect("cookies are made of visible ASCII characters");
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Sets a header whose value we made.
pub fn set_header(response: &mut Response, name: &'static str, value: &str) {
    let value =
        HeaderValue::from_str(value).expect("our tokens and paths are visible ASCII characters");
    response
        .headers_mut()
        .insert(HeaderName::from_static(name), value);
}

/// Lets scripts of other origins read a header of the answer.
pub fn expose(response: &mut Response, name: &'static str) {
    let exposed = match response
        .headers()
        .get(header::ACCESS_CONTROL_EXPOSE_HEADERS)
        .and_then(|value| value.to_str().ok())
    {
        Some(already) if already.split(", ").any(|known| known == name) => return,
        Some(already) => HeaderValue::try_from(format!("{already}, {name}"))
            .expect("names of headers are visible ASCII characters"),
        None => HeaderValue::from_static(name),
    };
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// A redirect whose target was checked.
pub fn redirect(target: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    // A checked target may still hold characters beyond ASCII: a header carries them encoded.
    let encoded: String = target
        .chars()
        .flat_map(|c| {
            if c.is_ascii() {
                vec![c]
            } else {
                percent_encoding::utf8_percent_encode(
                    &c.to_string(),
                    percent_encoding::NON_ALPHANUMERIC,
                )
                .to_string()
                .chars()
                .collect()
            }
        })
        .collect();
    set_header(&mut response, "location", &encoded);
    response
}

/// Adds `error=CODE` to a redirect target.
pub fn with_error(target: &str, code: &str) -> String {
    with_query(target, &format!("error={code}"))
}

/// Adds a pair to the query of a redirect target.
pub fn with_query(target: &str, pair: &str) -> String {
    let (before, fragment) = target
        .split_once('#')
        .map_or((target, None), |(before, fragment)| {
            (before, Some(fragment))
        });
    let separator = if before.contains('?') { '&' } else { '?' };
    let fragment = fragment
        .map(|fragment| format!("#{fragment}"))
        .unwrap_or_default();
    format!("{before}{separator}{pair}{fragment}")
}

/// Marks an answer without a body as JSON, as clients know some redirects.
pub fn as_json(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Makes a safe path absolute against the base URL, as some redirects of the wire are.
pub fn absolute(base_url: &str, target: &str) -> String {
    if target.starts_with('/') {
        format!("{base_url}{target}")
    } else {
        target.to_owned()
    }
}

/// A time as clients know it: UTC with milliseconds.
pub fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn as_iso<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_joins_the_query_in_front_of_the_fragment() {
        assert_eq!(with_error("/x", "E"), "/x?error=E");
        assert_eq!(with_error("/x?a=1", "E"), "/x?a=1&error=E");
        assert_eq!(with_error("/x?a=1#f", "E"), "/x?a=1&error=E#f");
    }
}
