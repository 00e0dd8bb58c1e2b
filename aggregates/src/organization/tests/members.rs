//! Roles, removals, and the owner who stays.

use super::*;

pub fn removed(user_id: &str, reason: RemovalReason) -> OrganizationEvent {
    OrganizationEvent::MemberRemoved {
        member_id: format!("m-{user_id}"),
        user_id: user(user_id),
        reason,
        at: at(),
    }
}

pub fn role_changed(user_id: &str, role: &str) -> OrganizationEvent {
    OrganizationEvent::MemberRoleChanged {
        member_id: format!("m-{user_id}"),
        role: role.into(),
        at: at(),
    }
}

pub fn change(actor: &str, whose: &str, role: &str) -> OrganizationCommand {
    OrganizationCommand::ChangeMemberRole {
        actor: user(actor),
        member_id: format!("m-{whose}"),
        role: role.into(),
        at: at(),
    }
}

pub fn remove(actor: &str, whom: &str) -> OrganizationCommand {
    OrganizationCommand::RemoveMember {
        actor: user(actor),
        member_id: format!("m-{whom}"),
        at: at(),
    }
}

pub fn leave(actor: &str) -> OrganizationCommand {
    OrganizationCommand::Leave {
        actor: user(actor),
        at: at(),
    }
}

fn crowd() -> Vec<OrganizationEvent> {
    with(&[("adam", "admin"), ("anna", "admin"), ("mia", "member")])
}

#[test]
fn owners_and_admins_give_roles() {
    organization()
        .given(crowd())
        .when(change("olga", "mia", "member,admin"))
        .then_expect_events(vec![role_changed("mia", "member,admin")]);
    organization()
        .given(crowd())
        .when(change("adam", "mia", "admin"))
        .then_expect_events(vec![role_changed("mia", "admin")]);
    organization()
        .given(crowd())
        .when(change("olga", "mia", "member"))
        .then_expect_events(vec![]);
}

/// S-63
#[test]
fn nobody_gives_or_takes_what_they_lack() {
    for command in [
        change("adam", "mia", "owner"),
        change("adam", "adam", "owner"),
        change("adam", "olga", "member"),
    ] {
        organization()
            .given(crowd())
            .when(command)
            .then_expect_error(OrganizationError::RoleAboveOwn);
    }
    // Somebody who may change roles and nothing else.
    let mut given = crowd();
    given.push(role_created("clerk", permission("member", &["update"])));
    given.push(joined("carl", "clerk"));
    given.push(role_created("idle", permission("member", &["update"])));
    for command in [
        change("carl", "mia", "admin"),
        change("carl", "anna", "idle"),
    ] {
        organization()
            .given(given.clone())
            .when(command)
            .then_expect_error(OrganizationError::RoleAboveOwn);
    }
}

/// S-65
#[test]
fn of_two_admins_who_demote_each_other_one_is_one_no_more() {
    let mut given = crowd();
    given.push(role_changed("anna", "member"));
    organization()
        .given(given)
        .when(change("anna", "adam", "member"))
        .then_expect_error(OrganizationError::NotAllowed);
}

#[test]
fn a_role_has_to_exist_and_be_given_to_somebody() {
    let unknown = |role: &str| OrganizationError::RoleNotFound(role.into());
    for (command, refusal) in [
        (change("olga", "mia", "wizard"), unknown("wizard")),
        (change("olga", "mia", "member,wizard"), unknown("wizard")),
        (change("olga", "mia", ""), unknown("")),
        (
            change("olga", "eve", "member"),
            OrganizationError::MemberNotFound,
        ),
        (
            change("eve", "mia", "member"),
            OrganizationError::NotAMember,
        ),
        (
            change("mia", "adam", "member"),
            OrganizationError::NotAllowed,
        ),
    ] {
        organization()
            .given(crowd())
            .when(command)
            .then_expect_error(refusal);
    }
}

/// S-65
#[test]
fn the_last_owner_stays() {
    for command in [
        change("olga", "olga", "admin"),
        leave("olga"),
        remove("olga", "olga"),
        remove("adam", "olga"),
    ] {
        organization()
            .given(crowd())
            .when(command)
            .then_expect_error(OrganizationError::LastOwner);
    }
    let mut given = crowd();
    given.push(joined("otto", "owner"));
    organization()
        .given(given.clone())
        .when(leave("olga"))
        .then_expect_events(vec![removed("olga", RemovalReason::Left)]);
    organization()
        .given(given.clone())
        .when(remove("otto", "olga"))
        .then_expect_events(vec![removed("olga", RemovalReason::Removed)]);
    organization()
        .given(given)
        .when(change("olga", "olga", "member"))
        .then_expect_events(vec![role_changed("olga", "member")]);
}

#[test]
fn members_are_taken_out_by_those_who_may() {
    organization()
        .given(crowd())
        .when(remove("adam", "mia"))
        .then_expect_events(vec![removed("mia", RemovalReason::Removed)]);
    for (command, refusal) in [
        (remove("mia", "adam"), OrganizationError::NotAllowed),
        (remove("eve", "adam"), OrganizationError::NotAMember),
        (remove("olga", "eve"), OrganizationError::MemberNotFound),
        (leave("eve"), OrganizationError::NotAMember),
    ] {
        organization()
            .given(crowd())
            .when(command)
            .then_expect_error(refusal);
    }
    let mut given = crowd();
    given.push(role_created("bouncer", permission("member", &["delete"])));
    given.push(joined("bob", "bouncer"));
    organization()
        .given(given)
        .when(remove("bob", "adam"))
        .then_expect_error(OrganizationError::NotAllowed);
}

#[test]
fn whoever_goes_leaves_their_teams() {
    let mut given = crowd();
    given.extend([
        teams::created("t1"),
        teams::added("t1", "mia"),
        teams::added("t1", "adam"),
    ]);
    organization()
        .given(given)
        .when(leave("mia"))
        .then_expect_events(vec![
            teams::left("t1", "mia"),
            removed("mia", RemovalReason::Left),
        ]);
}
