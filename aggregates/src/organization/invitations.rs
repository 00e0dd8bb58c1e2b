//! Who is asked in. An invitation is for an address, good once, and worth no more than whoever sent it (S-63).

use chrono::{DateTime, Utc};

use super::charter::{Charter, Invitation};
use super::{
    Acceptance, Again, Decision, INVITATIONS_MAX, Invite, MEMBERS_MAX, OrganizationError,
    OrganizationEvent,
};
use crate::{EmailAddress, Personal, UserId};

impl Charter {
    pub(super) fn invite(&self, invite: Invite) -> Decision {
        let asking = self.allowed(&invite.actor, "invitation", "create")?;
        self.check_roles(&invite.role)?;
        if !self.is_above(asking, &invite.role) {
            return Err(OrganizationError::RoleAboveOwn);
        }
        let is_member = |user_id| self.member_of(user_id).is_ok();
        if invite.invitee.as_ref().is_some_and(is_member) {
            return Err(OrganizationError::AlreadyMember);
        }
        let at = invite.at;
        let mut standing = self.open.iter().filter(|open| open.expires_at > at);
        let count = standing.clone().count();
        let earlier = standing.find(|open| open.email.get() == Some(&invite.email));
        let mut events = vec![];
        match (earlier, invite.again) {
            (None, _) if count >= INVITATIONS_MAX => {
                return Err(OrganizationError::TooManyInvitations);
            }
            (None, _) => {}
            (Some(_), Again::Refuse) => return Err(OrganizationError::AlreadyInvited),
            (Some(earlier), Again::Replace) => events.push(OrganizationEvent::InvitationCanceled {
                invitation_id: earlier.id.clone(),
                at,
            }),
        }
        for team_id in &invite.team_ids {
            self.team(team_id)?;
        }
        events.push(OrganizationEvent::InvitationSent {
            invitation_id: invite.invitation_id,
            email: Personal::about(invite.subject, invite.email),
            role: invite.role,
            team_ids: invite.team_ids,
            inviter_id: invite.actor,
            expires_at: invite.expires_at,
            at,
        });
        Ok(events)
    }

    pub(super) fn renew(
        &self,
        actor: &UserId,
        invitation_id: String,
        expires_at: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Decision {
        let asking = self.allowed(actor, "invitation", "create")?;
        let standing = self.standing(&invitation_id, at)?;
        if !self.is_above(asking, &standing.role) {
            return Err(OrganizationError::RoleAboveOwn);
        }
        Ok(vec![OrganizationEvent::InvitationRenewed {
            invitation_id,
            expires_at,
            at,
        }])
    }

    pub(super) fn accept(&self, acceptance: Acceptance) -> Decision {
        let Acceptance {
            actor,
            email,
            invitation_id,
            member_id,
            team_member_ids,
            at,
        } = acceptance;
        let invitation = self.standing(&invitation_id, at)?;
        if invitation.email.get() != Some(&email) {
            return Err(OrganizationError::NotTheRecipient);
        }
        // Whoever sent it must still be somebody who may: an invitation is no power that outlives its sender's.
        self.check_roles(&invitation.role)?;
        match self.allowed(&invitation.inviter_id, "invitation", "create") {
            Ok(inviter) if self.is_above(inviter, &invitation.role) => {}
            _ => return Err(OrganizationError::InviterGone),
        }
        if self.member_of(&actor).is_ok() {
            return Err(OrganizationError::AlreadyMember);
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(OrganizationError::TooManyMembers);
        }
        let mut events = vec![
            OrganizationEvent::InvitationAccepted { invitation_id, at },
            OrganizationEvent::MemberAdded {
                member_id,
                user_id: actor.clone(),
                role: invitation.role.clone(),
                at,
            },
        ];
        // A team that is gone by now is no reason to stay outside.
        let teams = invitation.team_ids.iter().zip(team_member_ids);
        let teams = teams.filter(|(team_id, _)| self.team(team_id).is_ok());
        events.extend(teams.map(
            |(team_id, team_member_id)| OrganizationEvent::TeamMemberAdded {
                team_member_id,
                team_id: team_id.clone(),
                user_id: actor.clone(),
                at,
            },
        ));
        Ok(events)
    }

    pub(super) fn reject(
        &self,
        email: &EmailAddress,
        invitation_id: String,
        at: DateTime<Utc>,
    ) -> Decision {
        let invitation = self.standing(&invitation_id, at)?;
        if invitation.email.get() != Some(email) {
            return Err(OrganizationError::NotTheRecipient);
        }
        Ok(vec![OrganizationEvent::InvitationRejected {
            invitation_id,
            at,
        }])
    }

    pub(super) fn cancel(
        &self,
        actor: &UserId,
        invitation_id: String,
        at: DateTime<Utc>,
    ) -> Decision {
        self.allowed(actor, "invitation", "cancel")?;
        // One that is out of date may be tidied away as well.
        if !self.open.iter().any(|open| open.id == invitation_id) {
            return Err(OrganizationError::InvitationNotFound);
        }
        Ok(vec![OrganizationEvent::InvitationCanceled {
            invitation_id,
            at,
        }])
    }

    pub(super) fn erase_invitation(
        &self,
        invitation_id: String,
        at: DateTime<Utc>,
    ) -> Vec<OrganizationEvent> {
        let known = self.invitation_ids.contains(&invitation_id);
        let erased = known.then_some(OrganizationEvent::InvitationErased { invitation_id, at });
        erased.into_iter().collect()
    }

    fn standing(&self, id: &str, at: DateTime<Utc>) -> Result<&Invitation, OrganizationError> {
        let mut open = self.open.iter();
        open.find(|open| open.id == id && open.expires_at > at)
            .ok_or(OrganizationError::InvitationNotFound)
    }
}
