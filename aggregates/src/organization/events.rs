//! What can have happened to an organization. Stored for ever: see `tests/stored_format`.
//!
//! What the organization calls itself and its teams is sealed under its own data key. The address of an invitation is
//! about somebody else, and sealed under a key of the invitation: it is destroyed with the organization or with the
//! person whose address it is, whichever goes first.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use super::permissions::Permissions;
use crate::user::Change;
use crate::{ClaimChange, ClaimScope, EmailAddress, Personal, StoredEvent, UserId};

/// A fact about an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationEvent {
    /// It exists from now on.
    Created {
        /// As the owner wrote it.
        name: Personal<String>,
        /// Held by this organization alone.
        slug: Personal<String>,
        /// Address of a picture.
        logo: Option<Personal<String>>,
        /// JSON text of the applications.
        metadata: Option<Personal<String>>,
        /// Who made it; the first events of this type did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Fields that are absent stayed as they were.
    Updated {
        /// New name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Personal<String>>,
        /// New logo, or its removal.
        #[serde(default, skip_serializing_if = "Change::is_kept")]
        logo: Change,
        /// New metadata, or their removal.
        #[serde(default, skip_serializing_if = "Change::is_kept")]
        metadata: Change,
        /// When.
        at: DateTime<Utc>,
    },
    /// It is found under another slug; the one before is free.
    SlugChanged {
        /// The slug until now.
        from: Personal<String>,
        /// The slug from now on.
        to: Personal<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody belongs to it.
    MemberAdded {
        /// Of the membership.
        member_id: String,
        /// Who.
        user_id: UserId,
        /// Roles, joined by commas.
        role: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A member has other roles.
    MemberRoleChanged {
        /// Whose.
        member_id: String,
        /// The roles from now on, joined by commas.
        role: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody does not belong to it any more. Their teams are left by events of their own.
    MemberRemoved {
        /// Of the membership.
        member_id: String,
        /// Who.
        user_id: UserId,
        /// Why.
        reason: RemovalReason,
        /// When.
        at: DateTime<Utc>,
    },
    /// An address may come in.
    InvitationSent {
        /// Of the invitation.
        invitation_id: String,
        /// Whose account may accept it.
        email: Personal<EmailAddress>,
        /// Roles, joined by commas.
        role: String,
        /// Teams that they join as well.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        team_ids: Vec<String>,
        /// Who asked them in.
        inviter_id: UserId,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// An invitation that stands was sent again and lasts longer.
    InvitationRenewed {
        /// Which.
        invitation_id: String,
        /// The new end.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// An invitation was used.
    InvitationAccepted {
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Whoever was invited does not want to.
    InvitationRejected {
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// An invitation was taken back.
    InvitationCanceled {
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Whoever was invited is erased: nobody was, and the invitation's data key is destroyed.
    InvitationErased {
        /// Which.
        invitation_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Members can have this role.
    RoleCreated {
        /// Of the role.
        role_id: String,
        /// Lower case.
        name: String,
        /// What it allows.
        permission: Permissions,
        /// When.
        at: DateTime<Utc>,
    },
    /// A role is called or allows something else. Fields that are absent stayed as they were.
    RoleUpdated {
        /// Which.
        role_id: String,
        /// The name from now on; members who have the role follow by events of their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it allows from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permission: Option<Permissions>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Nobody can have this role any more.
    RoleDeleted {
        /// Which.
        role_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// There is a team.
    TeamCreated {
        /// Of the team.
        team_id: String,
        /// As somebody wrote it.
        name: Personal<String>,
        /// Whether the organization began with it.
        first: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// A team has another name.
    TeamRenamed {
        /// Which.
        team_id: String,
        /// The name from now on.
        name: Personal<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The team is gone; its members left it by events of their own.
    TeamRemoved {
        /// Which.
        team_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A member belongs to a team.
    TeamMemberAdded {
        /// Of the membership.
        team_member_id: String,
        /// Which.
        team_id: String,
        /// Who.
        user_id: UserId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A member does not belong to a team any more.
    TeamMemberRemoved {
        /// Of the membership.
        team_member_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// It is over for good: nobody belongs to it, its slug is free, and its data keys are destroyed.
    Closed {
        /// Why.
        reason: CloseReason,
        /// Who wanted it; the first events of this type did not say, and nobody wants a deserted one closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Why somebody does not belong to an organization any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// Another member took them out.
    Removed,
    /// They went.
    Left,
    /// Their account is closed.
    Erased,
}

/// Why an organization is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// A member wanted it.
    Deleted,
    /// The account of its only member is closed.
    Deserted,
}

impl DomainEvent for OrganizationEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Created { .. } => "organization.created",
            Self::Updated { .. } => "organization.updated",
            Self::SlugChanged { .. } => "organization.slug_changed",
            Self::MemberAdded { .. } => "organization.member_added",
            Self::MemberRoleChanged { .. } => "organization.member_role_changed",
            Self::MemberRemoved { .. } => "organization.member_removed",
            Self::InvitationSent { .. } => "organization.invitation_sent",
            Self::InvitationRenewed { .. } => "organization.invitation_renewed",
            Self::InvitationAccepted { .. } => "organization.invitation_accepted",
            Self::InvitationRejected { .. } => "organization.invitation_rejected",
            Self::InvitationCanceled { .. } => "organization.invitation_canceled",
            Self::InvitationErased { .. } => "organization.invitation_erased",
            Self::RoleCreated { .. } => "organization.role_created",
            Self::RoleUpdated { .. } => "organization.role_updated",
            Self::RoleDeleted { .. } => "organization.role_deleted",
            Self::TeamCreated { .. } => "organization.team_created",
            Self::TeamRenamed { .. } => "organization.team_renamed",
            Self::TeamRemoved { .. } => "organization.team_removed",
            Self::TeamMemberAdded { .. } => "organization.team_member_added",
            Self::TeamMemberRemoved { .. } => "organization.team_member_removed",
            Self::Closed { .. } => "organization.closed",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for OrganizationEvent {
    fn claims(&self) -> Vec<ClaimChange> {
        // An erased slug holds and frees nothing: closing has released whatever there was.
        let slug = |change: fn(ClaimScope, String) -> ClaimChange, slug: &Personal<String>| {
            slug.get()
                .map(|slug| change(ClaimScope::Slug, slug.clone()))
        };
        match self {
            Self::Created { slug: to, .. } => slug(ClaimChange::Take, to).into_iter().collect(),
            Self::SlugChanged { from, to, .. } => {
                let released = slug(ClaimChange::Release, from);
                released
                    .into_iter()
                    .chain(slug(ClaimChange::Take, to))
                    .collect()
            }
            Self::Closed { .. } => vec![ClaimChange::ReleaseAll],
            Self::Updated { .. }
            | Self::MemberAdded { .. }
            | Self::MemberRoleChanged { .. }
            | Self::MemberRemoved { .. }
            | Self::InvitationSent { .. }
            | Self::InvitationRenewed { .. }
            | Self::InvitationAccepted { .. }
            | Self::InvitationRejected { .. }
            | Self::InvitationCanceled { .. }
            | Self::InvitationErased { .. }
            | Self::RoleCreated { .. }
            | Self::RoleUpdated { .. }
            | Self::RoleDeleted { .. }
            | Self::TeamCreated { .. }
            | Self::TeamRenamed { .. }
            | Self::TeamRemoved { .. }
            | Self::TeamMemberAdded { .. }
            | Self::TeamMemberRemoved { .. } => Vec::new(),
        }
    }
}
