//! Roles that an organization defines. Nobody defines one that allows more than they may themselves.

use chrono::{DateTime, Utc};

use super::charter::{Charter, CustomRole, Member};
use super::permissions::{self, Permissions};
use super::{Decision, OrganizationError, OrganizationEvent, ROLES_MAX, RoleKey};
use crate::UserId;

/// Longest name of a role, in characters.
const NAME_MAX_CHARS: usize = 64;

impl Charter {
    pub(super) fn create_role(
        &self,
        actor: &UserId,
        role_id: String,
        name: String,
        permission: Permissions,
        at: DateTime<Utc>,
    ) -> Decision {
        if permissions::is_predefined(&name) {
            return Err(OrganizationError::RoleNameTaken);
        }
        let asking = self.allowed(actor, "ac", "create")?;
        if self.roles.len() >= ROLES_MAX {
            return Err(OrganizationError::TooManyRoles);
        }
        self.check_permission(asking, &permission)?;
        self.check_name(&name)?;
        Ok(vec![OrganizationEvent::RoleCreated {
            role_id,
            name,
            permission,
            at,
        }])
    }

    pub(super) fn update_role(
        &self,
        actor: &UserId,
        key: &RoleKey,
        name: Option<String>,
        permission: Option<Permissions>,
        at: DateTime<Utc>,
    ) -> Decision {
        let asking = self.allowed(actor, "ac", "update")?;
        let role = self.role(key)?;
        if let Some(permission) = &permission {
            self.check_permission(asking, permission)?;
        }
        let name = name.filter(|name| *name != role.name);
        if let Some(name) = &name {
            self.check_name(name)?;
        }
        let permission = permission.filter(|permission| *permission != role.permission);
        if name.is_none() && permission.is_none() {
            return Ok(vec![]);
        }
        // Whoever has the role goes on to have it under its new name.
        let renamed = name.clone().map(|name| self.renamed(role, &name, at));
        let mut events = vec![OrganizationEvent::RoleUpdated {
            role_id: role.id.clone(),
            name,
            permission,
            at,
        }];
        events.extend(renamed.unwrap_or_default());
        Ok(events)
    }

    fn renamed(&self, role: &CustomRole, name: &str, at: DateTime<Utc>) -> Vec<OrganizationEvent> {
        let holders = self.members.iter().filter(|member| has(member, role));
        holders
            .map(|member| {
                let roles = permissions::roles(&member.role);
                let roles = roles.map(|held| if held == role.name { name } else { held });
                OrganizationEvent::MemberRoleChanged {
                    member_id: member.id.clone(),
                    role: roles.collect::<Vec<_>>().join(","),
                    at,
                }
            })
            .collect()
    }

    pub(super) fn delete_role(&self, actor: &UserId, key: &RoleKey, at: DateTime<Utc>) -> Decision {
        self.allowed(actor, "ac", "delete")?;
        if let RoleKey::Name(name) = key
            && permissions::is_predefined(name)
        {
            return Err(OrganizationError::RolePredefined);
        }
        let role = self.role(key)?;
        if self.members.iter().any(|member| has(member, role)) {
            return Err(OrganizationError::RoleAssigned);
        }
        Ok(vec![OrganizationEvent::RoleDeleted {
            role_id: role.id.clone(),
            at,
        }])
    }

    fn check_name(&self, name: &str) -> Result<(), OrganizationError> {
        let in_list = |c: char| c == ',' || c.is_control();
        let spaces = name.trim() != name;
        if name.is_empty()
            || spaces
            || name.contains(in_list)
            || name.chars().count() > NAME_MAX_CHARS
        {
            return Err(OrganizationError::RoleNameInvalid);
        }
        if permissions::is_predefined(name) || self.permission_of(name).is_some() {
            return Err(OrganizationError::RoleNameTaken);
        }
        Ok(())
    }

    fn check_permission(
        &self,
        asking: &Member,
        permission: &Permissions,
    ) -> Result<(), OrganizationError> {
        if !permission.keys().all(|name| permissions::is_resource(name)) {
            return Err(OrganizationError::NoSuchResource);
        }
        let of = |role: &str| self.permission_of(role);
        let missing = permissions::missing(&asking.role, of, permission);
        if missing.is_empty() {
            Ok(())
        } else {
            Err(OrganizationError::Missing(missing))
        }
    }

    pub(super) fn apply_role(&mut self, event: OrganizationEvent) {
        if let OrganizationEvent::RoleCreated {
            role_id,
            name,
            permission,
            ..
        } = event
        {
            self.roles.push(CustomRole {
                id: role_id,
                name,
                permission,
            });
        } else if let OrganizationEvent::RoleUpdated {
            role_id,
            name,
            permission,
            ..
        } = event
        {
            let found = self.roles.iter_mut().find(|role| role.id == role_id);
            if let Some(role) = found {
                role.name = name.unwrap_or_else(|| role.name.clone());
                role.permission = permission.unwrap_or_else(|| role.permission.clone());
            }
        } else if let OrganizationEvent::RoleDeleted { role_id, .. } = event {
            self.roles.retain(|role| role.id != role_id);
        }
    }
}

fn has(member: &Member, role: &CustomRole) -> bool {
    permissions::roles(&member.role).any(|held| held == role.name)
}
