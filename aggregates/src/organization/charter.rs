//! What is known of an organization: who belongs to it, what its roles mean, who is invited, which teams there are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::permissions::{self, Permissions};
use super::{OrganizationError, OrganizationEvent, RoleKey};
use crate::user::Change;
use crate::{EmailAddress, Personal, UserId};

/// An organization as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charter {
    pub(super) id: String,
    pub(super) name: Personal<String>,
    pub(super) slug: Personal<String>,
    pub(super) logo: Option<Personal<String>>,
    pub(super) metadata: Option<Personal<String>>,
    /// In the order in which they came.
    pub(super) members: Vec<Member>,
    /// Those that were neither used nor taken back; some may be out of date.
    pub(super) open: Vec<Invitation>,
    /// Every invitation that was ever sent and is not erased: each has a data key of its own.
    pub(super) invitation_ids: Vec<String>,
    pub(super) roles: Vec<CustomRole>,
    pub(super) teams: Vec<Team>,
}

/// Somebody who belongs to an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub(super) id: String,
    pub(super) user_id: UserId,
    pub(super) role: String,
}

/// An address that may come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invitation {
    pub(super) id: String,
    pub(super) email: Personal<EmailAddress>,
    pub(super) role: String,
    pub(super) team_ids: Vec<String>,
    pub(super) inviter_id: UserId,
    pub(super) expires_at: DateTime<Utc>,
}

/// A role that the organization has defined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomRole {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) permission: Permissions,
}

/// A part of an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Team {
    pub(super) id: String,
    pub(super) name: Personal<String>,
    /// Id of each membership, and whose it is.
    pub(super) members: Vec<(String, UserId)>,
}

impl Charter {
    pub(super) fn member_of(&self, user_id: &UserId) -> Result<&Member, OrganizationError> {
        let mut members = self.members.iter();
        members
            .find(|member| member.user_id == *user_id)
            .ok_or(OrganizationError::NotAMember)
    }

    pub(super) fn member(&self, id: &str) -> Result<&Member, OrganizationError> {
        let mut members = self.members.iter();
        members
            .find(|member| member.id == id)
            .ok_or(OrganizationError::MemberNotFound)
    }

    /// The person as a member who may do this.
    pub(super) fn allowed(
        &self,
        actor: &UserId,
        resource: &str,
        action: &str,
    ) -> Result<&Member, OrganizationError> {
        let member = self.member_of(actor)?;
        let asked = [(resource.to_owned(), vec![action.to_owned()])].into();
        if permissions::allows(&member.role, |role| self.permission_of(role), &asked) {
            Ok(member)
        } else {
            Err(OrganizationError::NotAllowed)
        }
    }

    pub(super) fn permission_of(&self, role: &str) -> Option<&Permissions> {
        let found = self.roles.iter().find(|custom| custom.name == role);
        found.map(|custom| &custom.permission)
    }

