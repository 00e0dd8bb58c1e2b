//! What an organization has besides people and their rights: how it shows itself, teams, the name of a role that it has
//! defined, and invitations that are renewed, replaced, turned down or erased.

mod requests;

use std::collections::BTreeMap;

use aggregates::organization::{Again, Organization, OrganizationError as Error};
use requests::{Request, What, command, requests};

use super::{Outcome, Seen, Stream, assert_agree, for_all};

/// Person 0 makes the organization and owns it; the others come as members or as clerks, who may none of this.
const PEOPLE: usize = 5;
/// Minutes for which an invitation stands.
const STANDS: i64 = 15;
/// What the defined role may be called; the last one is predefined.
const NAMES: [&str; 3] = ["clerk", "scribe", "owner"];

/// An invitation, and how it stands.
#[derive(Debug)]
struct Sent {
    whom: usize,
    role: &'static str,
    team: Option<usize>,
    until: i64,
    is_open: bool,
    is_erased: bool,
}

/// What is known without events.
#[derive(Debug, Default)]
struct Model {
    made: bool,
    over: bool,
    name: &'static str,
    slug: &'static str,
    logo: Option<&'static str>,
    /// Whether each of them is a clerk.
    members: BTreeMap<usize, bool>,
    /// Name, and which of two permissions it gives.
    role: Option<(&'static str, bool)>,
    /// In the order in which they were made; `None` once one is gone. Their names, and who is in them.
    teams: Vec<Option<(&'static str, Vec<usize>)>>,
    sent: Vec<Sent>,
}

impl Model {
    fn expect(&mut self, Request { actor, what, .. }: Request, now: i64) -> Outcome<Error> {
        if let What::Create { team } = what {
            return self.create(actor, team);
        }
        if !self.made || self.over {
            return Err(Error::NotFound);
        }
        match what {
            What::Accept(whom) => return self.accept(actor, whom, now),
            What::Reject(whom) => return self.reject(actor, whom, now),
            What::Erase(whom) => return Ok(self.erase(whom)),
            _ => {}
        }
        if !self.members.contains_key(&actor) {
            return Err(Error::NotAMember);
        }
        match what {
            What::Remove(whom) => return self.remove(actor, whom),
            What::Desert { outdated } => return self.desert(outdated),
            _ if actor != 0 => return Err(Error::NotAllowed),
            _ => {}
        }
        let once = |happens: bool, what| Ok(if happens { vec![what] } else { vec![] });
        match what {
            What::Show { name, logo, slug } => {
                let before = (self.name, self.logo, self.slug);
                self.name = name.unwrap_or(self.name);
                self.logo = logo.unwrap_or(self.logo);
                self.slug = slug.unwrap_or(self.slug);
                let mut expected = vec![];
                if (before.0, before.1) != (self.name, self.logo) {
                    expected.push("organization.updated");
                }
                if before.2 != self.slug {
                    expected.push("organization.slug_changed");
                }
                Ok(expected)
            }
            What::DefineRole if self.role.is_some() => Err(Error::RoleNameTaken),
            What::DefineRole => {
                self.role = Some((NAMES[0], false));
                Ok(vec!["organization.role_created"])
            }
            What::ChangeRole { name, permission } => self.change_role(name, permission),
            What::MakeTeam => {
                self.teams.push(Some(("x", vec![])));
                Ok(vec!["organization.team_created"])
            }
            What::RenameTeam(team, name) => {
                let (known, _) = self.team(team)?;
                let was = std::mem::replace(known, name);
                once(was != name, "organization.team_renamed")
            }
            What::DropTeam(team) => {
                let inside = self.team(team)?.1.len();
                if self.teams.iter().flatten().count() == 1 {
                    return Err(Error::LastTeam);
                }
                self.teams[team] = None;
                let mut expected = vec!["organization.team_member_removed"; inside];
                expected.push("organization.team_removed");
                Ok(expected)
            }
            What::Join(team, whom) => {
                let is_member = self.members.contains_key(&whom);
                let (_, inside) = self.team(team)?;
                if !is_member {
                    return Err(Error::Stranger);
                }
                let comes = !inside.contains(&whom);
                inside.extend(comes.then_some(whom));
                once(comes, "organization.team_member_added")
            }
            What::TakeOut(team, whom) => {
                let (_, inside) = self.team(team)?;
                let place = inside.iter().position(|member| *member == whom);
                inside.remove(place.ok_or(Error::NotInTeam)?);
                Ok(vec!["organization.team_member_removed"])
            }
            What::Invite {
                whom,
                clerk,
                team,
                again,
            } => self.invite(whom, clerk, team, again, now),
            What::Renew(whom) => {
                self.standing(whom, now)?.until = now + STANDS;
                Ok(vec!["organization.invitation_renewed"])
            }
            What::Create { .. }
            | What::Accept(_)
            | What::Reject(_)
            | What::Erase(_)
            | What::Remove(_)
            | What::Desert { .. } => unreachable!("answered above"),
        }
    }

    fn create(&mut self, actor: usize, team: bool) -> Outcome<Error> {
        if self.made {
            return Err(Error::AlreadyExists);
        }
        (self.made, self.name, self.slug) = (true, "x", "x");
        self.members.insert(actor, false);
        let mut expected = vec!["organization.created", "organization.member_added"];
        if team {
            self.teams.push(Some(("x", vec![actor])));
            expected.extend([
                "organization.team_created",
                "organization.team_member_added",
            ]);
        }
        Ok(expected)
    }

    fn team(&mut self, number: usize) -> Result<&mut (&'static str, Vec<usize>), Error> {
        let known = self.teams.get_mut(number).and_then(Option::as_mut);
        known.ok_or(Error::TeamNotFound)
    }

    /// The invitation that a person got last, if it is worth anything.
    fn standing(&mut self, whom: usize, now: i64) -> Result<&mut Sent, Error> {
        let last = self.sent.iter_mut().rfind(|sent| sent.whom == whom);
        last.filter(|sent| sent.is_open && sent.until > now)
            .ok_or(Error::InvitationNotFound)
    }

    fn change_role(
        &mut self,
        name: Option<&'static str>,
        permission: Option<bool>,
    ) -> Outcome<Error> {
        let (was, gave) = self.role.ok_or(Error::RoleNotFound(String::new()))?;
        let name = name.filter(|name| *name != was);
        if name == Some("owner") {
            return Err(Error::RoleNameTaken);
        }
        let permission = permission.filter(|gives| *gives != gave);
        self.role = Some((name.unwrap_or(was), permission.unwrap_or(gave)));
        if name.is_none() && permission.is_none() {
            return Ok(vec![]);
        }
        let clerks = self.members.values().filter(|clerk| **clerk).count();
        let mut expected = vec!["organization.role_updated"];
        if name.is_some() {
            expected.extend(vec!["organization.member_role_changed"; clerks]);
        }
        Ok(expected)
    }

    fn invite(
        &mut self,
        whom: usize,
        clerk: bool,
        team: Option<usize>,
        again: Again,
        now: i64,
    ) -> Outcome<Error> {
        if clerk && self.role.is_none() {
            return Err(Error::RoleNotFound(NAMES[0].to_owned()));
        }
        if self.members.contains_key(&whom) {
            return Err(Error::AlreadyMember);
        }
        let stands = self.standing(whom, now).is_ok();
        if stands && again == Again::Refuse {
            return Err(Error::AlreadyInvited);
        }
        if let Some(team) = team {
            self.team(team)?;
        }
        if let Ok(earlier) = self.standing(whom, now) {
            earlier.is_open = false;
        }
        self.sent.push(Sent {
            whom,
            role: self
                .role
                .filter(|_| clerk)
                .map_or("member", |(name, _)| name),
            team,
            until: now + STANDS,
            is_open: true,
            is_erased: false,
        });
        let canceled = stands.then_some("organization.invitation_canceled");
        Ok(canceled
            .into_iter()
            .chain(["organization.invitation_sent"])
            .collect())
    }

    fn accept(&mut self, actor: usize, whom: usize, now: i64) -> Outcome<Error> {
        let known = self.role.map(|(name, _)| name);
        let invitation = self.standing(whom, now)?;
        if actor != whom {
            return Err(Error::NotTheRecipient);
        }
        let (role, team) = (invitation.role, invitation.team);
        if role != "member" && Some(role) != known {
            return Err(Error::RoleNotFound(role.to_owned()));
        }
        invitation.is_open = false;
        self.members.insert(actor, role != "member");
        let mut expected = vec![
            "organization.invitation_accepted",
            "organization.member_added",
        ];
        // A team that is gone by now is no reason to stay outside.
        if let Some(Ok((_, inside))) = team.map(|team| self.team(team)) {
            inside.push(actor);
            expected.push("organization.team_member_added");
        }
        Ok(expected)
    }

    fn reject(&mut self, actor: usize, whom: usize, now: i64) -> Outcome<Error> {
        let invitation = self.standing(whom, now)?;
        if actor != whom {
            return Err(Error::NotTheRecipient);
        }
        invitation.is_open = false;
        Ok(vec!["organization.invitation_rejected"])
    }

    /// Also of one that was answered: its data key is still there.
    fn erase(&mut self, whom: usize) -> Vec<&'static str> {
        let last = self.sent.iter_mut().rfind(|sent| sent.whom == whom);
        let Some(sent) = last.filter(|sent| !sent.is_erased) else {
            return vec![];
        };
        (sent.is_open, sent.is_erased) = (false, true);
        vec!["organization.invitation_erased"]
    }

    fn remove(&mut self, actor: usize, whom: usize) -> Outcome<Error> {
        if !self.members.contains_key(&whom) {
            return Err(Error::MemberNotFound);
        }
        if whom == 0 {
            return Err(Error::LastOwner);
        }
        if actor != 0 {
            return Err(Error::NotAllowed);
        }
        self.members.remove(&whom);
        let mut expected = vec![];
        for (_, inside) in self.teams.iter_mut().flatten() {
            let before = inside.len();
            inside.retain(|member| *member != whom);
            expected.extend(vec![
                "organization.team_member_removed";
                before - inside.len()
            ]);
        }
        expected.push("organization.member_removed");
        Ok(expected)
    }

    fn desert(&mut self, outdated: bool) -> Outcome<Error> {
        if self.members.len() > 1 {
            return Err(Error::OtherMembers);
        }
        if outdated {
            return Err(Error::Outdated);
        }
        self.over = true;
        Ok(vec!["organization.closed"])
    }

    /// How many invitations have a data key.
    fn keys(&self) -> usize {
        let kept = self.sent.iter().filter(|sent| !sent.is_erased);
        kept.count()
    }
}

#[test]
fn the_parts_of_an_organization_are_what_their_model_says() {
    let seen = Seen::default();
    for_all(requests(), |requests| {
        let (mut model, mut stream) = (Model::default(), Stream::<Organization>::new());
        let mut now = 0;
        for (number, request) in requests.into_iter().enumerate() {
            now += request.after;
            let asked = command(request, number, now, &model);
            let expected = model.expect(request, now);
            seen.note(&expected);

            let decided = stream.running.decide(asked);
            assert_agree(&decided, &expected, &request);
            stream.append(&decided.unwrap_or_default());

            let stands = model.made && !model.over;
            let counts = if stands {
                (model.members.len(), model.keys())
            } else {
                (0, 0)
            };
            let ids = stream.running.invitation_ids().len();
            assert_eq!((stream.running.members(), ids), counts, "{request:?}");
        }
    });
    seen.assert_often(&[
        "organization.created",
        "organization.updated",
        "organization.slug_changed",
        "organization.member_added",
        "organization.member_removed",
        "organization.member_role_changed",
        "organization.role_created",
        "organization.role_updated",
        "organization.team_created",
        "organization.team_renamed",
        "organization.team_removed",
        "organization.team_member_added",
        "organization.team_member_removed",
        "organization.invitation_sent",
        "organization.invitation_renewed",
        "organization.invitation_canceled",
        "organization.invitation_accepted",
        "organization.invitation_rejected",
        "organization.invitation_erased",
        "organization.closed",
        "nothing",
        "AlreadyExists",
        "NotFound",
        "NotAMember",
        "NotAllowed",
        "RoleNameTaken",
        "RoleNotFound(\"\")",
        "RoleNotFound(\"clerk\")",
        "TeamNotFound",
        "LastTeam",
        "Stranger",
        "NotInTeam",
        "AlreadyMember",
        "AlreadyInvited",
        "InvitationNotFound",
        "NotTheRecipient",
        "MemberNotFound",
        "LastOwner",
        "OtherMembers",
        "Outdated",
    ]);
}
