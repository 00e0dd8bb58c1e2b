//! Which recorded exchanges the service answers by now. When a route is built, it gets its line here.

use super::transcripts::{Case, Step};

/// The areas that are replayed; those of the other files are not built yet.
pub const AREAS: [&str; 23] = [
    "accounts",
    "admin",
    "bearer",
    "custom-v1",
    "email-verification",
    "errors",
    "jwt",
    "magic-link",
    "multi-session",
    "organization",
    "organization-roles",
    "organization-teams",
    "passkey",
    "password-reset",
    "rate-limit",
    "secure-cookies",
    "session",
    "sign-in",
    "sign-out",
    "sign-up",
    "social",
    "two-factor",
    "user",
];

/// The routes that exist. Within the areas above, exchanges with any other route are not built yet.
const ROUTES: [&str; 54] = [
    "/api/auth/account-info",
    "/api/auth/callback/fake",
    "/api/auth/change-email",
    "/api/auth/change-password",
    "/api/auth/delete-user",
    "/api/auth/delete-user/callback",
    "/api/auth/error",
    "/api/auth/get-access-token",
    "/api/auth/get-session",
    "/api/auth/jwks",
    "/api/auth/link-social",
    "/api/auth/list-accounts",
    "/api/auth/list-sessions",
    "/api/auth/magic-link/verify",
    "/api/auth/ok",
    "/api/auth/passkey/delete-passkey",
    "/api/auth/passkey/generate-authenticate-options",
    "/api/auth/passkey/generate-register-options",
    "/api/auth/passkey/list-user-passkeys",
    "/api/auth/passkey/update-passkey",
    "/api/auth/passkey/verify-authentication",
    "/api/auth/passkey/verify-registration",
    "/api/auth/refresh-token",
    "/api/auth/request-password-reset",
    "/api/auth/reset-password",
    "/api/auth/revoke-other-sessions",
    "/api/auth/revoke-session",
    "/api/auth/revoke-sessions",
    "/api/auth/send-verification-email",
    "/api/auth/sign-in/email",
    "/api/auth/sign-in/magic-link",
    "/api/auth/sign-in/social",
    "/api/auth/sign-out",
    "/api/auth/sign-up/email",
    "/api/auth/token",
    "/api/auth/two-factor/disable",
    "/api/auth/two-factor/enable",
    "/api/auth/two-factor/generate-backup-codes",
    "/api/auth/two-factor/get-totp-uri",
    "/api/auth/two-factor/send-otp",
    "/api/auth/two-factor/verify-backup-code",
    "/api/auth/two-factor/verify-otp",
    "/api/auth/two-factor/verify-totp",
    "/api/auth/unlink-account",
    "/api/auth/update-session",
    "/api/auth/update-user",
    "/api/auth/verify-email",
    "/api/auth/verify-password",
    "/api/v1/auth/jwks",
    "/api/v1/auth/login",
    "/api/v1/auth/logout",
    "/api/v1/auth/register",
    "/api/v1/auth/session",
    "/api/v1/auth/validate",
];

/// Whether a step of a recorded case can be played.
///
/// A case whose first exchange is not built is not played at all, since what follows shows the effect of that one.
pub fn is_built(area: &str, case: &Case, step: usize) -> bool {
    let exchange_at = |step: usize| {
        case.steps[..=step]
            .iter()
            .rev()
            .find(|step| step.request.is_some())
    };
    let first = case.steps.iter().find(|step| step.request.is_some());
    AREAS.contains(&area)
        && first.is_some_and(is_routed_as_recorded)
        // A mail belongs to the exchange before it.
        && exchange_at(step).is_none_or(is_routed_as_recorded)
}

/// Whether the exchange goes to a route that exists, or to one that never will.
fn is_routed_as_recorded(exchange: &Step) -> bool {
    let (Some(request), Some(response)) = (&exchange.request, &exchange.response) else {
        return false;
    };
    ROUTES.contains(&request.path.as_str())
        || request.path.starts_with("/api/auth/organization/")
        // The token is a part of the path.
        || request.path.starts_with("/api/auth/reset-password/")
        || request.path.starts_with("/api/auth/admin/")
        || request.path.starts_with("/api/auth/multi-session/")
        || response.is_unrouted()
}
