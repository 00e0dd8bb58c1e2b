//! What the routes of organizations say when they refuse, as clients know it: `CODE: status, message`.

use aggregates::organization::OrganizationError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::http::answers::Refusal;
use crate::http::error::{Problem, Stated};
use crate::organizations::Failure;
use crate::store::{RunError, StoreError};

macro_rules! words {
    ($($code:ident: $status:ident, $message:literal;)+) => {
        $(#[doc = concat!("`", stringify!($code), "`.")]
        pub static $code: Stated = Stated {
            status: StatusCode::$status,
            code: Some(stringify!($code)),
            message: $message,
        };)+
    };
}

words! {
    ORGANIZATION_ALREADY_EXISTS: BAD_REQUEST, "Organization already exists";
    ORGANIZATION_SLUG_ALREADY_TAKEN: BAD_REQUEST, "Organization slug already taken";
    ORGANIZATION_NOT_FOUND: BAD_REQUEST, "Organization not found";
    NO_ACTIVE_ORGANIZATION: BAD_REQUEST, "No active organization";
    USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION: BAD_REQUEST, "User is not a member of the organization";
    YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION: FORBIDDEN, "You are not a member of this organization";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_ORGANIZATION: FORBIDDEN, "You are not allowed to update this organization";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_ORGANIZATION: FORBIDDEN, "You are not allowed to delete this organization";
    MEMBER_NOT_FOUND: BAD_REQUEST, "Member not found";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER: FORBIDDEN, "You are not allowed to update this member";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_MEMBER: UNAUTHORIZED, "You are not allowed to delete this member";
    YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER: BAD_REQUEST,
        "You cannot leave the organization without an owner";
    YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER: BAD_REQUEST,
        "You cannot leave the organization as the only owner";
    USER_IS_ALREADY_INVITED_TO_THIS_ORGANIZATION: BAD_REQUEST, "User is already invited to this organization";
    USER_IS_ALREADY_A_MEMBER_OF_THIS_ORGANIZATION: BAD_REQUEST, "User is already a member of this organization";
    YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION: FORBIDDEN,
        "You are not allowed to invite users to this organization";
    YOU_ARE_NOT_ALLOWED_TO_INVITE_USER_WITH_THIS_ROLE: FORBIDDEN,
        "You are not allowed to invite a user with this role";
    YOU_ARE_NOT_ALLOWED_TO_LIST_INVITATIONS: FORBIDDEN,
        "You are not allowed to list invitations for this organization";
    YOU_ARE_NOT_ALLOWED_TO_CANCEL_THIS_INVITATION: FORBIDDEN, "You are not allowed to cancel this invitation";
    INVITATION_LIMIT_REACHED: FORBIDDEN, "Invitation limit reached";
    INVITATION_NOT_FOUND: BAD_REQUEST, "Invitation not found";
    YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION: FORBIDDEN, "You are not the recipient of the invitation";
    INVITER_IS_NO_LONGER_A_MEMBER_OF_THE_ORGANIZATION: BAD_REQUEST,
        "Inviter is no longer a member of the organization";
    EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION: FORBIDDEN,
        "Email verification required before accepting or rejecting invitation";
    EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION: FORBIDDEN,
        "Email verification required to view or list invitations for the session email";
    ORGANIZATION_MEMBERSHIP_LIMIT_REACHED: FORBIDDEN, "Organization membership limit reached";
    ROLE_NOT_FOUND: BAD_REQUEST, "Role not found";
    ROLE_NAME_IS_ALREADY_TAKEN: BAD_REQUEST, "That role name is already taken";
    CANNOT_DELETE_A_PRE_DEFINED_ROLE: BAD_REQUEST, "Cannot delete a pre-defined role";
    ROLE_IS_ASSIGNED_TO_MEMBERS: BAD_REQUEST,
        "Cannot delete a role that is assigned to members. Please reassign the members to a different role first";
    TOO_MANY_ROLES: BAD_REQUEST, "This organization has too many roles";
    INVALID_RESOURCE: BAD_REQUEST, "The provided permission includes an invalid resource";
    YOU_MUST_BE_IN_AN_ORGANIZATION_TO_CREATE_A_ROLE: BAD_REQUEST,
        "You must be in an organization to create a role";
    YOU_ARE_NOT_ALLOWED_TO_CREATE_A_ROLE: FORBIDDEN, "You are not allowed to create a role";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_A_ROLE: FORBIDDEN, "You are not allowed to update a role";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_A_ROLE: FORBIDDEN, "You are not allowed to delete a role";
    YOU_ARE_NOT_ALLOWED_TO_LIST_A_ROLE: FORBIDDEN, "You are not allowed to list a role";
    YOU_ARE_NOT_ALLOWED_TO_READ_A_ROLE: FORBIDDEN, "You are not allowed to read a role";
    TEAM_NOT_FOUND: BAD_REQUEST, "Team not found";
    INVALID_TEAM_ID: BAD_REQUEST, "Team id contains a reserved character";
    UNABLE_TO_REMOVE_LAST_TEAM: BAD_REQUEST, "Unable to remove last team";
    YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_TEAMS: BAD_REQUEST, "You have reached the maximum number of teams";
    YOU_ARE_NOT_ALLOWED_TO_ACCESS_THIS_ORGANIZATION: FORBIDDEN,
        "You are not allowed to access this organization as an owner";
    YOU_ARE_NOT_ALLOWED_TO_CREATE_TEAMS_IN_THIS_ORGANIZATION: FORBIDDEN,
        "You are not allowed to create teams in this organization";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_TEAMS_IN_THIS_ORGANIZATION: FORBIDDEN,
        "You are not allowed to delete teams in this organization";
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_TEAM: FORBIDDEN, "You are not allowed to update this team";
    YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM: FORBIDDEN, "You are not allowed to delete this team";
    YOU_ARE_NOT_ALLOWED_TO_CREATE_A_NEW_TEAM_MEMBER: FORBIDDEN, "You are not allowed to create a new member";
    YOU_ARE_NOT_ALLOWED_TO_REMOVE_A_TEAM_MEMBER: FORBIDDEN, "You are not allowed to remove a team member";
    YOU_DO_NOT_HAVE_AN_ACTIVE_TEAM: BAD_REQUEST, "You do not have an active team";
    USER_IS_NOT_A_MEMBER_OF_THE_TEAM: BAD_REQUEST, "User is not a member of the team";
}

