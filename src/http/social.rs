//! Signing in by other providers, and linking accounts there.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/api/auth/sign-in/social` | go to a provider, or show an ID token of it |
//! | POST | `/api/auth/link-social` | the same, to link an account there to the own one |

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::answers::{Refusal, set_cookies, set_header, with_session};
use super::doors::Door;
use super::error::{Problem, Stated};
use super::limits;
use super::request::{BodyTypes, Fields};
use super::sessions::Session;
use super::shapes::user_json;
use super::two_factor;
use super::web::Call;
use crate::config::Provider;
use crate::entry::{self, Entered, In, Visit};
use crate::oauth::{Asked, Granted, OAuthError, ProviderTokens};
use crate::social::{self, Arrival, Callbacks, SocialError};

/// Parameters of a sign-in that clients do not set.
const RESERVED: [&str; 8] = [
    "state",
    "client_id",
    "redirect_uri",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "scope",
];
/// Most that scopes and other parameters hold together, in bytes: they go into an address.
const ASKED_MAX_BYTES: usize = 4096;
/// The doors.
pub fn doors() -> Vec<Door> {
    vec![
        Door::open(Method::POST, "/sign-in/social", post(sign_in)).limited(limits::SIGN_IN_SOCIAL),
        Door::open(Method::POST, "/link-social", post(link)).after_step_up(),
    ]
}

static NO_PROVIDER: Stated = Stated {
    status: StatusCode::NOT_FOUND,
    code: Some("PROVIDER_NOT_FOUND"),
    message: "Provider not found",
};
static NO_ID_TOKENS: Stated = Stated {
    status: StatusCode::NOT_FOUND,
    code: Some("ID_TOKEN_NOT_SUPPORTED"),
    message: "id_token not supported",
};
static NO_USER_INFO: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("FAILED_TO_GET_USER_INFO"),
    message: "Failed to get user info",
};
static NO_EMAIL: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("USER_EMAIL_NOT_FOUND"),
    message: "User email not found",
};
static NOT_LINKED: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("OAUTH_LINK_ERROR"),
    message: "account not linked",
};
static SIGN_UP_DISABLED: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("OAUTH_LINK_ERROR"),
    message: "signup disabled",
};

/// A failure where no provider has led anybody here.
impl From<SocialError> for Problem {
    fn from(error: SocialError) -> Self {
        let words = match error {
            SocialError::Code("email_not_verified") => return Self::EmailNotVerified,
            SocialError::Code("email_not_found") => &NO_EMAIL,
            SocialError::Code("signup_disabled") => &SIGN_UP_DISABLED,
            SocialError::Code(_) => &NOT_LINKED,
            SocialError::Account(error) => return error.into(),
        };
        Self::Stated(words, None)
    }
}

/// What a sign-in or link asks for.
struct Request {
    provider: String,
    asked: Asked,
    callbacks: Callbacks,
    redirects: bool,
    requests_sign_up: bool,
    id_token: Option<IdToken>,
}

/// An ID token that the client has got by itself.
struct IdToken {
    token: String,
    nonce: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

fn read(call: &Call) -> Result<Request, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let provider = fields
        .raw("provider")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if provider.is_none() {
        fields.fault("provider", "Invalid input");
    }
    let callback =
        |fields: &mut Fields, name| fields.optional_text(name).filter(|url| !url.is_empty());
    let callbacks = Callbacks {
        callback: callback(&mut fields, "callbackURL"),
        new_user: callback(&mut fields, "newUserCallbackURL"),
        error: callback(&mut fields, "errorCallbackURL"),
    };
    let redirects = !fields.optional_bool("disableRedirect").unwrap_or(false);
    let requests_sign_up = fields.optional_bool("requestSignUp").unwrap_or(false);
    let asked = Asked {
        scopes: fields.optional_list("scopes").unwrap_or_default(),
        login_hint: fields.optional_text("loginHint"),
        additional: additional(&mut fields),
    };
    let id_token = id_token(&mut fields);
    for kept in [
        "callbackURL",
        "newUserCallbackURL",
        "errorCallbackURL",
        "loginHint",
    ] {
        fields.check_kept(kept);
    }
    if asked.size() > ASKED_MAX_BYTES {
        fields.fault("scopes", "Too big");
    }
    fields.done()?;
    Ok(Request {
        provider: provider.unwrap_or_default(),
        asked,
        callbacks,
        redirects,
        requests_sign_up,
        id_token,
    })
}

fn additional(fields: &mut Fields) -> Vec<(String, String)> {
    const NAME: &str = "additionalParams";
    let Some(mut inner) = fields.optional_fields(NAME) else {
        return vec![];
    };
    let names: Vec<String> = inner.names().map(str::to_owned).collect();
    if names.iter().any(|name| RESERVED.contains(&name.as_str())) {
        let reserved = RESERVED.join(", ");
        fields.fault(
            NAME,
            &format!("{NAME} cannot include reserved OAuth parameters: {reserved}"),
        );
    }
    let pair = |name: String| {
        let value = inner.text(&name);
        (name, value)
    };
    let pairs = names.into_iter().map(pair).collect();
    fields.absorb(NAME, &inner);
    pairs
}

