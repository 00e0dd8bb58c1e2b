//! The second opinion: roles by person, invitations by address, and nothing of how either came about.

use std::collections::BTreeMap;

use aggregates::organization::OrganizationError as Error;

use super::{ROLES, STANDS, What};
use crate::Outcome;

/// An invitation as the model knows it: who sent it, with which role, until when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open {
    inviter: usize,
    role: usize,
    until: i64,
}

/// What is known without events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub made: bool,
    pub over: bool,
    /// Role by person, and the order in which they came.
    pub members: BTreeMap<usize, usize>,
    order: Vec<usize>,
    open: BTreeMap<usize, Open>,
    pub sent: usize,
    clerk: bool,
}

impl Model {
    /// What a role allows, told apart as far as these requests can tell: a clerk changes roles and nothing else.
    fn may(&self, person: usize, what: &str) -> bool {
        let Some(role) = self.members.get(&person) else {
            return false;
        };
        match ROLES[*role] {
            "owner" => true,
            "admin" => what != "delete",
            "clerk" => what == "change" && self.clerk,
            _ => false,
        }
    }

    /// Whether one role holds everything that another does.
    fn is_above(&self, role: usize, other: usize) -> bool {
        match (ROLES[role], ROLES[other]) {
            ("owner", _) => true,
            ("admin", other) => other != "owner",
            ("member", other) => other == "member" || other == "clerk" && !self.clerk,
            (_, other) => other == "clerk",
        }
    }

    fn exists(&self, role: usize) -> bool {
        ROLES[role] != "clerk" || self.clerk
    }

    fn unknown(role: usize) -> Error {
        Error::RoleNotFound(ROLES[role].to_owned())
    }

    pub fn owners(&self) -> usize {
        self.members.values().filter(|role| **role == 0).count()
    }

    fn is_last_owner(&self, person: usize) -> bool {
        self.members.get(&person) == Some(&0) && self.owners() == 1
    }

    fn drop_member(&mut self, person: usize) {
        self.members.remove(&person);
        self.order.retain(|other| *other != person);
    }

    pub fn expect(&mut self, actor: usize, what: What, now: i64) -> Outcome<Error> {
        if let What::Create = what {
            if self.made {
                return Err(Error::AlreadyExists);
            }
            self.made = true;
            self.members.insert(actor, 0);
            self.order.push(actor);
            return Ok(vec!["organization.created", "organization.member_added"]);
        }
        if !self.made || self.over {
            return Err(Error::NotFound);
        }
        if let What::Forget(person) = what {
            return self.forget(person);
        }
        if let What::Accept(person) = what {
            return self.accept(actor, person, now);
        }
        let Some(&own) = self.members.get(&actor) else {
            return Err(Error::NotAMember);
        };
        match what {
            What::Create | What::Forget(_) | What::Accept(_) => unreachable!("answered above"),
            What::Change(person, role) => self.change(actor, own, person, role),
            What::Remove(person) => {
                let theirs = *self.members.get(&person).ok_or(Error::MemberNotFound)?;
                if theirs == 0 && own != 0 || self.is_last_owner(person) {
                    return Err(Error::LastOwner);
                }
                if !self.may(actor, "remove") || !self.is_above(own, theirs) {
                    return Err(Error::NotAllowed);
                }
                self.drop_member(person);
                Ok(vec!["organization.member_removed"])
            }
            What::Leave if self.is_last_owner(actor) => Err(Error::LastOwner),
            What::Leave => {
                self.drop_member(actor);
                Ok(vec!["organization.member_removed"])
            }
            What::Invite(person, role) => self.invite(actor, own, person, role, now),
            What::Cancel(person) => {
                if !self.may(actor, "invite") {
                    return Err(Error::NotAllowed);
                }
                self.open.remove(&person).ok_or(Error::InvitationNotFound)?;
                Ok(vec!["organization.invitation_canceled"])
            }
            What::DefineClerk => {
                if !self.may(actor, "define") {
                    return Err(Error::NotAllowed);
                }
                if self.clerk {
                    return Err(Error::RoleNameTaken);
                }
                self.clerk = true;
                Ok(vec!["organization.role_created"])
            }
            What::DropClerk => {
                if !self.may(actor, "define") {
                    return Err(Error::NotAllowed);
                }
                if !self.clerk {
                    return Err(Error::RoleNotFound(String::new()));
                }
                if self.members.values().any(|role| ROLES[*role] == "clerk") {
                    return Err(Error::RoleAssigned);
                }
                self.clerk = false;
                Ok(vec!["organization.role_deleted"])
            }
            What::Delete if !self.may(actor, "delete") => Err(Error::NotAllowed),
            What::Delete => {
                self.over = true;
                Ok(vec!["organization.closed"])
            }
        }
    }