/// On routes that look only.
pub static NOT_A_MEMBER_FORBIDDEN: Stated = Stated {
    status: StatusCode::FORBIDDEN,
    ..copied(&USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION)
};
/// To whoever asks what they may do.
pub static NOT_A_MEMBER_UNAUTHORIZED: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    ..copied(&USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION)
};
/// Without a code.
pub static NOT_A_MEMBER_UNCODED: Stated = Stated {
    code: None,
    ..copied(&YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION)
};
/// Not in a team that one wants to be in.
pub static NOT_IN_TEAM_FORBIDDEN: Stated = Stated {
    status: StatusCode::FORBIDDEN,
    ..copied(&USER_IS_NOT_A_MEMBER_OF_THE_TEAM)
};
/// As rejecting says it.
pub static NO_INVITATION_TO_REJECT: Stated = Stated {
    message: "Invitation not found!",
    ..copied(&INVITATION_NOT_FOUND)
};
/// Without a code.
pub static ORGANIZATION_ID_REQUIRED: Stated =
    uncoded(StatusCode::BAD_REQUEST, "Organization ID is required");
/// Without a code.
pub static EMAIL_NOT_FOR_CLIENTS: Stated = uncoded(
    StatusCode::BAD_REQUEST,
    "User email cannot be passed for client side API calls.",
);
/// Without a code.
pub static NO_SESSION_FOR_INVITATIONS: Stated = uncoded(
    StatusCode::BAD_REQUEST,
    "Missing session headers, or email query parameter.",
);
/// Without a code.
pub static NOT_AUTHENTICATED: Stated = uncoded(StatusCode::UNAUTHORIZED, "Not authenticated");
/// Without a code.
pub static NOBODY_UPDATES: Stated = uncoded(StatusCode::UNAUTHORIZED, "User not found");

