//! `/api/auth/two-factor/*`: setting a second factor up, and showing it.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/enable`, `/disable` | with the password |
//! | POST | `/get-totp-uri` | what an app reads, with the password |
//! | POST | `/generate-backup-codes` | a new set, with the password |
//! | POST | `/send-otp` | mail a code |
//! | POST | `/verify-totp`, `/verify-otp`, `/verify-backup-code` | show a code: in a session, or to go on signing in |

use aggregates::session::{EndReason, Factor, SignInMethod};
use aggregates::user::SecondFactorMethod;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use projections::users::UserRow;
use serde_json::{Value, json};

use super::account::confirm;
use super::answers::{Refusal, absolute, redirect, set_cookies, with_session};
use super::auth::known_password;
use super::doors::{Checks, Door};
use super::error::{Problem, Stated};
use super::limits;
use super::request::{BodyTypes, Fields};
use super::sessions::{Presented, Session};
use super::shapes::user_json;
use super::web::Call;
use crate::accounts::{self, Proof, Started};
use crate::entry::{self, Entered, In, Visit};
use crate::second_factor::{self, Challenge, Claimant, SecondFactorError};
use crate::step_up;
use crate::store::Actor;

/// What an authenticator app calls the service when nobody says.
const ISSUER: &str = "Mana";

/// The doors.
pub fn doors() -> Vec<Door> {
    let door = |path, limit, handler| Door::open(Method::POST, path, handler).limited(limit);
    let with_password = |path, limit, handler| {
        let door = door(path, limit, handler).checking(Checks::Password);
        door.after_step_up()
    };
    let with_code =
        |path, limit, handler| door(path, limit, handler).checking(Checks::SecondFactor);
    let [enable, disable, uri, codes, send, totp, otp, backup] = limits::TWO_FACTOR;
    vec![
        with_password("/two-factor/enable", enable, post(enable_factor)),
        with_password("/two-factor/disable", disable, post(disable_factor)),
        with_password("/two-factor/get-totp-uri", uri, post(totp_uri)),
        with_password(
            "/two-factor/generate-backup-codes",
            codes,
            post(generate_backup_codes),
        ),
        door("/two-factor/send-otp", send, post(send_otp)),
        with_code("/two-factor/verify-totp", totp, post(verify_totp)),
        with_code("/two-factor/verify-otp", otp, post(verify_otp)),
        with_code(
            "/two-factor/verify-backup-code",
            backup,
            post(verify_backup_code),
        ),
    ]
}

const fn stated(status: StatusCode, code: &'static str, message: &'static str) -> Stated {
    Stated {
        status,
        code: Some(code),
        message,
    }
}

static INVALID_CODE: Stated = stated(StatusCode::UNAUTHORIZED, "INVALID_CODE", "Invalid code");
static INVALID_BACKUP_CODE: Stated = stated(
    StatusCode::UNAUTHORIZED,
    "INVALID_BACKUP_CODE",
    "Invalid backup code",
);
static INVALID_COOKIE: Stated = stated(
    StatusCode::UNAUTHORIZED,
    "INVALID_TWO_FACTOR_COOKIE",
    "Invalid two factor cookie",
);
static NO_TOTP: Stated = stated(
    StatusCode::BAD_REQUEST,
    "TOTP_NOT_ENABLED",
    "TOTP not enabled",
);
static TOTP_ENABLED: Stated = stated(
    StatusCode::BAD_REQUEST,
    "TOTP_ALREADY_ENABLED",
    "TOTP is already enabled",
);
static NOT_ENABLED: Stated = stated(
    StatusCode::BAD_REQUEST,
    "TWO_FACTOR_NOT_ENABLED",
    "Two factor isn't enabled",
);
static NO_BACKUP_CODES: Stated = stated(
    StatusCode::BAD_REQUEST,
    "BACKUP_CODES_NOT_ENABLED",
    "Backup codes aren't enabled",
);
static OTP_EXPIRED: Stated = stated(
    StatusCode::BAD_REQUEST,
    "OTP_HAS_EXPIRED",
    "OTP has expired",
);
static OTP_OFF: Stated = stated(
    StatusCode::BAD_REQUEST,
    "OTP_NOT_CONFIGURED",
    "OTP isn't configured",
);
static SPENT: Stated = stated(
    StatusCode::BAD_REQUEST,
    "TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE",
    "Too many attempts. Please request a new code.",
);
static LOCKED: Stated = stated(
    StatusCode::TOO_MANY_REQUESTS,
    "ACCOUNT_TEMPORARILY_LOCKED",
    "Too many failed verification attempts. Your account is temporarily locked. Please try again later.",
);

