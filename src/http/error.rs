//! Problem: the one place where anything becomes a status, a code and a body.
//!
//! A handler answers with a `Problem`; the layer of the area it stands in (`/api/auth`, `/api/v1/auth`, …)
//! gives it the shape that the clients of that area know. Failures are logged here, once, with the
//! request id; refusals are not errors and are not logged.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::admin::LAST_ADMIN;
use crate::accounts::AccountError;
use crate::config::ErrorShape;
use crate::store::StoreError;

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// The body or query does not have the shape that the route asks for; the message names each field.
    Validation(String),
    /// The body is not JSON.
    InvalidJson,
    /// The body has a content type that the route does not take.
    UnsupportedMediaType(String),
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is larger than anything we read.
    PayloadTooLarge,
    /// A cookie, and nothing that says which page sent it.
    MissingOrNullOrigin,
    /// A page that is not trusted.
    InvalidOrigin,
    /// A navigation from another site to a sign-in route.
    CrossSiteNavigation,
    /// The field (`callbackURL`, `redirectTo`, …) names a place that is not trusted.
    InvalidRedirect(&'static str),
    /// The field names no place at all.
    RedirectNotText(&'static str),
    /// A field that clients may not set.
    FieldNotAllowed(&'static str),
    /// Not a mail address, on the routes that say so themselves.
    InvalidEmail,
    /// Fewer than 8 characters.
    PasswordTooShort,
    /// More than 128 characters.
    PasswordTooLong,
    /// The address has an account.
    EmailTaken,
    /// No such account, no password or another one.
    WrongCredentials,
    /// The address has to be proven first.
    EmailNotVerified,
    /// Nothing is checked for a while: too many tries failed.
    AccountLocked {
        /// Seconds until tries are checked again.
        retry_after_secs: u64,
    },
    /// The password of somebody who is signed in is another one.
    InvalidPassword,
    /// The password is too much like the account's own data.
    PasswordTooSimilar,
    /// The password is in a list of breached ones.
    PasswordBreached,
    /// The account has no password.
    NoPassword,
    /// As many accounts as may be made in a day were made.
    SignupLimitReached {
        /// When the next day begins, ISO 8601.
        resets_at: String,
        /// Seconds until then.
        retry_after_secs: u64,
    },
    /// The new address is the old one.
    EmailUnchanged,
    /// The field that holds the address is not changed by this route.
    EmailNotUpdatable,
    /// Nothing that could be changed.
    NothingToUpdate,
    /// The session is too old for this.
    SessionNotFresh,
    /// Who asks has to show once more who they are.
    StepUpRequired {
        /// By what; any one of them will do.
        methods: Vec<&'static str>,
    },
    /// The session is too old for this without the password.
    SessionExpired,
    /// No session on the route that a deletion link leads to.
    NoUserInfo,
    /// A token to reset a password that is not good.
    InvalidResetToken,
    /// A token to delete an account that is not good.
    InvalidDeletionToken,
    /// A refresh token that is not good.
    InvalidRefreshToken,
    /// No session that could be refreshed.
    NothingToRefresh,
    /// No session on the routes of the apps' own clients that need one.
    NoSession,
    /// A route behind `Authorization: Bearer`, without it.
    BearerMissing,
    /// A route behind `Authorization: Bearer`, with a token that is not good.
    BearerInvalid {
        /// Whether expiry is its only fault.
        expired: bool,
    },
    /// A route for admins.
    AdminOnly,
    /// There is no such thing, or it is somebody else's.
    NotFound,
    /// The address is not the session's.
    EmailMismatch,
    /// It was proven before.
    EmailAlreadyVerified,
    /// A link or token that is not good.
    InvalidToken,
    /// A link or token whose time is over.
    TokenExpired,
    /// Whom the link is about is gone.
    UserNotFound,
    /// No session.
    Unauthorized,
    /// Too many requests from there.
    TooManyRequests {
        /// Seconds until the next one may succeed.
        retry_after_secs: u64,
    },
    /// The route exists for a mode that is not on.
    DeferredRefreshOff,
    /// The `Idempotency-Key` was used for another request.
    IdempotencyKeyMisused,
    /// The `Idempotency-Key` header is not 1 to 255 visible characters.
    IdempotencyKeyInvalid,
    /// Somebody else changed the same thing at the same time, again and again.
    Conflict,
    /// More work than we can do just now.
    Overloaded {
        /// Seconds until it is worth another try.
        retry_after_secs: u64,
    },
    /// What only one area says; its words stand beside its routes. With the seconds until another try is worth it, if
    /// time helps.
    Stated(&'static Stated, Option<u64>),
    /// Nobody gets into this account.
    Banned,
    /// A part that we need does not answer.
    Unavailable,
    /// A fault of ours.
    Internal,
}

/// A refusal of one area in its own words.
#[derive(Debug, PartialEq)]
pub struct Stated {
    /// On the routes of the wire contract, and elsewhere.
    pub status: StatusCode,
    /// Some answers have a message only.
    pub code: Option<&'static str>,
    /// For people.
    pub message: &'static str,
}

use Problem as P;

impl Problem {
    /// HTTP status on the routes of the wire contract.
    pub fn status(&self) -> StatusCode {
        match self {
            P::Validation(_)
            | P::InvalidJson
            | P::RedirectNotText(_)
            | P::FieldNotAllowed(_)
            | P::InvalidEmail
            | P::PasswordTooShort
            | P::PasswordTooLong
            | P::PasswordTooSimilar
            | P::PasswordBreached
            | P::InvalidPassword
            | P::NoPassword
            | P::EmailUnchanged
            | P::EmailNotUpdatable
            | P::NothingToUpdate
            | P::SessionExpired
            | P::InvalidResetToken
            | P::EmailMismatch
            | P::IdempotencyKeyInvalid
            | P::EmailAlreadyVerified => StatusCode::BAD_REQUEST,
            P::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            P::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            P::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            P::MissingOrNullOrigin
            | P::InvalidOrigin
            | P::CrossSiteNavigation
            | P::InvalidRedirect(_)
            | P::SessionNotFresh
            | P::StepUpRequired { .. }
            | P::AdminOnly
            | P::Banned
            | P::EmailNotVerified => StatusCode::FORBIDDEN,
            P::NoUserInfo | P::InvalidDeletionToken | P::NotFound => StatusCode::NOT_FOUND,
            P::EmailTaken | P::IdempotencyKeyMisused => StatusCode::UNPROCESSABLE_ENTITY,
            P::WrongCredentials
            | P::InvalidToken
            | P::TokenExpired
            | P::UserNotFound
            | P::InvalidRefreshToken
            | P::NothingToRefresh
            | P::NoSession
            | P::BearerMissing
            | P::BearerInvalid { .. }
            | P::Unauthorized => StatusCode::UNAUTHORIZED,
            P::TooManyRequests { .. } | P::AccountLocked { .. } | P::SignupLimitReached { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            P::Stated(stated, _) => stated.status,
            P::DeferredRefreshOff => StatusCode::METHOD_NOT_ALLOWED,
            P::Conflict => StatusCode::CONFLICT,
            P::Overloaded { .. } | P::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            P::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Code on the routes of the wire contract; some answers have a message only.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            P::Validation(_) => "VALIDATION_ERROR",
            P::InvalidJson => "BAD_REQUEST",
            P::UnsupportedMediaType(_) => "UNSUPPORTED_MEDIA_TYPE",
            P::BodyTooSlow => "REQUEST_TIMEOUT",
            P::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            P::MissingOrNullOrigin => "MISSING_OR_NULL_ORIGIN",
            P::InvalidOrigin => "INVALID_ORIGIN",
            P::CrossSiteNavigation => "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED",
            P::InvalidRedirect(field) => match *field {
                "redirectTo" => "INVALID_REDIRECT_URL",
                "errorCallbackURL" => "INVALID_ERROR_CALLBACK_URL",
                "newUserCallbackURL" => "INVALID_NEW_USER_CALLBACK_URL",
                _ => "INVALID_CALLBACK_URL",
            },
            P::FieldNotAllowed(_) => "FIELD_NOT_ALLOWED",
            P::InvalidEmail => "INVALID_EMAIL",
            P::PasswordTooShort => "PASSWORD_TOO_SHORT",
            P::PasswordTooLong => "PASSWORD_TOO_LONG",
            P::EmailTaken => "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL",
            P::WrongCredentials => "INVALID_EMAIL_OR_PASSWORD",
            P::EmailNotVerified => "EMAIL_NOT_VERIFIED",
            P::AccountLocked { .. } => "ACCOUNT_LOCKED",
            P::InvalidPassword => "INVALID_PASSWORD",
            P::PasswordTooSimilar => "PASSWORD_TOO_SIMILAR",
            P::PasswordBreached => "PASSWORD_COMPROMISED",
            P::NoPassword => "CREDENTIAL_ACCOUNT_NOT_FOUND",
            P::SignupLimitReached { .. } => "SIGNUP_LIMIT_REACHED",
            P::EmailNotUpdatable => "EMAIL_CAN_NOT_BE_UPDATED",
            P::SessionNotFresh => "SESSION_NOT_FRESH",
            P::StepUpRequired { .. } => "STEP_UP_REQUIRED",
            P::SessionExpired => "SESSION_EXPIRED",
            P::NoUserInfo => "FAILED_TO_GET_USER_INFO",
            P::InvalidResetToken | P::InvalidDeletionToken => "INVALID_TOKEN",
            P::InvalidRefreshToken | P::BearerInvalid { expired: false } => "TOKEN_INVALID",
            P::NothingToRefresh | P::BearerInvalid { expired: true } => "TOKEN_EXPIRED",
            P::NoSession | P::BearerMissing => "UNAUTHORIZED",
            P::AdminOnly => "FORBIDDEN",
            P::NotFound => "NOT_FOUND",
            P::EmailMismatch => "EMAIL_MISMATCH",
            P::EmailAlreadyVerified => "EMAIL_ALREADY_VERIFIED",
            P::InvalidToken => "INVALID_TOKEN",
            P::TokenExpired => "TOKEN_EXPIRED",
            P::UserNotFound => "USER_NOT_FOUND",
            P::Unauthorized => "UNAUTHORIZED",
            P::DeferredRefreshOff => "METHOD_NOT_ALLOWED_DEFER_SESSION_REQUIRED",
            P::IdempotencyKeyMisused => "IDEMPOTENCY_KEY_MISUSED",
            P::IdempotencyKeyInvalid => "IDEMPOTENCY_KEY_INVALID",
            P::Conflict => "CONFLICT",
            P::Overloaded { .. } | P::Unavailable => "SERVICE_UNAVAILABLE",
            P::Internal => "INTERNAL_SERVER_ERROR",
            P::Stated(stated, _) => return stated.code,
            P::Banned => "BANNED_USER",
            P::RedirectNotText(_)
            | P::EmailUnchanged
            | P::NothingToUpdate
            | P::TooManyRequests { .. } => return None,
        })
    }

    /// Text on the routes of the wire contract.
    pub fn message(&self) -> String {
        match self {
            P::Validation(message) | P::UnsupportedMediaType(message) => message.clone(),
            P::InvalidJson => "Invalid JSON in request body".into(),
            P::BodyTooSlow => "Request body did not arrive in time".into(),
            P::PayloadTooLarge => "Request body is too large".into(),
            P::MissingOrNullOrigin => "Missing or null Origin".into(),
            P::InvalidOrigin => "Invalid origin".into(),
            P::CrossSiteNavigation => {
                "Cross-site navigation login blocked. This request appears to be a CSRF attack."
                    .into()
            }
            P::InvalidRedirect(field) => match *field {
                "redirectTo" => "Invalid redirectURL".into(),
                field => format!("Invalid {field}"),
            },
            P::RedirectNotText(field) => format!("Invalid {field}: expected a string"),
            P::FieldNotAllowed(field) => format!("{field} is not allowed to be set"),
            P::InvalidEmail => "Invalid email".into(),
            P::PasswordTooShort => "Password too short".into(),
            P::PasswordTooLong => "Password too long".into(),
            P::EmailTaken => "User already exists. Use another email.".into(),
            P::WrongCredentials => "Invalid email or password".into(),
            P::EmailNotVerified => "Email not verified".into(),
            P::AccountLocked { .. } => "Account temporarily locked".into(),
            P::InvalidPassword => "Invalid password".into(),
            P::PasswordTooSimilar => {
                "The password is too similar to your name or email address".into()
            }
            P::PasswordBreached => {
                "The password you entered has been compromised. Please choose a different password."
                    .into()
            }
            P::NoPassword => "Credential account not found".into(),
            P::SignupLimitReached { .. } => {
                "Das Tageslimit für Registrierungen ist erreicht. Bitte versuche es morgen erneut."
                    .into()
            }
            P::EmailUnchanged => "Email is the same".into(),
            P::EmailNotUpdatable => "Email can not be updated".into(),
            P::NothingToUpdate => "No fields to update".into(),
            P::SessionNotFresh => "Session is not fresh".into(),
            P::StepUpRequired { .. } => "Please confirm that it is you".into(),
            P::SessionExpired => "Session expired. Re-authenticate to perform this action.".into(),
            P::NoUserInfo => "Failed to get user info".into(),
            P::InvalidResetToken | P::InvalidDeletionToken => "Invalid token".into(),
            P::InvalidRefreshToken => "Invalid refresh token".into(),
            P::NothingToRefresh => "Session expired".into(),
            P::NoSession => "No valid session".into(),
            P::BearerMissing => "Missing or invalid Authorization header".into(),
            P::BearerInvalid { .. } => "Invalid or expired token".into(),
            P::AdminOnly => "Admin access required".into(),
            P::NotFound => "Not found".into(),
            P::EmailMismatch => "Email mismatch".into(),
            P::EmailAlreadyVerified => "Email is already verified".into(),
            P::InvalidToken => "Invalid token".into(),
            P::TokenExpired => "Token expired".into(),
            P::UserNotFound => "User not found".into(),
            P::Unauthorized => "Unauthorized".into(),
            P::TooManyRequests { .. } => "Too many requests. Please try again later.".into(),
            P::DeferredRefreshOff => {
                "POST method requires deferSessionRefresh to be enabled in session config".into()
            }
            P::IdempotencyKeyMisused => "The Idempotency-Key was used for another request".into(),
            P::IdempotencyKeyInvalid => {
                "The Idempotency-Key must be 1 to 255 visible ASCII characters".into()
            }
            P::Conflict => {
                "The same thing was changed by another request. Please try again.".into()
            }
            P::Stated(stated, _) => stated.message.into(),
            P::Banned => "You have been banned from this application. Please contact support if you believe this is an error."
                .into(),
            P::Overloaded { .. } => "The service is busy. Please try again.".into(),
            P::Unavailable => "Service temporarily unavailable".into(),
            P::Internal => "Internal server error".into(),
        }
    }

    fn retry_after_secs(&self) -> Option<u64> {
        match self {
            P::TooManyRequests { retry_after_secs }
            | P::AccountLocked { retry_after_secs }
            | P::SignupLimitReached {
                retry_after_secs, ..
            }
            | P::Overloaded { retry_after_secs } => Some(*retry_after_secs),
            P::Stated(_, secs) => *secs,
            P::Unavailable => Some(1),
            _ => None,
        }
    }

    /// The answer on `/api/auth/*`.
    pub fn native(&self) -> Response {
        let mut body = json!({"message": self.message()});
        if let Some(code) = self.code() {
            body["code"] = json!(code);
        }
        self.respond(self.status(), body)
    }

    /// The answer on `/api/v1/auth/*`: a superset of the two shapes that clients know (contract 1.6).
    pub fn v1(&self, shape: ErrorShape) -> Response {
        let (status, code, text) = self.v1_parts();
        if matches!(self, P::MissingOrNullOrigin | P::InvalidOrigin) {
            return self.native();
        }
        // Clients that look for the first shape compare `error` with a sentence.
        let error = match shape {
            ErrorShape::V1 => text,
            ErrorShape::V2 => code,
        };
        let message = match self {
            P::Validation(message) => message.clone(),
            P::UnsupportedMediaType(_)
            | P::FieldNotAllowed(_)
            | P::RedirectNotText(_)
            | P::InvalidRedirect(_) => self.message(),
            _ => text.to_owned(),
        };
        let mut body =
            json!({"error": error, "code": code, "message": message, "status": status.as_u16()});
        if let Some(secs) = self.retry_after_secs() {
            body["retryAfterSec"] = json!(secs);
        }
        match self {
            P::AccountLocked { retry_after_secs } => {
                body["message"] = json!(self.message());
                body["remainingSeconds"] = json!(retry_after_secs);
            }
            P::SignupLimitReached { resets_at, .. } => {
                body["message"] = json!(self.message());
                body["spotsRemaining"] = json!(0);
                body["resetsAt"] = json!(resets_at);
            }
            _ => {}
        }
        self.respond(status, body)
    }

    /// The answer on the bearer-guarded routes (contract 1.5 and 6).
    pub fn guarded(&self) -> Response {
        let body = match self {
            P::AdminOnly => json!({"error": "Forbidden", "message": self.message()}),
            _ => {
                let status = self.status().as_u16();
                let mut body = json!({"statusCode": status, "message": self.message()});
                if let Some(code) = self.code() {
                    body["code"] = json!(code);
                }
                body
            }
        };
        self.respond(self.status(), body)
    }

    /// The answer on the routes of the vault: its own refusals in two fields (mana-v1.md section 5.3), all others like
    /// those of other bearer-guarded routes.
    pub fn of_vault(&self) -> Response {
        match self {
            P::Stated(_, _)
            | P::WrongCredentials
            | P::NoPassword
            | P::PasswordTooLong
            | P::AccountLocked { .. }
            | P::SessionNotFresh
            | P::TooManyRequests { .. } => {
                let (status, code, text) = self.v1_parts();
                self.respond(status, json!({"error": text, "code": code}))
            }
            _ => self.guarded(),
        }
    }

    /// Status, code and sentence on `/api/v1/auth/*`.
    fn v1_parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            P::Validation(_)
            | P::InvalidJson
            | P::RedirectNotText(_)
            | P::FieldNotAllowed(_)
            | P::InvalidEmail
            | P::IdempotencyKeyInvalid
            | P::EmailMismatch
            | P::EmailUnchanged
            | P::EmailNotUpdatable
            | P::NothingToUpdate
            | P::NoPassword
            | P::EmailAlreadyVerified => (StatusCode::BAD_REQUEST, "VALIDATION", "Invalid request"),
            P::UnsupportedMediaType(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "VALIDATION",
                "Invalid request",
            ),
            P::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "VALIDATION", "Invalid request"),
            P::PayloadTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "VALIDATION",
                "Invalid request",
            ),
            P::MissingOrNullOrigin
            | P::InvalidOrigin
            | P::CrossSiteNavigation
            | P::InvalidRedirect(_) => (StatusCode::FORBIDDEN, "VALIDATION", "Invalid request"),
            P::PasswordTooShort
            | P::PasswordTooLong
            | P::PasswordTooSimilar
            | P::PasswordBreached => (
                StatusCode::BAD_REQUEST,
                "WEAK_PASSWORD",
                "Password too weak",
            ),
            P::EmailTaken => (
                StatusCode::CONFLICT,
                "EMAIL_ALREADY_REGISTERED",
                "Email already registered",
            ),
            P::WrongCredentials | P::InvalidPassword => (
                StatusCode::UNAUTHORIZED,
                "INVALID_CREDENTIALS",
                "Invalid credentials",
            ),
            P::AccountLocked { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "ACCOUNT_LOCKED",
                "Account locked",
            ),
            P::SignupLimitReached { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "SIGNUP_LIMIT_REACHED",
                "Registration limit reached",
            ),
            P::EmailNotVerified => (
                StatusCode::FORBIDDEN,
                "EMAIL_NOT_VERIFIED",
                "Email not verified",
            ),
            P::InvalidToken | P::InvalidResetToken | P::InvalidDeletionToken => {
                (StatusCode::BAD_REQUEST, "TOKEN_INVALID", "Invalid link")
            }
            P::InvalidRefreshToken => (
                StatusCode::UNAUTHORIZED,
                "TOKEN_INVALID",
                "Invalid refresh token",
            ),
            P::NothingToRefresh => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED", "Session expired"),
            P::NoSession => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "No valid session"),
            P::SessionNotFresh | P::SessionExpired => (
                StatusCode::FORBIDDEN,
                "SESSION_NOT_FRESH",
                "Session is not fresh",
            ),
            P::StepUpRequired { .. } => (
                StatusCode::FORBIDDEN,
                "STEP_UP_REQUIRED",
                "Please confirm that it is you",
            ),
            P::AdminOnly => (StatusCode::FORBIDDEN, "FORBIDDEN", "Forbidden"),
            P::Banned => (StatusCode::FORBIDDEN, "BANNED_USER", "Account is banned"),
            P::Stated(stated, _) => (
                stated.status,
                stated.code.unwrap_or("VALIDATION"),
                stated.message,
            ),
            P::NotFound | P::NoUserInfo => (StatusCode::NOT_FOUND, "NOT_FOUND", "Not found"),
            P::TokenExpired => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED", "Link expired"),
            P::UserNotFound => (StatusCode::NOT_FOUND, "NOT_FOUND", "Not found"),
            P::Unauthorized | P::BearerMissing | P::BearerInvalid { .. } => {
                (StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Unauthorized")
            }
            P::TooManyRequests { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMITED",
                "Too many requests",
            ),
            P::DeferredRefreshOff => (
                StatusCode::METHOD_NOT_ALLOWED,
                "VALIDATION",
                "Invalid request",
            ),
            P::IdempotencyKeyMisused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "VALIDATION",
                "Invalid request",
            ),
            P::Conflict => (
                StatusCode::CONFLICT,
                "SERVICE_UNAVAILABLE",
                "Service temporarily unavailable",
            ),
            P::Overloaded { .. } | P::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVICE_UNAVAILABLE",
                "Service temporarily unavailable",
            ),
            P::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                "Unexpected server error",
            ),
        }
    }

    fn respond(&self, status: StatusCode, mut body: Value) -> Response {
        if let P::StepUpRequired { methods } = self {
            body["methods"] = json!(methods);
        }
        let mut response = (status, Json(body)).into_response();
        if let Some(secs) = self.retry_after_secs() {
            let value = HeaderValue::from(secs);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, value.clone());
            if status == StatusCode::TOO_MANY_REQUESTS {
                response.headers_mut().insert("x-retry-after", value);
            }
        }
        response
    }
}

