//! What the routes of admins say when they refuse something.

use axum::http::StatusCode;

use crate::accounts::AccountError;
use crate::http::error::{Problem, Stated};

const fn stated(status: StatusCode, code: &'static str, message: &'static str) -> Stated {
    Stated {
        status,
        code: Some(code),
        message,
    }
}

const fn forbidden(code: &'static str, message: &'static str) -> Stated {
    stated(StatusCode::FORBIDDEN, code, message)
}

const fn refused(code: &'static str, message: &'static str) -> Stated {
    stated(StatusCode::BAD_REQUEST, code, message)
}

/// Nobody takes the last admin away, themselves included (S-65).
pub static LAST_ADMIN: Stated = refused("LAST_ADMIN", "The last admin stays an admin");

pub(super) static MAY_NOT_LIST: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS",
    "You are not allowed to list users",
);
pub(super) static MAY_NOT_GET: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_GET_USER",
    "You are not allowed to get user",
);
pub(super) static MAY_NOT_CREATE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_CREATE_USERS",
    "You are not allowed to create users",
);
pub(super) static MAY_NOT_UPDATE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_UPDATE_USERS",
    "You are not allowed to update users",
);
pub(super) static MAY_NOT_DELETE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_DELETE_USERS",
    "You are not allowed to delete users",
);
pub(super) static MAY_NOT_SET_ROLE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_CHANGE_USERS_ROLE",
    "You are not allowed to change users role",
);
pub(super) static MAY_NOT_BAN: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_BAN_USERS",
    "You are not allowed to ban users",
);
pub(super) static MAY_NOT_SET_PASSWORD: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_SET_USERS_PASSWORD",
    "You are not allowed to set users password",
);
pub(super) static MAY_NOT_LIST_SESSIONS: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS_SESSIONS",
    "You are not allowed to list users sessions",
);
pub(super) static MAY_NOT_REVOKE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS",
    "You are not allowed to revoke users sessions",
);
pub(super) static MAY_NOT_IMPERSONATE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS",
    "You are not allowed to impersonate users",
);
pub(super) static NO_ADMINS: Stated = forbidden(
    "YOU_CANNOT_IMPERSONATE_ADMINS",
    "You cannot impersonate admins",
);
pub(super) static NO_SUCH_USER: Stated =
    stated(StatusCode::NOT_FOUND, "USER_NOT_FOUND", "User not found");
pub(super) static EMAIL_TAKEN: Stated = refused(
    "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL",
    "User already exists. Use another email.",
);
pub(super) static NOT_YOURSELF_BANNED: Stated =
    refused("YOU_CANNOT_BAN_YOURSELF", "You cannot ban yourself");
pub(super) static NOT_YOURSELF_REMOVED: Stated =
    refused("YOU_CANNOT_REMOVE_YOURSELF", "You cannot remove yourself");
pub(super) static NO_DATA: Stated = refused("NO_DATA_TO_UPDATE", "No data to update");
pub(super) static NO_PASSWORD_HERE: Stated = refused(
    "PASSWORD_CANNOT_BE_UPDATED_VIA_UPDATE_USER",
    "Password cannot be updated through update-user. Use the set-user-password endpoint instead",
);
pub(super) static NO_ID_HERE: Stated =
    refused("USER_ID_CANNOT_BE_UPDATED", "User id cannot be updated");
pub(super) static INVALID_ROLE: Stated = refused("INVALID_ROLE_TYPE", "Invalid role type");
pub(super) static IMPERSONATES_NOBODY: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: None,
    message: "You are not impersonating anyone",
};
pub(super) static NOTHING_TO_CHECK: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: None,
    message: "invalid permission check. no permission(s) were passed.",
};

pub(super) fn said(words: &'static Stated) -> Problem {
    Problem::Stated(words, None)
}

/// Problems in the words of these routes.
pub(super) fn worded(error: AccountError) -> Problem {
    match error {
        AccountError::EmailTaken => said(&EMAIL_TAKEN),
        AccountError::NoAccount => said(&NO_SUCH_USER),
        // Their address was changed at the same time.
        AccountError::OtherEmail => Problem::Conflict,
        error => error.into(),
    }
}