    /// Whether every one of the joined roles exists.
    pub(super) fn check_roles(&self, joined: &str) -> Result<(), OrganizationError> {
        let unknown = permissions::roles(joined)
            .find(|role| !permissions::is_predefined(role) && self.permission_of(role).is_none());
        match unknown {
            Some(role) => Err(OrganizationError::RoleNotFound(role.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether a member holds everything that the joined roles allow: nobody gives or takes what they lack (S-63).
    pub(super) fn is_above(&self, member: &Member, joined: &str) -> bool {
        let of = |role: &str| self.permission_of(role);
        let all = permissions::all_of(joined, of);
        let may_own = permissions::is_owner(&member.role) || !permissions::is_owner(joined);
        may_own && permissions::missing(&member.role, of, &all).is_empty()
    }

    pub(super) fn owners(&self) -> usize {
        let members = self.members.iter();
        members
            .filter(|member| permissions::is_owner(&member.role))
            .count()
    }

    pub(super) fn role(&self, key: &RoleKey) -> Result<&CustomRole, OrganizationError> {
        let found = self.roles.iter().find(|role| match key {
            RoleKey::Id(id) => role.id == *id,
            RoleKey::Name(name) => role.name == *name,
        });
        found.ok_or_else(|| OrganizationError::RoleNotFound(String::new()))
    }

    pub(super) fn team(&self, id: &str) -> Result<&Team, OrganizationError> {
        let found = self.teams.iter().find(|team| team.id == id);
        found.ok_or(OrganizationError::TeamNotFound)
    }

    /// The end of a person's part in every team.
    pub(super) fn leave_teams(
        &self,
        user_id: &UserId,
        at: DateTime<Utc>,
    ) -> impl Iterator<Item = OrganizationEvent> {
        let memberships = self.teams.iter().flat_map(|team| &team.members);
        memberships
            .filter(move |(_, member)| member == user_id)
            .map(move |(id, _)| OrganizationEvent::TeamMemberRemoved {
                team_member_id: id.clone(),
                at,
            })
    }

    fn close_invitation(&mut self, id: &str) {
        self.open.retain(|invitation| invitation.id != id);
    }

    pub(super) fn apply(&mut self, event: OrganizationEvent) {
        match event {
            OrganizationEvent::Created { .. } | OrganizationEvent::Closed { .. } => {}
            OrganizationEvent::Updated {
                name,
                logo,
                metadata,
                ..
            } => {
                if let Some(name) = name {
                    self.name = name;
                }
                apply_change(&mut self.logo, logo);
                apply_change(&mut self.metadata, metadata);
            }
            OrganizationEvent::SlugChanged { to, .. } => self.slug = to,
            OrganizationEvent::MemberAdded {
                member_id,
                user_id,
                role,
                ..
            } => self.members.push(Member {
                id: member_id,
                user_id,
                role,
            }),
            OrganizationEvent::MemberRoleChanged {
                member_id, role, ..
            } => {
                let found = self.members.iter_mut().find(|m| m.id == member_id);
                if let Some(member) = found {
                    member.role = role;
                }
            }
            OrganizationEvent::MemberRemoved { member_id, .. } => {
                self.members.retain(|member| member.id != member_id);
            }
            OrganizationEvent::InvitationSent {
                invitation_id,
                email,
                role,
                team_ids,
                inviter_id,
                expires_at,
                ..
            } => {
                self.invitation_ids.push(invitation_id.clone());
                self.open.push(Invitation {
                    id: invitation_id,
                    email,
                    role,
                    team_ids,
                    inviter_id,
                    expires_at,
                });
            }
            OrganizationEvent::InvitationRenewed {
                invitation_id,
                expires_at,
                ..
            } => {
                let found = self.open.iter_mut().find(|i| i.id == invitation_id);
                if let Some(invitation) = found {
                    invitation.expires_at = expires_at;
                }
            }
            OrganizationEvent::InvitationAccepted { invitation_id, .. }
            | OrganizationEvent::InvitationRejected { invitation_id, .. }
            | OrganizationEvent::InvitationCanceled { invitation_id, .. } => {
                self.close_invitation(&invitation_id);
            }
            OrganizationEvent::InvitationErased { invitation_id, .. } => {
                self.close_invitation(&invitation_id);
                self.invitation_ids.retain(|id| *id != invitation_id);
            }
            event @ (OrganizationEvent::RoleCreated { .. }
            | OrganizationEvent::RoleUpdated { .. }
            | OrganizationEvent::RoleDeleted { .. }) => self.apply_role(event),
            event @ (OrganizationEvent::TeamCreated { .. }
            | OrganizationEvent::TeamRenamed { .. }
            | OrganizationEvent::TeamRemoved { .. }
            | OrganizationEvent::TeamMemberAdded { .. }
            | OrganizationEvent::TeamMemberRemoved { .. }) => self.apply_team(event),
        }
    }
}

fn apply_change(field: &mut Option<Personal<String>>, change: Change) {
    match change {
        Change::Kept => {}
        Change::Removed => *field = None,
        Change::Set(value) => *field = Some(value),
    }
}
