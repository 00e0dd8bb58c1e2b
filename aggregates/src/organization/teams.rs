//! Teams of an organization: its members, put into groups.

use chrono::{DateTime, Utc};

use super::charter::{Charter, Team};
use super::{Decision, OrganizationError, OrganizationEvent, TEAMS_MAX};
use crate::{Personal, UserId};

impl Charter {
    pub(super) fn create_team(
        &self,
        actor: &UserId,
        team_id: String,
        name: String,
        at: DateTime<Utc>,
    ) -> Decision {
        self.allowed(actor, "team", "create")?;
        if self.teams.len() >= TEAMS_MAX {
            return Err(OrganizationError::TooManyTeams);
        }
        Ok(vec![OrganizationEvent::TeamCreated {
            team_id,
            name: Personal::about(&self.id, name),
            first: false,
            at,
        }])
    }

    pub(super) fn rename_team(
        &self,
        actor: &UserId,
        team_id: &str,
        name: Option<String>,
        at: DateTime<Utc>,
    ) -> Decision {
        self.allowed(actor, "team", "update")?;
        let team = self.team(team_id)?;
        let name = name.filter(|name| team.name.get() != Some(name));
        let renamed = name.map(|name| OrganizationEvent::TeamRenamed {
            team_id: team.id.clone(),
            name: Personal::about(&self.id, name),
            at,
        });
        Ok(renamed.into_iter().collect())
    }

    pub(super) fn remove_team(&self, actor: &UserId, team_id: &str, at: DateTime<Utc>) -> Decision {
        self.allowed(actor, "team", "delete")?;
        let team = self.team(team_id)?;
        if self.teams.len() == 1 {
            return Err(OrganizationError::LastTeam);
        }
        let memberships = team.members.iter();
        let mut events: Vec<_> = memberships.map(|(id, _)| left(id, at)).collect();
        events.push(OrganizationEvent::TeamRemoved {
            team_id: team.id.clone(),
            at,
        });
        Ok(events)
    }

    pub(super) fn add_team_member(
        &self,
        actor: &UserId,
        team_member_id: String,
        team_id: &str,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Decision {
        self.allowed(actor, "member", "update")?;
        let team = self.team(team_id)?;
        self.member_of(&user_id)
            .map_err(|_| OrganizationError::Stranger)?;
        if team.members.iter().any(|(_, member)| *member == user_id) {
            return Ok(vec![]);
        }
        Ok(vec![OrganizationEvent::TeamMemberAdded {
            team_member_id,
            team_id: team.id.clone(),
            user_id,
            at,
        }])
    }

    pub(super) fn remove_team_member(
        &self,
        actor: &UserId,
        team_id: &str,
        user_id: &UserId,
        at: DateTime<Utc>,
    ) -> Decision {
        self.allowed(actor, "member", "delete")?;
        let mut members = self.team(team_id)?.members.iter();
        let (id, _) = members
            .find(|(_, member)| member == user_id)
            .ok_or(OrganizationError::NotInTeam)?;
        Ok(vec![left(id, at)])
    }

    pub(super) fn apply_team(&mut self, event: OrganizationEvent) {
        if let OrganizationEvent::TeamCreated { team_id, name, .. } = event {
            self.teams.push(Team {
                id: team_id,
                name,
                members: vec![],
            });
        } else if let OrganizationEvent::TeamRenamed { team_id, name, .. } = event {
            if let Some(team) = self.teams.iter_mut().find(|team| team.id == team_id) {
                team.name = name;
            }
        } else if let OrganizationEvent::TeamRemoved { team_id, .. } = event {
            self.teams.retain(|team| team.id != team_id);
        } else if let OrganizationEvent::TeamMemberAdded {
            team_member_id,
            team_id,
            user_id,
            ..
        } = event
        {
            if let Some(team) = self.teams.iter_mut().find(|team| team.id == team_id) {
                team.members.push((team_member_id, user_id));
            }
        } else if let OrganizationEvent::TeamMemberRemoved { team_member_id, .. } = event {
            for team in &mut self.teams {
                team.members.retain(|(id, _)| *id != team_member_id);
            }
        }
    }
}

fn left(id: &str, at: DateTime<Utc>) -> OrganizationEvent {
    OrganizationEvent::TeamMemberRemoved {
        team_member_id: id.to_owned(),
        at,
    }
}