impl From<SecondFactorError> for Problem {
    fn from(error: SecondFactorError) -> Self {
        let words = match error {
            SecondFactorError::WrongCode => &INVALID_CODE,
            SecondFactorError::NoTotp => &NO_TOTP,
            SecondFactorError::NoBackupCodes => &NO_BACKUP_CODES,
            SecondFactorError::NoMailedCode => &OTP_EXPIRED,
            SecondFactorError::TotpEnabled => &TOTP_ENABLED,
            SecondFactorError::NotEnabled => &NOT_ENABLED,
            SecondFactorError::Spent => &SPENT,
            SecondFactorError::Locked { retry_after_secs } => {
                return Self::Stated(&LOCKED, Some(retry_after_secs));
            }
            SecondFactorError::Account(error) => return error.into(),
        };
        Self::Stated(words, None)
    }
}

/// Answers a sign-in that has to wait for a second factor: nobody is in, and the cookie leads on.
pub fn needed(call: &Call, challenge: &str, remembered: bool, body: &Value) -> Response {
    let cookies = &call.web.cookies;
    let mut response = Json(body).into_response();
    let signer = &call.app().cookies;
    let mut set = Vec::with_capacity(4);
    if !remembered {
        set.push(cookies.signed(signer, "dont_remember", "true", None));
    }
    set.extend(["session_token", "session_data"].map(|key| cookies.clear(key)));
    let max_age = second_factor::CHALLENGE_FOR;
    set.push(cookies.signed(signer, "two_factor", challenge, Some(max_age)));
    set_cookies(&mut response, set);
    response
}

/// The same for somebody who is on the way to another page, which tells them.
pub fn needed_on_the_way(
    call: &Call,
    challenge: &str,
    methods: &[&'static str],
    target: Option<&str>,
) -> Response {
    let body = json!({"twoFactorRedirect": true, "twoFactorMethods": methods});
    let mut response = needed(call, challenge, true, &body);
    if let Some(target) = target {
        let location = redirect(&absolute(&call.app().config.base_url, target));
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().extend(location.headers().clone());
    }
    response
}

/// The id of the device, if it was trusted to do without a second factor.
pub fn trusted_device(call: &Call) -> Option<String> {
    let cookie = call.cookie("trust_device")?;
    // In front of the id stands a MAC that the whole cookie's signature makes superfluous.
    Some(cookie.rsplit_once('!')?.1.to_owned())
}

/// Adds the cookie of a trusted device.
pub fn with_trusted_device(
    mut response: Response,
    call: &Call,
    user_id: &str,
    id: &str,
) -> Response {
    let signer = &call.app().cookies;
    let value = format!("{}!{id}", signer.mac(&format!("{user_id}!{id}")));
    let max_age = Some(second_factor::TRUSTED_FOR);
    let cookie = call
        .web
        .cookies
        .signed(signer, "trust_device", &value, max_age);
    set_cookies(&mut response, vec![cookie]);
    response
}

async fn enable_factor(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.text("password");
    let method = fields.optional_choice("method", &["totp", "otp"]);
    let issuer = fields.optional_text("issuer");
    fields.check_kept("issuer");
    fields.done()?;
    let session = call.required_session().await?;
    let app = call.app();
    confirm(&call, &session.live.user, known_password(password)?).await?;
    let who = in_session(&call, &session);
    if method == Some("otp") {
        if !app.config.two_factor_otp {
            return Err(Problem::Stated(&OTP_OFF, None).into());
        }
        second_factor::enable(app, &who, SecondFactorMethod::Otp).await?;
        let body = Json(json!({"method": "otp"})).into_response();
        let (_, token) = session_anew(&call, &session, Factor::First).await?;
        return Ok(with_session(
            body,
            &call,
            &token,
            session.live.session.remembered,
        ));
    }
    let issuer = issuer.as_deref().filter(|issuer| !issuer.is_empty());
    let prepared = second_factor::prepare(app, &who, issuer.unwrap_or(ISSUER)).await?;
    let body =
        json!({"method": "totp", "totpURI": prepared.uri, "backupCodes": prepared.backup_codes});
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}

async fn disable_factor(call: Call) -> Result<Response, Refusal> {
    let session = with_password(&call).await?;
    second_factor::disable(call.app(), &in_session(&call, &session)).await?;
    let body = Json(json!({"status": true})).into_response();
    let (_, token) = session_anew(&call, &session, Factor::First).await?;
    Ok(with_session(
        body,
        &call,
        &token,
        session.live.session.remembered,
    ))
}

async fn totp_uri(call: Call) -> Result<Response, Refusal> {
    let session = with_password(&call).await?;
    let uri = second_factor::totp_uri(call.app(), &session.live.user, ISSUER).await?;
    Ok(call
        .prolonged(Json(json!({"totpURI": uri})).into_response(), &session)
        .await)
}

async fn generate_backup_codes(call: Call) -> Result<Response, Refusal> {
    let session = with_password(&call).await?;
    let codes =
        second_factor::replace_backup_codes(call.app(), &in_session(&call, &session)).await?;
    let body = json!({"status": true, "backupCodes": codes});
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}

/// The session behind a request that holds nothing but the password, which is checked.
async fn with_password(call: &Call) -> Result<Session, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.text("password");
    fields.done()?;
    let session = call.required_session().await?;
    confirm(call, &session.live.user, known_password(password)?).await?;
    Ok(session)
}

