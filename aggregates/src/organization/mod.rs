//! Organization: people who belong together, what each of them may do, and who is asked in. Every rule is decided from
//! the members as they are inside the append, so two requests that contradict each other cannot both win (S-65).

mod charter;
mod commands;
mod events;
mod invitations;
mod members;
pub mod permissions;
mod roles;
mod teams;
#[cfg(test)]
mod tests;

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

pub use charter::{Charter, CustomRole, Invitation, Member, Team};
pub use commands::{
    Acceptance, Again, FirstTeam, Foundation, Invite, OrganizationCommand, RoleKey, Update,
};
pub use events::{CloseReason, OrganizationEvent, RemovalReason};

use crate::Personal;

/// Most members of an organization.
pub const MEMBERS_MAX: usize = 100;
/// Most invitations that stand at one time.
pub const INVITATIONS_MAX: usize = 100;
/// Most roles that an organization defines.
pub const ROLES_MAX: usize = 100;
/// Most teams of an organization.
pub const TEAMS_MAX: usize = 100;

/// An organization in its stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Organization {
    /// Nobody made it.
    #[default]
    Absent,
    /// It stands.
    Open(Box<Charter>),
    /// Over for good.
    Closed,
}

/// Why a command on an organization is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrganizationError {
    /// The id is in use.
    #[error("the organization exists already")]
    AlreadyExists,
    /// There is no such organization (any more).
    #[error("there is no such organization")]
    NotFound,
    /// Whoever asks does not belong to it.
    #[error("the person is not a member")]
    NotAMember,
    /// Whoever asks may not do this.
    #[error("the member may not do this")]
    NotAllowed,
    /// The roles hold more than whoever asks has.
    #[error("the roles hold more than the member has")]
    RoleAboveOwn,
    /// There is no role of this name; empty where it was named by its id.
    #[error("there is no role {0}")]
    RoleNotFound(String),
    /// There is no such member.
    #[error("there is no such member")]
    MemberNotFound,
    /// Somebody has to own it.
    #[error("the last owner stays")]
    LastOwner,
    /// It has this one member: it is closed instead.
    #[error("the last member cannot be forgotten")]
    LastMember,
    /// Others are there: it cannot be deserted.
    #[error("the organization has other members")]
    OtherMembers,
    /// There are as many members as there may be.
    #[error("there are too many members")]
    TooManyMembers,
    /// The address belongs to a member.
    #[error("the person is a member already")]
    AlreadyMember,
    /// The address is invited, and the invitation stands.
    #[error("the address is invited already")]
    AlreadyInvited,
    /// As many invitations stand as may.
    #[error("there are too many invitations")]
    TooManyInvitations,
    /// No invitation of this id stands.
    #[error("there is no such invitation")]
    InvitationNotFound,
    /// The invitation is for another address.
    #[error("the invitation is for somebody else")]
    NotTheRecipient,
    /// Whoever sent the invitation is gone, or may not give its roles any more.
    #[error("whoever sent the invitation may not any more")]
    InviterGone,
    /// An invitation was sent since the caller looked.
    #[error("there are more invitations than the caller knows")]
    Outdated,
    /// Another role is called so.
    #[error("the name of the role is taken")]
    RoleNameTaken,
    /// The name cannot stand in a list of roles.
    #[error("this is no name of a role")]
    RoleNameInvalid,
    /// A predefined role stays as it is.
    #[error("the role is predefined")]
    RolePredefined,
    /// Somebody has the role.
    #[error("the role is assigned to members")]
    RoleAssigned,
    /// There are as many roles as there may be.
    #[error("there are too many roles")]
    TooManyRoles,
    /// There is no such resource.
    #[error("there is no such resource")]
    NoSuchResource,
    /// The role would allow what whoever asks may not do; each as `resource:action`.
    #[error("the member lacks {}", .0.join(", "))]
    Missing(Vec<String>),
    /// There is no such team.
    #[error("there is no such team")]
    TeamNotFound,
    /// One team stays.
    #[error("the last team stays")]
    LastTeam,
    /// There are as many teams as there may be.
    #[error("there are too many teams")]
    TooManyTeams,
    /// Whom the request is about does not belong to the organization.
    #[error("the person does not belong to the organization")]
    Stranger,
    /// Whom the request is about does not belong to the team.
    #[error("the person does not belong to the team")]
    NotInTeam,
}

type Decision = Result<Vec<OrganizationEvent>, OrganizationError>;

