//! What can be asked of an organization. `actor` is always the person whose session asks: what they may do is decided
//! by the member that they are inside the append, never by anything that a request says (S-62).

use chrono::{DateTime, Utc};

use super::permissions::Permissions;
use crate::{EmailAddress, OrganizationId, UserId};

/// A request to change an organization.
#[derive(Clone)]
pub enum OrganizationCommand {
    /// Make one.
    Create(Foundation),
    /// Change what it shows of itself.
    Update {
        /// Who asks.
        actor: UserId,
        /// What changes.
        update: Update,
        /// When.
        at: DateTime<Utc>,
    },
    /// Close it for good. The data keys of the organization and of its invitations are destroyed beside the command.
    Delete {
        /// Who asks.
        actor: UserId,
        /// How many invitations the caller knows; refused if one was sent since, whose key would stay.
        invitations: usize,
        /// When.
        at: DateTime<Utc>,
    },
    /// Close it because its only member's account is being erased; keys as with `Delete`.
    Desert {
        /// The only member.
        user_id: UserId,
        /// As with `Delete`.
        invitations: usize,
        /// When.
        at: DateTime<Utc>,
    },
    /// Remove a person whose account is being erased; if nobody else owns it, somebody else will.
    ForgetMember {
        /// Who.
        user_id: UserId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give a member other roles.
    ChangeMemberRole {
        /// Who asks.
        actor: UserId,
        /// Whose roles.
        member_id: String,
        /// The new roles, joined by commas.
        role: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take a member out.
    RemoveMember {
        /// Who asks.
        actor: UserId,
        /// Whom.
        member_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Go.
    Leave {
        /// Who.
        actor: UserId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Ask somebody in.
    Invite(Invite),
    /// Send an invitation that stands once more; it lasts longer.
    RenewInvitation {
        /// Who asks.
        actor: UserId,
        /// Which.
        invitation_id: String,
        /// The new end.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Come in.
    AcceptInvitation(Acceptance),
    /// Do not come in.
    RejectInvitation {
        /// The address of the account that says so.
        email: EmailAddress,
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take an invitation back.
    CancelInvitation {
        /// Who asks.
        actor: UserId,
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Forget an invitation to somebody whose account is being erased; its data key is destroyed beside the command.
    EraseInvitation {
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Define a role.
    CreateRole {
        /// Who asks.
        actor: UserId,
        /// Its id.
        role_id: String,
        /// Its name, lower case.
        name: String,
        /// What it allows.
        permission: Permissions,
        /// When.
        at: DateTime<Utc>,
    },
    /// Change a role; `None` leaves a field as it is.
    UpdateRole {
        /// Who asks.
        actor: UserId,
        /// Which.
        role: RoleKey,
        /// New name, lower case.
        name: Option<String>,
        /// What it allows from now on.
        permission: Option<Permissions>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take a role away that nobody has.
    DeleteRole {
        /// Who asks.
        actor: UserId,
        /// Which.
        role: RoleKey,
        /// When.
        at: DateTime<Utc>,
    },
    /// Make a team.
    CreateTeam {
        /// Who asks.
        actor: UserId,
        /// Its id.
        team_id: String,
        /// As they wrote it.
        name: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give a team another name.
    RenameTeam {
        /// Who asks.
        actor: UserId,
        /// Which.
        team_id: String,
        /// The new name; `None` leaves it.
        name: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take a team away; one stays.
    RemoveTeam {
        /// Who asks.
        actor: UserId,
        /// Which.
        team_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Put a member into a team.
    AddTeamMember {
        /// Who asks.
        actor: UserId,
        /// Id of what makes them a member of it.
        team_member_id: String,
        /// Which.
        team_id: String,
        /// Whom.
        user_id: UserId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take a member out of a team.
    RemoveTeamMember {
        /// Who asks.
        actor: UserId,
        /// Which.
        team_id: String,
        /// Whom.
        user_id: UserId,
        /// When.
        at: DateTime<Utc>,
    },
}

/// An organization to be made.
#[derive(Clone)]
pub struct Foundation {
    /// Which it becomes.
    pub id: OrganizationId,
    /// Who makes it, and owns it.
    pub owner: UserId,
    /// Their member id.
    pub member_id: String,
    /// As the owner wrote it.
    pub name: String,
    /// Unique over all organizations.
    pub slug: String,
    /// Address of a picture.
    pub logo: Option<String>,
    /// JSON text of the applications.
    pub metadata: Option<String>,
    /// The team that it begins with, where there are teams.
    pub team: Option<FirstTeam>,
    /// When.
    pub at: DateTime<Utc>,
}

/// What changes of an organization; `None` leaves a field as it is.
#[derive(Clone, Default)]
pub struct Update {
    /// New name.
    pub name: Option<String>,
    /// New slug.
    pub slug: Option<String>,
    /// New logo; `Some(None)` removes it.
    pub logo: Option<Option<String>>,
    /// New metadata; `Some(None)` removes them.
    pub metadata: Option<Option<String>>,
}

/// Somebody to be asked in.
#[derive(Clone)]
pub struct Invite {
    /// Who asks.
    pub actor: UserId,
    /// Id of the invitation.
    pub invitation_id: String,
    /// Whose data key its address is sealed under.
    pub subject: String,
    /// Whom.
    pub email: EmailAddress,
    /// Whose address that is, if anybody's.
    pub invitee: Option<UserId>,
    /// Roles, joined by commas.
    pub role: String,
    /// Teams that they join as well.
    pub team_ids: Vec<String>,
    /// What happens if the address is invited already.
    pub again: Again,
    /// When the invitation ends by itself.
    pub expires_at: DateTime<Utc>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Somebody who comes in.
#[derive(Clone)]
pub struct Acceptance {
    /// Who.
    pub actor: UserId,
    /// The address of their account.
    pub email: EmailAddress,
    /// Which invitation.
    pub invitation_id: String,
    /// Their member id from now on.
    pub member_id: String,
    /// Ids of what makes them a member of teams, one for each team of the invitation.
    pub team_member_ids: Vec<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// The team that an organization begins with; named like it.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstTeam {
    /// Its id.
    pub team_id: String,
    /// Id of what makes the owner a member of it.
    pub team_member_id: String,
}

/// What happens to an address that is invited already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The request is refused.
    Refuse,
    /// The invitation that stands is taken back and another one is sent.
    Replace,
}

/// How a role is named.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleKey {
    /// By its id.
    Id(String),
    /// By its name.
    Name(String),
}
