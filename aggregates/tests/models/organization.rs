//! An organization is a table of people and their roles, a list of addresses that may come in, and an end.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::organization::{
    Acceptance, Again, Foundation, Invite, Organization, OrganizationCommand as Command,
    OrganizationError as Error, OrganizationEvent, RoleKey,
};
use aggregates::{EmailAddress, OrganizationId, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{LENGTH, Outcome, Seen, Stream, assert_agree, for_all, minute};

/// Person 0 makes the organization; nobody else is in it at first.
const PEOPLE: usize = 6;
/// Roles by their number: the predefined ones, and one that the organization may define, to change members' roles.
const ROLES: [&str; 4] = ["owner", "admin", "member", "clerk"];
/// Minutes for which an invitation stands.
const STANDS: i64 = 30;

/// A request, who asks, and how many minutes after the one before it comes.
#[derive(Clone, Copy, Debug)]
struct Request {
    after: i64,
    actor: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Create,
    /// Whom, to which role.
    Change(usize, usize),
    Remove(usize),
    Leave,
    /// Whom, with which role.
    Invite(usize, usize),
    /// The invitation of whom.
    Accept(usize),
    Cancel(usize),
    DefineClerk,
    DropClerk,
    /// Whose account is erased.
    Forget(usize),
    Delete,
}

/// An invitation as the model knows it: who sent it, with which role, until when.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Open {
    inviter: usize,
    role: usize,
    until: i64,
}