fn id_token(fields: &mut Fields) -> Option<IdToken> {
    let mut inner = fields.optional_fields("idToken")?;
    let id_token = IdToken {
        token: inner.text("token"),
        nonce: inner.optional_text("nonce"),
        access_token: inner.optional_text("accessToken"),
        refresh_token: inner.optional_text("refreshToken"),
    };
    fields.absorb("idToken", &inner);
    Some(id_token)
}

fn provider<'a>(call: &'a Call, id: &str) -> Result<&'a Provider, Problem> {
    let provider = call.app().providers.find(id);
    provider.ok_or(Problem::Stated(&NO_PROVIDER, None))
}

async fn sign_in(call: Call) -> Result<Response, Problem> {
    let request = read(&call)?;
    let provider = provider(&call, &request.provider)?;
    if let Some(shown) = request.id_token {
        let arrival = arrived(&call, provider, shown).await?;
        let callback = request.callbacks.callback.as_deref();
        let app = call.app();
        let requests = request.requests_sign_up;
        let signed_in =
            social::sign_in(app, provider, &arrival, callback, requests, &call.caller).await;
        let (user, _) = signed_in?;
        return match entry::enter(app, user, visit(&call)).await? {
            Entered::In(entered) => {
                let In { user, started, .. } = *entered;
                let token = &started.token;
                let body = json!({"redirect": false, "token": token, "user": user_json(&user)});
                Ok(with_session(Json(body).into_response(), &call, token, true))
            }
            Entered::SecondFactorNeeded { challenge, methods } => Ok(
                two_factor::needed_on_the_way(&call, &challenge, &methods, None),
            ),
        };
    }
    begin(&call, provider, request, None).await
}

async fn link(call: Call) -> Result<Response, Refusal> {
    let request = read(&call)?;
    let session = call.required_session().await?;
    let provider = provider(&call, &request.provider)?;
    if let Some(shown) = request.id_token {
        let arrival = arrived(&call, provider, shown).await?;
        let user = &session.live.user;
        let linked = social::link(call.app(), provider, &arrival, user, &call.caller).await;
        linked.map_err(Problem::from)?;
        let body = json!({"url": "", "status": true, "redirect": false});
        return Ok(call.prolonged(Json(body).into_response(), &session).await);
    }
    let response = begin(&call, provider, request, Some(&session)).await?;
    Ok(call.prolonged(response, &session).await)
}

/// How somebody comes in whom a provider vouches for.
pub fn visit(call: &Call) -> Visit<'_> {
    Visit {
        proof: social::proof(),
        remembered: true,
        trusted_device: None,
        caller: &call.caller,
    }
}

/// Whoever shows an ID token.
async fn arrived(call: &Call, provider: &Provider, shown: IdToken) -> Result<Arrival, Problem> {
    if provider.jwks_url.is_none() {
        return Err(Problem::Stated(&NO_ID_TOKENS, None));
    }
    let (app, nonce) = (call.app(), shown.nonce.as_deref());
    let identified =
        app.providers
            .identify_by_token(provider, &shown.token, nonce, app.clock.now());
    let identity = identified.await.map_err(|error| match error {
        OAuthError::NoIdToken | OAuthError::OtherSignIn => Problem::InvalidToken,
        OAuthError::NoAnswer(_) | OAuthError::Refused => Problem::Stated(&NO_USER_INFO, None),
    })?;
    let tokens = ProviderTokens {
        access_token: shown.access_token,
        refresh_token: shown.refresh_token,
        id_token: Some(shown.token),
        ..ProviderTokens::default()
    };
    Ok(Arrival {
        identity,
        granted: Granted {
            tokens,
            scopes: None,
        },
        scopes: None,
    })
}

async fn begin(
    call: &Call,
    provider: &Provider,
    request: Request,
    session: Option<&Session>,
) -> Result<Response, Problem> {
    let app = call.app();
    let live = session.map(|session| &*session.live);
    let (asked, requests_sign_up) = (&request.asked, request.requests_sign_up);
    let begun = social::begin(
        app,
        provider,
        asked,
        request.callbacks,
        requests_sign_up,
        live,
    )
    .await?;
    let url = begun.url.as_str();
    let mut response = Json(json!({"url": url, "redirect": request.redirects})).into_response();
    if request.redirects {
        set_header(&mut response, "location", url);
    }
    let max_age = Some(social::COOKIE_FOR);
    let cookie = call
        .web
        .cookies
        .signed(&app.cookies, "state", &begun.state, max_age);
    set_cookies(&mut response, vec![cookie]);
    Ok(response)
}