/// Carries the problem to the layer that shapes it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.native();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict | StoreError::CustodyChanged => P::Conflict,
            StoreError::ClaimTaken(scope) if scope == aggregates::ClaimScope::Email.as_str() => {
                P::EmailTaken
            }
            StoreError::ClaimTaken(_) => P::Conflict,
            // Erased while the request ran: from now on there is no such account.
            StoreError::NoDataKey | StoreError::SessionOver => P::Unauthorized,
            StoreError::TokenUsed => P::InvalidToken,
            StoreError::LastAdmin => P::Stated(&LAST_ADMIN, None),
            // The first of two equal requests is still being carried out.
            StoreError::IdempotencyKeyUsed => P::Conflict,
            StoreError::Busy => P::Overloaded {
                retry_after_secs: 1,
            },
            StoreError::Unavailable(reason) => {
                tracing::error!(reason, "the database is not available");
                P::Unavailable
            }
            StoreError::KekUsedUp(used_up) => {
                tracing::error!("{used_up}");
                P::Unavailable
            }
            StoreError::Broken(reason) => {
                tracing::error!(reason, "the store is broken");
                P::Internal
            }
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::EmailTaken => P::EmailTaken,
            AccountError::WrongCredentials => P::WrongCredentials,
            AccountError::EmailNotVerified => P::EmailNotVerified,
            AccountError::Overloaded(overloaded) => P::Overloaded {
                retry_after_secs: overloaded.retry_after_secs,
            },
            AccountError::Store(error) => error.into(),
            AccountError::NoAccount => P::Unauthorized,
            AccountError::OtherEmail | AccountError::InvalidToken => P::InvalidToken,
            AccountError::Locked { retry_after_secs } => P::AccountLocked { retry_after_secs },
            AccountError::TooMany { retry_after_secs } => P::TooManyRequests { retry_after_secs },
            AccountError::NoPassword => P::NoPassword,
            AccountError::Refused(_) => P::Conflict,
            AccountError::Banned => P::Banned,
            AccountError::LastAdmin => P::Stated(&LAST_ADMIN, None),
        }
    }
}
