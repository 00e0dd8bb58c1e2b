//! Random requests, and the commands that they are.

use aggregates::organization::permissions::Permissions;
use aggregates::organization::{
    Acceptance, Again, FirstTeam, Foundation, Invite, OrganizationCommand as Command, RoleKey,
    Update,
};
use aggregates::{EmailAddress, OrganizationId, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{LENGTH, minute};
use super::{Model, NAMES, PEOPLE, STANDS};

/// A request, who asks, and how many minutes after the one before it comes.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub after: i64,
    pub actor: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// With a first team or none.
    Create {
        team: bool,
    },
    /// `None` leaves what is shown; `Some(None)` takes a logo away.
    Show {
        name: Option<&'static str>,
        logo: Option<Option<&'static str>>,
        slug: Option<&'static str>,
    },
    /// The one role, if there is none yet.
    DefineRole,
    ChangeRole {
        name: Option<&'static str>,
        permission: Option<bool>,
    },
    MakeTeam,
    /// Teams by the order in which they were made.
    RenameTeam(usize, &'static str),
    DropTeam(usize),
    /// A team, and whom.
    Join(usize, usize),
    TakeOut(usize, usize),
    Invite {
        whom: usize,
        clerk: bool,
        team: Option<usize>,
        again: Again,
    },
    /// The invitation that somebody got last.
    Renew(usize),
    Accept(usize),
    Reject(usize),
    Erase(usize),
    Remove(usize),
    /// With another number of invitations than there are.
    Desert {
        outdated: bool,
    },
}

fn what() -> impl Strategy<Value = What> {
    let text = || prop::sample::select(vec!["x", "y"]);
    let whom = || 0..PEOPLE;
    let team = || 0..3usize;
    let again = prop::sample::select(vec![Again::Refuse, Again::Replace]);
    let invite = (
        1..PEOPLE,
        any::<bool>(),
        prop::option::weighted(0.3, team()),
        again,
    );
    prop_oneof![
        1 => any::<bool>().prop_map(|team| What::Create { team }),
        3 => (prop::option::of(text()), prop::option::of(prop::option::of(text())), prop::option::of(text()))
            .prop_map(|(name, logo, slug)| What::Show { name, logo, slug }),
        4 => Just(What::DefineRole),
        4 => (prop::option::of(prop::sample::select(NAMES.to_vec())), prop::option::of(any::<bool>()))
            .prop_map(|(name, permission)| What::ChangeRole { name, permission }),
        4 => Just(What::MakeTeam),
        3 => (team(), text()).prop_map(|(team, name)| What::RenameTeam(team, name)),
        4 => team().prop_map(What::DropTeam),
        6 => (team(), whom()).prop_map(|(team, whom)| What::Join(team, whom)),
        4 => (team(), whom()).prop_map(|(team, whom)| What::TakeOut(team, whom)),
        10 => invite.prop_map(|(whom, clerk, team, again)| What::Invite { whom, clerk, team, again }),
        3 => whom().prop_map(What::Renew),
        3 => whom().prop_map(What::Erase),
        3 => whom().prop_map(What::Remove),
        3 => any::<bool>().prop_map(|outdated| What::Desert { outdated }),
    ]
}

/// Most is asked for by the owner; most invitations are answered by whom they are for.
fn request() -> impl Strategy<Value = Request> {
    let actor = prop_oneof![4 => Just(0), 1 => 0..PEOPLE];
    let asked =
        (0..4i64, actor, what()).prop_map(|(after, actor, what)| Request { after, actor, what });
    let own = prop::bool::weighted(0.8);
    let answered = (0..4i64, 0..PEOPLE, 1..PEOPLE, own, any::<bool>());
    let answered = answered.prop_map(|(after, other, whom, own, accepts)| Request {
        after,
        actor: if own { whom } else { other },
        what: if accepts {
            What::Accept(whom)
        } else {
            What::Reject(whom)
        },
    });
    prop_oneof![4 => asked, 1 => answered]
}

/// Nearly all begin with an organization, which nobody but person 0 makes; half of them with somebody else in it.
pub fn requests() -> impl Strategy<Value = Vec<Request>> {
    let at_once = |actor, what| Request {
        after: 0,
        actor,
        what,
    };
    let invite = |clerk| What::Invite {
        whom: 1,
        clerk,
        team: None,
        again: Again::Refuse,
    };
    let opening = (
        prop::bool::weighted(0.95),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let opening = opening.prop_map(move |(made, team, joined, clerk)| {
        let mut opening = vec![at_once(0, What::Create { team })];
        if joined {
            opening.extend(clerk.then_some(at_once(0, What::DefineRole)));
            opening.extend([at_once(0, invite(clerk)), at_once(1, What::Accept(1))]);
        }
        if made { opening } else { vec![] }
    });
    (opening, vec(request(), LENGTH)).prop_map(|(opening, rest)| {
        let founder = |request| match request {
            Request {
                what: What::Create { .. },
                ..
            } => Request {
                actor: 0,
                ..request
            },
            other => other,
        };
        opening.into_iter().chain(rest).map(founder).collect()
    })
}

fn user(person: usize) -> UserId {
    UserId::new(format!("u{person}"))
}

fn email(person: usize) -> EmailAddress {
    EmailAddress::parse(&format!("u{person}@example.com")).unwrap()
}

/// What a request is to the aggregate. What is made by it is called after its number, what is there already as whoever
/// asks has read it.
pub fn command(request: Request, number: usize, now: i64, model: &Model) -> Command {
    let (actor, at) = (user(request.actor), minute(now));
    let owned = |text: &str| text.to_owned();
    let team_id = |team: usize| format!("t{team}");
    let member_id = |person: usize| format!("m{person}");
    let membership = || format!("tm{number}");
    let last = |whom| {
        let last = model.sent.iter().rposition(|sent| sent.whom == whom);
        last.map(|place| format!("i{place}")).unwrap_or_default()
    };
    let (role_id, role_name) = (
        "r".to_owned(),
        model.role.map_or(NAMES[0], |(name, _)| name),
    );
    let permission = |gives: bool| -> Permissions {
        [(
            owned("project"),
            vec![owned(if gives { "create" } else { "update" })],
        )]
        .into()
    };
    match request.what {
        What::Create { team } => Command::Create(Foundation {
            id: OrganizationId::new("o1"),
            owner: actor,
            member_id: member_id(request.actor),
            name: owned("x"),
            slug: owned("x"),
            logo: None,
            metadata: None,
            team: team.then(|| FirstTeam {
                team_id: team_id(0),
                team_member_id: membership(),
            }),
            at,
        }),
        What::Show { name, logo, slug } => {
            let update = Update {
                name: name.map(owned),
                slug: slug.map(owned),
                logo: logo.map(|logo| logo.map(owned)),
                metadata: None,
            };
            Command::Update { actor, update, at }
        }
        What::DefineRole => Command::CreateRole {
            actor,
            role_id,
            name: owned(role_name),
            permission: permission(false),
            at,
        },
        What::ChangeRole {
            name,
            permission: gives,
        } => Command::UpdateRole {
            actor,
            role: RoleKey::Name(owned(role_name)),
            name: name.map(owned),
            permission: gives.map(permission),
            at,
        },
        What::MakeTeam => Command::CreateTeam {
            actor,
            team_id: team_id(model.teams.len()),
            name: owned("x"),
            at,
        },
        What::RenameTeam(team, name) => Command::RenameTeam {
            actor,
            team_id: team_id(team),
            name: Some(owned(name)),
            at,
        },
        What::DropTeam(team) => Command::RemoveTeam {
            actor,
            team_id: team_id(team),
            at,
        },
        What::Join(team, whom) => Command::AddTeamMember {
            actor,
            team_member_id: membership(),
            team_id: team_id(team),
            user_id: user(whom),
            at,
        },
        What::TakeOut(team, whom) => Command::RemoveTeamMember {
            actor,
            team_id: team_id(team),
            user_id: user(whom),
            at,
        },
        What::Invite {
            whom,
            clerk,
            team,
            again,
        } => {
            let invitation_id = format!("i{}", model.sent.len());
            Command::Invite(Invite {
                actor,
                subject: format!("o1/{invitation_id}"),
                invitation_id,
                email: email(whom),
                invitee: Some(user(whom)),
                role: owned(if clerk { role_name } else { "member" }),
                team_ids: team.map(team_id).into_iter().collect(),
                again,
                expires_at: minute(now + STANDS),
                at,
            })
        }
        What::Renew(whom) => Command::RenewInvitation {
            actor,
            invitation_id: last(whom),
            expires_at: minute(now + STANDS),
            at,
        },
        What::Accept(whom) => Command::AcceptInvitation(Acceptance {
            actor,
            email: email(request.actor),
            invitation_id: last(whom),
            member_id: member_id(request.actor),
            team_member_ids: vec![membership()],
            at,
        }),
        What::Reject(whom) => Command::RejectInvitation {
            email: email(request.actor),
            invitation_id: last(whom),
            at,
        },
        What::Erase(whom) => Command::EraseInvitation {
            invitation_id: last(whom),
            at,
        },
        What::Remove(whom) => Command::RemoveMember {
            actor,
            member_id: member_id(whom),
            at,
        },
        What::Desert { outdated } => Command::Desert {
            user_id: actor,
            invitations: model.keys() + usize::from(outdated),
            at,
        },
    }
}