    fn change(&mut self, actor: usize, own: usize, person: usize, role: usize) -> Outcome<Error> {
        if !self.exists(role) {
            return Err(Self::unknown(role));
        }
        let theirs = *self.members.get(&person).ok_or(Error::MemberNotFound)?;
        if actor == person && self.is_last_owner(actor) && role != 0 {
            return Err(Error::LastOwner);
        }
        if !self.may(actor, "change") {
            return Err(Error::NotAllowed);
        }
        if !self.is_above(own, role) || !self.is_above(own, theirs) {
            return Err(Error::RoleAboveOwn);
        }
        if theirs == role {
            return Ok(vec![]);
        }
        self.members.insert(person, role);
        Ok(vec!["organization.member_role_changed"])
    }

    fn invite(
        &mut self,
        actor: usize,
        own: usize,
        person: usize,
        role: usize,
        now: i64,
    ) -> Outcome<Error> {
        if !self.may(actor, "invite") {
            return Err(Error::NotAllowed);
        }
        if !self.exists(role) {
            return Err(Self::unknown(role));
        }
        if !self.is_above(own, role) {
            return Err(Error::RoleAboveOwn);
        }
        if self.members.contains_key(&person) {
            return Err(Error::AlreadyMember);
        }
        if self.open.get(&person).is_some_and(|open| open.until > now) {
            return Err(Error::AlreadyInvited);
        }
        self.sent += 1;
        self.open.insert(
            person,
            Open {
                inviter: actor,
                role,
                until: now + STANDS,
            },
        );
        Ok(vec!["organization.invitation_sent"])
    }

    fn accept(&mut self, actor: usize, person: usize, now: i64) -> Outcome<Error> {
        let standing = self.open.get(&person).filter(|open| open.until > now);
        let open = *standing.ok_or(Error::InvitationNotFound)?;
        if actor != person {
            return Err(Error::NotTheRecipient);
        }
        if !self.exists(open.role) {
            return Err(Self::unknown(open.role));
        }
        let inviter = self.members.get(&open.inviter);
        if !self.may(open.inviter, "invite")
            || !inviter.is_some_and(|role| self.is_above(*role, open.role))
        {
            return Err(Error::InviterGone);
        }
        if self.members.contains_key(&actor) {
            return Err(Error::AlreadyMember);
        }
        self.open.remove(&person);
        self.members.insert(actor, open.role);
        self.order.push(actor);
        Ok(vec![
            "organization.invitation_accepted",
            "organization.member_added",
        ])
    }

    fn forget(&mut self, person: usize) -> Outcome<Error> {
        if !self.members.contains_key(&person) {
            return Ok(vec![]);
        }
        if self.members.len() == 1 {
            return Err(Error::LastMember);
        }
        self.drop_member(person);
        if self.owners() > 0 {
            return Ok(vec!["organization.member_removed"]);
        }
        let mut heirs = self.order.iter();
        let admin = heirs.find(|heir| ROLES[self.members[heir]] == "admin");
        let heir = *admin.unwrap_or(&self.order[0]);
        self.members.insert(heir, 0);
        Ok(vec![
            "organization.member_removed",
            "organization.member_role_changed",
        ])
    }
}
