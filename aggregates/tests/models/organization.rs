//! An organization is a table of people and their roles, a list of addresses that may come in, and an end.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use aggregates::organization::{
    Acceptance, Again, Foundation, Invite, Organization, OrganizationCommand as Command,
    OrganizationEvent, RoleKey,
};
use aggregates::{EmailAddress, OrganizationId, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{LENGTH, Seen, Stream, assert_agree, for_all, minute};
use model::Model;

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