/// The same, to be changed in part.
pub const fn copied(stated: &Stated) -> Stated {
    Stated {
        status: stated.status,
        code: stated.code,
        message: stated.message,
    }
}

const fn uncoded(status: StatusCode, message: &'static str) -> Stated {
    Stated {
        status,
        code: None,
        message,
    }
}

/// A refusal in its own words.
pub fn told(stated: &'static Stated) -> Refusal {
    Problem::Stated(stated, None).into()
}

/// An answer that holds more than its code and message.
pub fn told_more(stated: &Stated, more: serde_json::Value) -> Refusal {
    let mut body = json!({"message": stated.message});
    if let Some(code) = stated.code {
        body["code"] = json!(code);
    }
    if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    Refusal::answer((stated.status, Json(body)).into_response())
}

/// What a route says to whoever does not belong to the organization, and to a member who may not do this.
#[derive(Clone, Copy)]
pub struct Words {
    /// To strangers; also where there is no such organization.
    pub not_a_member: &'static Stated,
    /// To members.
    pub not_allowed: &'static Stated,
}

impl Words {
    /// The answer to a command that was not carried out.
    pub fn refusal(self, failure: Failure) -> Refusal {
        use OrganizationError as E;
        let error = match failure {
            RunError::Store(StoreError::ClaimTaken(_)) => {
                return told(&ORGANIZATION_SLUG_ALREADY_TAKEN);
            }
            // Closed meanwhile: its key is gone.
            RunError::Store(StoreError::NoDataKey) => return told(self.not_a_member),
            RunError::Store(error) => return Problem::from(error).into(),
            RunError::Refused(error) => error,
        };
        told(match error {
            E::NotFound | E::NotAMember => self.not_a_member,
            E::NotAllowed | E::RoleAboveOwn => self.not_allowed,
            E::RoleNotFound(name) if name.is_empty() => &ROLE_NOT_FOUND,
            E::RoleNotFound(name) => {
                let message = json!({"message": format!("ROLE_NOT_FOUND: {name}")});
                return told_more(&ROLE_NOT_FOUND, message);
            }
            E::MemberNotFound => &MEMBER_NOT_FOUND,
            E::LastOwner => &YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER,
            E::TooManyMembers => &ORGANIZATION_MEMBERSHIP_LIMIT_REACHED,
            E::AlreadyMember => &USER_IS_ALREADY_A_MEMBER_OF_THIS_ORGANIZATION,
            E::AlreadyInvited => &USER_IS_ALREADY_INVITED_TO_THIS_ORGANIZATION,
            E::TooManyInvitations => &INVITATION_LIMIT_REACHED,
            E::InvitationNotFound => &INVITATION_NOT_FOUND,
            E::NotTheRecipient => &YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION,
            E::InviterGone => &INVITER_IS_NO_LONGER_A_MEMBER_OF_THE_ORGANIZATION,
            E::RoleNameTaken => &ROLE_NAME_IS_ALREADY_TAKEN,
            E::RoleNameInvalid => {
                let text = "A role's name has 1 to 64 characters and no comma".to_owned();
                return Problem::Validation(text).into();
            }
            E::RolePredefined => &CANNOT_DELETE_A_PRE_DEFINED_ROLE,
            E::RoleAssigned => &ROLE_IS_ASSIGNED_TO_MEMBERS,
            E::TooManyRoles => &TOO_MANY_ROLES,
            E::NoSuchResource => &INVALID_RESOURCE,
            E::Missing(missing) => {
                return told_more(self.not_allowed, json!({"missingPermissions": missing}));
            }
            E::TeamNotFound => &TEAM_NOT_FOUND,
            E::LastTeam => &UNABLE_TO_REMOVE_LAST_TEAM,
            E::TooManyTeams => &YOU_HAVE_REACHED_THE_MAXIMUM_NUMBER_OF_TEAMS,
            E::Stranger => &USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION,
            E::NotInTeam => &USER_IS_NOT_A_MEMBER_OF_THE_TEAM,
            // Nobody has given these commands here, or somebody was faster.
            E::AlreadyExists | E::LastMember | E::OtherMembers | E::Outdated => {
                return Problem::Conflict.into();
            }
        })
    }
}