fn in_session<'a>(call: &'a Call, session: &'a Session) -> Claimant<'a> {
    Claimant {
        user: &session.live.user,
        holder: &session.token,
        caller: &call.caller,
    }
}

/// Another session in the place of this one, because what it takes to get in has changed (S-27). `shown` was shown just
/// now, beside what was shown in the one until now.
async fn session_anew(
    call: &Call,
    session: &Session,
    shown: Factor,
) -> Result<(UserRow, String), Problem> {
    let app = call.app();
    let user_id = &session.live.user.id;
    let user = projections::users::find(&app.pool, user_id)
        .await?
        .ok_or(Problem::Unauthorized)?;
    let remembered = session.live.session.remembered;
    let proof = Proof {
        second_factor: true,
        carried: step_up::carried(app, &session.live, Some(shown)),
        ..Proof::by(SignInMethod::Session)
    };
    let Started { token, .. } =
        accounts::start_session(app, &user, remembered, proof, &call.caller).await?;
    let context = call
        .caller
        .context_about(Actor::User(user_id.clone()), user_id);
    accounts::end_session(app, &session.live.session.id, EndReason::Replaced, context).await?;
    Ok((user, token))
}

/// Who shows a code.
enum Shown {
    Session(Session),
    Challenge {
        challenge: Box<Challenge>,
        id: String,
    },
}

impl Shown {
    fn who<'a>(&'a self, call: &'a Call) -> Claimant<'a> {
        match self {
            Self::Session(session) => in_session(call, session),
            Self::Challenge { challenge, id } => Claimant {
                user: &challenge.user,
                holder: id,
                caller: &call.caller,
            },
        }
    }
}

/// The session of a request, else the sign-in that waits for a second factor.
async fn shown(call: &Call) -> Result<Shown, Refusal> {
    if let Presented::Live(session) = call.session().await? {
        // A code that proves one factor of two is how a step-up is made; one that switches them on takes one (S-60).
        if !session.live.user.two_factor_enabled {
            call.step_up(&session.live).await?;
        }
        return Ok(Shown::Session(session));
    }
    let nobody = Problem::Stated(&INVALID_COOKIE, None);
    let Some(id) = call.cookie("two_factor") else {
        return Err(nobody.into());
    };
    match second_factor::find_challenge(call.app(), &id).await? {
        Some(challenge) => Ok(Shown::Challenge {
            challenge: Box::new(challenge),
            id,
        }),
        None => Err(without_challenge(call, nobody)),
    }
}

async fn send_otp(call: Call) -> Result<Response, Refusal> {
    call.fields(BodyTypes::Json, false)?;
    let shown = shown(&call).await?;
    if !call.app().config.two_factor_otp {
        return Err(Problem::Stated(&OTP_OFF, None).into());
    }
    second_factor::send_code(call.app(), &shown.who(&call)).await?;
    Ok(Json(json!({"status": true})).into_response())
}

async fn verify_totp(call: Call) -> Result<Response, Refusal> {
    let shape = read_code(&call, false)?;
    let shown = shown(&call).await?;
    let checked = second_factor::check_totp(call.app(), &shown.who(&call), &shape.code).await;
    checked_or_spent(&call, &shown, checked).await?;
    let enables = Some(SecondFactorMethod::Totp);
    accepted(&call, shown, &shape, enables).await
}