/// What is known without events.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    made: bool,
    over: bool,
    /// Role by person, and the order in which they came.
    members: BTreeMap<usize, usize>,
    order: Vec<usize>,
    open: BTreeMap<usize, Open>,
    sent: usize,
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

    fn owners(&self) -> usize {
        self.members.values().filter(|role| **role == 0).count()
    }

    fn is_last_owner(&self, person: usize) -> bool {
        self.members.get(&person) == Some(&0) && self.owners() == 1
    }

    fn drop_member(&mut self, person: usize) {
        self.members.remove(&person);
        self.order.retain(|other| *other != person);
    }

    fn expect(&mut self, actor: usize, what: What, now: i64) -> Outcome<Error> {
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

fn request() -> impl Strategy<Value = Request> {
    let person = || 0..PEOPLE;
    let role = || 0..ROLES.len();
    let what = prop_oneof![
        3 => Just(What::Create),
        6 => (person(), role()).prop_map(|(person, role)| What::Change(person, role)),
        2 => person().prop_map(What::Remove),
        2 => Just(What::Leave),
        8 => (person(), role()).prop_map(|(person, role)| What::Invite(person, role)),
        3 => prop_oneof![Just(PEOPLE - 1), person()].prop_map(What::Cancel),
        4 => Just(What::DefineClerk),
        3 => Just(What::DropClerk),
        2 => prop_oneof![Just(0), person()].prop_map(What::Forget),
        1 => Just(What::Delete),
    ];
    // Most invitations are answered by whom they are for.
    let what =
        (0..6i64, person(), what).prop_map(|(after, actor, what)| Request { after, actor, what });
    let accept =
        (0..6i64, person(), any::<bool>(), person()).prop_map(|(after, actor, own, of)| {
            let of = if own { actor } else { of };
            Request {
                after,
                actor,
                what: What::Accept(of),
            }
        });
    prop_oneof![3 => what, 1 => accept]
}

/// How most sequences begin: person 0 makes the organization and asks others in, who come, but for the last one.
fn opening() -> impl Strategy<Value = Vec<Request>> {
    vec(0..3usize, 0..4).prop_map(|roles| {
        let at_once = |actor, what| Request {
            after: 0,
            actor,
            what,
        };
        let joining = roles.into_iter().enumerate().flat_map(|(n, role)| {
            let invite = at_once(0, What::Invite(n + 1, role));
            [invite, at_once(n + 1, What::Accept(n + 1))]
        });
        std::iter::once(at_once(0, What::Create))
            .chain(joining)
            .chain([at_once(0, What::Invite(PEOPLE - 1, 2))])
            .collect()
    })
}

fn sequence() -> impl Strategy<Value = Vec<Request>> {
    let opening = prop_oneof![9 => opening(), 1 => Just(vec![])];
    (opening, vec(request(), LENGTH)).prop_map(|(opening, rest)| [opening, rest].concat())
}

fn user(person: usize) -> UserId {
    UserId::new(format!("u{person}"))
}

fn email(person: usize) -> EmailAddress {
    EmailAddress::parse(&format!("u{person}@example.com")).unwrap()
}

/// The requests that the model does not say: ids count up, and the caller knows how many invitations there are.
fn command(request: Request, now: i64, model: &Model, latest: &BTreeMap<usize, String>) -> Command {
    let (actor, at) = (user(request.actor), minute(now));
    let member_id = |person: usize| format!("m{person}");
    let invitation_id = |person| latest.get(&person).cloned().unwrap_or_default();
    match request.what {
        What::Create => Command::Create(Foundation {
            id: OrganizationId::new("o1"),
            member_id: member_id(request.actor),
            owner: actor,
            name: "o".into(),
            slug: "o".into(),
            logo: None,
            metadata: None,
            team: None,
            at,
        }),
        What::Change(person, role) => Command::ChangeMemberRole {
            actor,
            member_id: member_id(person),
            role: ROLES[role].into(),
            at,
        },
        What::Remove(person) => Command::RemoveMember {
            actor,
            member_id: member_id(person),
            at,
        },
        What::Leave => Command::Leave { actor, at },
        What::Invite(person, role) => Command::Invite(Invite {
            actor,
            invitation_id: format!("i{}", model.sent),
            subject: format!("o1/i{}", model.sent),
            email: email(person),
            invitee: Some(user(person)),
            role: ROLES[role].into(),
            team_ids: vec![],
            again: Again::Refuse,
            expires_at: minute(now + STANDS),
            at,
        }),
        What::Accept(person) => Command::AcceptInvitation(Acceptance {
            actor,
            email: email(request.actor),
            invitation_id: invitation_id(person),
            member_id: member_id(request.actor),
            team_member_ids: vec![],
            at,
        }),
        What::Cancel(person) => Command::CancelInvitation {
            actor,
            invitation_id: invitation_id(person),
            at,
        },
        What::DefineClerk => Command::CreateRole {
            actor,
            role_id: format!("r{now}"),
            name: "clerk".into(),
            permission: [("member".to_owned(), vec!["update".to_owned()])].into(),
            at,
        },
        What::DropClerk => Command::DeleteRole {
            actor,
            role: RoleKey::Name("clerk".into()),
            at,
        },
        What::Forget(person) => Command::ForgetMember {
            user_id: user(person),
            at,
        },
        What::Delete => Command::Delete {
            actor,
            invitations: model.sent,
            at,
        },
    }
}

#[test]
fn an_organization_does_what_its_model_says() {
    let seen = Seen::default();
    for_all(sequence(), |requests| {
        let (mut model, mut stream) = (Model::default(), Stream::<Organization>::new());
        let mut latest = BTreeMap::new();
        let mut now = 0;
        for request in requests {
            now += request.after;
            let command = command(request, now, &model, &latest);
            let expected = model.expect(request.actor, request.what, now);
            seen.note(&expected);

            let decided = stream.running.decide(command);
            assert_agree(&decided, &expected, &request);
            let events = decided.unwrap_or_default();
            for event in &events {
                if let (
                    OrganizationEvent::InvitationSent { invitation_id, .. },
                    What::Invite(person, _),
                ) = (event, request.what)
                {
                    latest.insert(person, invitation_id.clone());
                }
            }
            stream.append(&events);

            let standing = model.made && !model.over;
            let members = if standing { model.members.len() } else { 0 };
            assert_eq!(stream.running.members(), members);
            assert!(!standing || model.owners() > 0, "somebody owns it");
            let ids: BTreeSet<&String> = stream.running.invitation_ids().iter().collect();
            assert_eq!(ids.len(), if standing { model.sent } else { 0 });
        }
    });
    seen.assert_often(&[
        "organization.created",
        "organization.member_added",
        "organization.member_role_changed",
        "organization.member_removed",
        "organization.invitation_sent",
        "organization.invitation_accepted",
        "organization.invitation_canceled",
        "organization.role_created",
        "organization.role_deleted",
        "organization.closed",
        "nothing",
        "AlreadyExists",
        "NotFound",
        "NotAMember",
        "NotAllowed",
        "LastOwner",
        "LastMember",
        "MemberNotFound",
        "RoleAboveOwn",
        "RoleNameTaken",
        "RoleNotFound(\"clerk\")",
        "AlreadyMember",
        "AlreadyInvited",
        "InvitationNotFound",
        "NotTheRecipient",
    ]);
}