impl Organization {
    /// Says which events follow from `command`, or why it is refused.
    ///
    /// # Errors
    /// The reason, if the command is refused. A request that is already true yields no events.
    pub fn decide(&self, command: OrganizationCommand) -> Decision {
        use OrganizationCommand as C;
        if let C::Create(foundation) = command {
            return self.create(foundation);
        }
        let charter = self.charter()?;
        match command {
            C::Create(_) => Err(OrganizationError::AlreadyExists),
            C::Update { actor, update, at } => charter.update(&actor, update, at),
            C::Delete {
                actor,
                invitations,
                at,
            } => charter.delete(&actor, invitations, at),
            C::Desert {
                user_id,
                invitations,
                at,
            } => charter.desert(&user_id, invitations, at),
            C::ForgetMember { user_id, at } => charter.forget(&user_id, at),
            C::ChangeMemberRole {
                actor,
                member_id,
                role,
                at,
            } => charter.change_member_role(&actor, &member_id, role, at),
            C::RemoveMember {
                actor,
                member_id,
                at,
            } => charter.remove_member(&actor, &member_id, at),
            C::Leave { actor, at } => charter.leave(&actor, at),
            C::Invite(invite) => charter.invite(invite),
            C::RenewInvitation {
                actor,
                invitation_id,
                expires_at,
                at,
            } => charter.renew(&actor, invitation_id, expires_at, at),
            C::AcceptInvitation(acceptance) => charter.accept(acceptance),
            C::RejectInvitation {
                email,
                invitation_id,
                at,
            } => charter.reject(&email, invitation_id, at),
            C::CancelInvitation {
                actor,
                invitation_id,
                at,
            } => charter.cancel(&actor, invitation_id, at),
            C::EraseInvitation { invitation_id, at } => {
                Ok(charter.erase_invitation(invitation_id, at))
            }
            C::CreateRole {
                actor,
                role_id,
                name,
                permission,
                at,
            } => charter.create_role(&actor, role_id, name, permission, at),
            C::UpdateRole {
                actor,
                role,
                name,
                permission,
                at,
            } => charter.update_role(&actor, &role, name, permission, at),
            C::DeleteRole { actor, role, at } => charter.delete_role(&actor, &role, at),
            C::CreateTeam {
                actor,
                team_id,
                name,
                at,
            } => charter.create_team(&actor, team_id, name, at),
            C::RenameTeam {
                actor,
                team_id,
                name,
                at,
            } => charter.rename_team(&actor, &team_id, name, at),
            C::RemoveTeam { actor, team_id, at } => charter.remove_team(&actor, &team_id, at),
            C::AddTeamMember {
                actor,
                team_member_id,
                team_id,
                user_id,
                at,
            } => charter.add_team_member(&actor, team_member_id, &team_id, user_id, at),
            C::RemoveTeamMember {
                actor,
                team_id,
                user_id,
                at,
            } => charter.remove_team_member(&actor, &team_id, &user_id, at),
        }
    }

    fn create(&self, foundation: Foundation) -> Decision {
        let Foundation {
            id,
            owner,
            member_id,
            name,
            slug,
            logo,
            metadata,
            team,
            at,
        } = foundation;
        if *self != Self::Absent {
            return Err(OrganizationError::AlreadyExists);
        }
        let about = |value: String| Personal::about(id.as_str(), value);
        let mut events = vec![
            OrganizationEvent::Created {
                name: about(name.clone()),
                slug: about(slug),
                logo: logo.map(about),
                metadata: metadata.map(about),
                by: Some(owner.clone()),
                at,
            },
            OrganizationEvent::MemberAdded {
                member_id,
                user_id: owner.clone(),
                role: permissions::OWNER.to_owned(),
                at,
            },
        ];
        if let Some(team) = team {
            events.push(OrganizationEvent::TeamCreated {
                team_id: team.team_id.clone(),
                name: about(name),
                first: true,
                at,
            });
            events.push(OrganizationEvent::TeamMemberAdded {
                team_member_id: team.team_member_id,
                team_id: team.team_id,
                user_id: owner,
                at,
            });
        }
        Ok(events)
    }

    /// The organization, while it stands.
    fn charter(&self) -> Result<&Charter, OrganizationError> {
        match self {
            Self::Absent | Self::Closed => Err(OrganizationError::NotFound),
            Self::Open(charter) => Ok(charter),
        }
    }

    /// Every invitation that was ever sent, while the organization stands: each has a data key of its own.
    pub fn invitation_ids(&self) -> &[String] {
        match self {
            Self::Absent | Self::Closed => &[],
            Self::Open(charter) => &charter.invitation_ids,
        }
    }

    /// How many people belong to it.
    pub fn members(&self) -> usize {
        match self {
            Self::Absent | Self::Closed => 0,
            Self::Open(charter) => charter.members.len(),
        }
    }
}

impl Aggregate for Organization {
    const TYPE: &'static str = "organization";
    type Command = OrganizationCommand;
    type Event = OrganizationEvent;
    type Error = OrganizationError;
    type Services = ();

    async fn handle(
        &mut self,
        command: OrganizationCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), OrganizationError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: OrganizationEvent) {
        match (self, event) {
            (
                this @ Self::Absent,
                OrganizationEvent::Created {
                    name,
                    slug,
                    logo,
                    metadata,
                    ..
                },
            ) => {
                *this = Self::Open(Box::new(Charter {
                    id: name.subject().to_owned(),
                    name,
                    slug,
                    logo,
                    metadata,
                    members: vec![],
                    open: vec![],
                    invitation_ids: vec![],
                    roles: vec![],
                    teams: vec![],
                }));
            }
            (this @ Self::Open(_), OrganizationEvent::Closed { .. }) => *this = Self::Closed,
            (Self::Open(charter), event) => charter.apply(event),
            (Self::Absent | Self::Closed, _) => {}
        }
    }
}
