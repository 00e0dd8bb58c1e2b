//! Who belongs to an organization, what it shows of itself, and how it ends.

use chrono::{DateTime, Utc};

use super::charter::{Charter, Member};
use super::permissions::{self, OWNER};
use super::{CloseReason, Decision, OrganizationError, OrganizationEvent, RemovalReason, Update};
use crate::user::Change;
use crate::{Personal, UserId};

impl Charter {
    pub(super) fn update(&self, actor: &UserId, update: Update, at: DateTime<Utc>) -> Decision {
        self.allowed(actor, "organization", "update")?;
        let about = |value: String| Personal::about(&self.id, value);
        let name = update
            .name
            .filter(|name| self.name.get() != Some(name))
            .map(about);
        let logo = self.change(&self.logo, update.logo);
        let metadata = self.change(&self.metadata, update.metadata);
        let mut events = vec![];
        if name.is_some() || logo != Change::Kept || metadata != Change::Kept {
            events.push(OrganizationEvent::Updated {
                name,
                logo,
                metadata,
                at,
            });
        }
        if let Some(slug) = update.slug.filter(|slug| self.slug.get() != Some(slug)) {
            events.push(OrganizationEvent::SlugChanged {
                from: self.slug.clone(),
                to: about(slug),
                at,
            });
        }
        Ok(events)
    }

    fn change(&self, old: &Option<Personal<String>>, new: Option<Option<String>>) -> Change {
        let old = old.as_ref().and_then(Personal::get);
        match new {
            None => Change::Kept,
            Some(new) if new.as_ref() == old => Change::Kept,
            Some(None) => Change::Removed,
            Some(Some(value)) => Change::Set(Personal::about(&self.id, value)),
        }
    }

    pub(super) fn delete(&self, actor: &UserId, invitations: usize, at: DateTime<Utc>) -> Decision {
        self.allowed(actor, "organization", "delete")?;
        self.close(invitations, CloseReason::Deleted, Some(actor), at)
    }

    pub(super) fn desert(
        &self,
        user_id: &UserId,
        invitations: usize,
        at: DateTime<Utc>,
    ) -> Decision {
        self.member_of(user_id)?;
        if self.members.len() > 1 {
            return Err(OrganizationError::OtherMembers);
        }
        self.close(invitations, CloseReason::Deserted, None, at)
    }

    fn close(
        &self,
        invitations: usize,
        reason: CloseReason,
        by: Option<&UserId>,
        at: DateTime<Utc>,
    ) -> Decision {
        // Keys that the caller does not know of would stay behind.
        if invitations != self.invitation_ids.len() {
            return Err(OrganizationError::Outdated);
        }
        let by = by.cloned();
        Ok(vec![OrganizationEvent::Closed { reason, by, at }])
    }

    /// Ends the membership of somebody whose account is closed. An organization that nobody owned could not be led by
    /// anybody any more, so the first admin inherits it, else the first member.
    pub(super) fn forget(&self, user_id: &UserId, at: DateTime<Utc>) -> Decision {
        let Ok(member) = self.member_of(user_id) else {
            return Ok(vec![]);
        };
        let others = || self.members.iter().filter(|other| other.id != member.id);
        let heir = others()
            .find(|other| permissions::is_admin(&other.role))
            .or_else(|| others().next())
            .ok_or(OrganizationError::LastMember)?;
        let mut events = self.removed(member, RemovalReason::Erased, at);
        if !others().any(|other| permissions::is_owner(&other.role)) {
            events.push(OrganizationEvent::MemberRoleChanged {
                member_id: heir.id.clone(),
                role: OWNER.to_owned(),
                at,
            });
        }
        Ok(events)
    }

    pub(super) fn change_member_role(
        &self,
        actor: &UserId,
        member_id: &str,
        role: String,
        at: DateTime<Utc>,
    ) -> Decision {
        let asking = self.member_of(actor)?;
        self.check_roles(&role)?;
        let member = self.member(member_id)?;
        let owns = permissions::is_owner(&asking.role);
        if owns && member.id == asking.id && self.owners() == 1 && !permissions::is_owner(&role) {
            return Err(OrganizationError::LastOwner);
        }
        self.allowed(actor, "member", "update")?;
        // Neither given nor taken by whoever does not have it.
        if !self.is_above(asking, &role) || !self.is_above(asking, &member.role) {
            return Err(OrganizationError::RoleAboveOwn);
        }
        if member.role == role {
            return Ok(vec![]);
        }
        Ok(vec![OrganizationEvent::MemberRoleChanged {
            member_id: member.id.clone(),
            role,
            at,
        }])
    }

    pub(super) fn remove_member(
        &self,
        actor: &UserId,
        member_id: &str,
        at: DateTime<Utc>,
    ) -> Decision {
        let asking = self.member_of(actor)?;
        let member = self.member(member_id)?;
        // The answer that clients know to whoever would take out an owner without being one.
        if permissions::is_owner(&member.role) && !permissions::is_owner(&asking.role) {
            return Err(OrganizationError::LastOwner);
        }
        self.check_owner_remains(member)?;
        self.allowed(actor, "member", "delete")?;
        if !self.is_above(asking, &member.role) {
            return Err(OrganizationError::NotAllowed);
        }
        Ok(self.removed(member, RemovalReason::Removed, at))
    }

    pub(super) fn leave(&self, actor: &UserId, at: DateTime<Utc>) -> Decision {
        let member = self.member_of(actor)?;
        self.check_owner_remains(member)?;
        Ok(self.removed(member, RemovalReason::Left, at))
    }

    fn check_owner_remains(&self, without: &Member) -> Result<(), OrganizationError> {
        if permissions::is_owner(&without.role) && self.owners() == 1 {
            return Err(OrganizationError::LastOwner);
        }
        Ok(())
    }

    fn removed(
        &self,
        member: &Member,
        reason: RemovalReason,
        at: DateTime<Utc>,
    ) -> Vec<OrganizationEvent> {
        let mut events: Vec<_> = self.leave_teams(&member.user_id, at).collect();
        events.push(OrganizationEvent::MemberRemoved {
            member_id: member.id.clone(),
            user_id: member.user_id.clone(),
            reason,
            at,
        });
        events
    }
}
