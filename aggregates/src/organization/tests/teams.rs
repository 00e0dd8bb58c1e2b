//! Members in groups.

use super::*;

pub fn created(id: &str) -> OrganizationEvent {
    OrganizationEvent::TeamCreated {
        team_id: id.into(),
        name: text(id),
        first: false,
        at: at(),
    }
}

pub fn added(team_id: &str, user_id: &str) -> OrganizationEvent {
    OrganizationEvent::TeamMemberAdded {
        team_member_id: format!("tm-{team_id}-{user_id}"),
        team_id: team_id.into(),
        user_id: user(user_id),
        at: at(),
    }
}

pub fn left(team_id: &str, user_id: &str) -> OrganizationEvent {
    OrganizationEvent::TeamMemberRemoved {
        team_member_id: format!("tm-{team_id}-{user_id}"),
        at: at(),
    }
}

pub fn create(actor: &str) -> OrganizationCommand {
    OrganizationCommand::CreateTeam {
        actor: user(actor),
        team_id: "t3".into(),
        name: "t3".into(),
        at: at(),
    }
}

pub fn rename(actor: &str, team_id: &str, name: Option<&str>) -> OrganizationCommand {
    OrganizationCommand::RenameTeam {
        actor: user(actor),
        team_id: team_id.into(),
        name: name.map(Into::into),
        at: at(),
    }
}

pub fn remove(actor: &str, team_id: &str) -> OrganizationCommand {
    OrganizationCommand::RemoveTeam {
        actor: user(actor),
        team_id: team_id.into(),
        at: at(),
    }
}

pub fn add(actor: &str, team_id: &str, user_id: &str) -> OrganizationCommand {
    OrganizationCommand::AddTeamMember {
        actor: user(actor),
        team_member_id: format!("tm-{team_id}-{user_id}"),
        team_id: team_id.into(),
        user_id: user(user_id),
        at: at(),
    }
}

pub fn take_out(actor: &str, team_id: &str, user_id: &str) -> OrganizationCommand {
    OrganizationCommand::RemoveTeamMember {
        actor: user(actor),
        team_id: team_id.into(),
        user_id: user(user_id),
        at: at(),
    }
}

/// Two teams; mia is in the first.
fn two_teams() -> Vec<OrganizationEvent> {
    let mut events = with(&[("adam", "admin"), ("mia", "member")]);
    events.extend([created("t1"), created("t2"), added("t1", "mia")]);
    events
}

#[test]
fn those_who_may_make_and_change_teams() {
    for (command, events) in [
        (create("adam"), vec![created("t3")]),
        (
            rename("adam", "t1", Some("Navy")),
            vec![OrganizationEvent::TeamRenamed {
                team_id: "t1".into(),
                name: text("Navy"),
                at: at(),
            }],
        ),
        (rename("adam", "t1", Some("t1")), vec![]),
        (rename("adam", "t1", None), vec![]),
        (
            remove("adam", "t1"),
            vec![
                left("t1", "mia"),
                OrganizationEvent::TeamRemoved {
                    team_id: "t1".into(),
                    at: at(),
                },
            ],
        ),
        (add("adam", "t2", "mia"), vec![added("t2", "mia")]),
        (add("adam", "t1", "mia"), vec![]),
        (take_out("adam", "t1", "mia"), vec![left("t1", "mia")]),
    ] {
        organization()
            .given(two_teams())
            .when(command)
            .then_expect_events(events);
    }
}

#[test]
fn others_do_not() {
    for command in [
        create,
        |actor: &str| rename(actor, "t1", None),
        |actor: &str| remove(actor, "t1"),
        |actor: &str| add(actor, "t2", "mia"),
        |actor: &str| take_out(actor, "t1", "mia"),
    ] {
        for (actor, refusal) in [
            ("mia", OrganizationError::NotAllowed),
            ("eve", OrganizationError::NotAMember),
        ] {
            organization()
                .given(two_teams())
                .when(command(actor))
                .then_expect_error(refusal);
        }
    }
}

#[test]
fn teams_and_their_members_have_to_be_there() {
    for (command, refusal) in [
        (
            rename("adam", "nope", None),
            OrganizationError::TeamNotFound,
        ),
        (remove("adam", "nope"), OrganizationError::TeamNotFound),
        (add("adam", "nope", "mia"), OrganizationError::TeamNotFound),
        (
            take_out("adam", "nope", "mia"),
            OrganizationError::TeamNotFound,
        ),
        (add("adam", "t1", "eve"), OrganizationError::Stranger),
        (take_out("adam", "t2", "mia"), OrganizationError::NotInTeam),
    ] {
        organization()
            .given(two_teams())
            .when(command)
            .then_expect_error(refusal);
    }
}

#[test]
fn one_team_stays() {
    let mut given = with(&[]);
    given.push(created("t1"));
    organization()
        .given(given)
        .when(remove("olga", "t1"))
        .then_expect_error(OrganizationError::LastTeam);
}

#[test]
fn so_many_teams_there_are() {
    let mut given = with(&[]);
    given.extend((0..TEAMS_MAX).map(|n| created(&n.to_string())));
    organization()
        .given(given)
        .when(create("olga"))
        .then_expect_error(OrganizationError::TooManyTeams);
}