async fn verify_otp(call: Call) -> Result<Response, Refusal> {
    let shape = read_code(&call, false)?;
    let shown = shown(&call).await?;
    second_factor::check_mailed_code(call.app(), &shown.who(&call), &shape.code).await?;
    accepted(&call, shown, &shape, Some(SecondFactorMethod::Otp)).await
}

async fn verify_backup_code(call: Call) -> Result<Response, Refusal> {
    let shape = read_code(&call, true)?;
    let shown = shown(&call).await?;
    let checked =
        second_factor::check_backup_code(call.app(), &shown.who(&call), &shape.code).await;
    if matches!(checked, Err(SecondFactorError::WrongCode)) {
        return Err(Problem::Stated(&INVALID_BACKUP_CODE, None).into());
    }
    checked_or_spent(&call, &shown, checked).await?;
    accepted(&call, shown, &shape, None).await
}

/// What a request shows, and what is to follow.
struct Code {
    code: String,
    trust_device: bool,
    no_session: bool,
}

fn read_code(call: &Call, backup: bool) -> Result<Code, Problem> {
    let mut fields: Fields = call.fields(BodyTypes::Json, false)?;
    let code = fields.text("code");
    let no_session = backup && fields.optional_bool("disableSession").unwrap_or(false);
    let trust_device = fields.optional_bool("trustDevice").unwrap_or(false);
    fields.done()?;
    Ok(Code {
        code,
        trust_device,
        no_session,
    })
}

/// A challenge that has no tries left is over.
async fn checked_or_spent(
    call: &Call,
    shown: &Shown,
    checked: Result<(), SecondFactorError>,
) -> Result<(), Refusal> {
    if let (Err(SecondFactorError::Spent), Shown::Challenge { challenge, .. }) = (&checked, shown) {
        challenge.spend(call.app()).await?;
        return Err(without_challenge(call, Problem::Stated(&SPENT, None)));
    }
    Ok(checked?)
}

/// A refusal that takes the challenge's cookie away.
fn without_challenge(call: &Call, problem: Problem) -> Refusal {
    let mut response = problem.into_response();
    set_cookies(&mut response, vec![call.web.cookies.clear("two_factor")]);
    Refusal::answer(response)
}

/// Goes on after a code was right: signs in, switches the second factor on that it has proven, or just says so.
async fn accepted(
    call: &Call,
    shown: Shown,
    shape: &Code,
    enables: Option<SecondFactorMethod>,
) -> Result<Response, Refusal> {
    let app = call.app();
    let body = |token: &str, user: &UserRow| Json(json!({"token": token, "user": user_json(user)}));
    match shown {
        Shown::Session(session) => {
            let user = &session.live.user;
            let mut response = match enables.filter(|_| !user.two_factor_enabled) {
                None => {
                    step_up::note(app, &session.live, Factor::Second, &call.caller).await?;
                    body(&session.token, user).into_response()
                }
                Some(method) => {
                    second_factor::enable(app, &in_session(call, &session), method).await?;
                    let (user, token) = session_anew(call, &session, Factor::Second).await?;
                    let remembered = session.live.session.remembered;
                    with_session(
                        body(&token, &user).into_response(),
                        call,
                        &token,
                        remembered,
                    )
                }
            };
            if shape.trust_device {
                let id = second_factor::trust_device(app, &user.id).await?;
                response = with_trusted_device(response, call, &user.id, &id);
            }
            Ok(response)
        }
        Shown::Challenge { challenge, .. } if shape.no_session => {
            Ok(Json(json!({"user": user_json(&challenge.user)})).into_response())
        }
        Shown::Challenge { challenge, .. } => {
            if !challenge.spend(app).await? {
                return Err(Problem::Stated(&INVALID_COOKIE, None).into());
            }
            let Challenge {
                user,
                remembered,
                proof,
                ..
            } = *challenge;
            let visit = Visit {
                proof,
                remembered,
                trusted_device: None,
                caller: &call.caller,
            };
            let Entered::In(entered) = entry::enter(app, user, visit).await? else {
                unreachable!("a second factor was shown");
            };
            let In { user, started, .. } = *entered;
            let token = &started.token;
            let mut response =
                with_session(body(token, &user).into_response(), call, token, remembered);
            set_cookies(&mut response, vec![call.web.cookies.clear("two_factor")]);
            if shape.trust_device {
                let id = second_factor::trust_device(app, &user.id).await?;
                response = with_trusted_device(response, call, &user.id, &id);
                set_cookies(&mut response, vec![call.web.cookies.clear("dont_remember")]);
            }
            Ok(response)
        }
    }
}
