mod invitations;
mod members;
mod roles;
mod stages;
mod teams;

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::test::TestFramework;

use super::*;
use crate::user::Change;
use crate::{ClaimChange, ClaimScope, EmailAddress, OrganizationId, StoredEvent, UserId};

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn organization() -> TestFramework<Organization> {
    TestFramework::with(())
}

fn user(id: &str) -> UserId {
    UserId::new(id)
}

fn about_o1<T>(value: T) -> Personal<T> {
    Personal::about("o1", value)
}

fn text(value: &str) -> Personal<String> {
    about_o1(value.to_owned())
}

fn create() -> Foundation {
    Foundation {
        id: OrganizationId::new("o1"),
        owner: user("olga"),
        member_id: "m-olga".into(),
        name: "Acme".into(),
        slug: "acme".into(),
        logo: None,
        metadata: Some("{}".into()),
        team: None,
        at: at(),
    }
}

/// Olga's organization.
fn created() -> Vec<OrganizationEvent> {
    vec![
        OrganizationEvent::Created {
            name: text("Acme"),
            slug: text("acme"),
            logo: None,
            metadata: Some(text("{}")),
            by: Some(user("olga")),
            at: at(),
        },
        joined("olga", "owner"),
    ]
}

fn joined(user_id: &str, role: &str) -> OrganizationEvent {
    OrganizationEvent::MemberAdded {
        member_id: format!("m-{user_id}"),
        user_id: user(user_id),
        role: role.into(),
        at: at(),
    }
}

/// Olga's organization, with others in it, each with their roles.
fn with(members: &[(&str, &str)]) -> Vec<OrganizationEvent> {
    let members = members.iter().map(|(user_id, role)| joined(user_id, role));
    created().into_iter().chain(members).collect()
}

fn closed(reason: CloseReason) -> OrganizationEvent {
    let by = (reason == CloseReason::Deleted).then(|| user("olga"));
    OrganizationEvent::Closed {
        reason,
        by,
        at: at(),
    }
}

fn permission(resource: &str, actions: &[&str]) -> permissions::Permissions {
    let actions = actions.iter().map(ToString::to_string).collect();
    [(resource.to_owned(), actions)].into()
}

fn role_created(name: &str, permission: permissions::Permissions) -> OrganizationEvent {
    OrganizationEvent::RoleCreated {
        role_id: format!("r-{name}"),
        name: name.into(),
        permission,
        at: at(),
    }
}

fn update(actor: &str, update: Update) -> OrganizationCommand {
    OrganizationCommand::Update {
        actor: user(actor),
        update,
        at: at(),
    }
}

#[test]
fn an_organization_begins_with_its_owner() {
    organization()
        .given_no_previous_events()
        .when(OrganizationCommand::Create(create()))
        .then_expect_events(created());
    organization()
        .given(created())
        .when(OrganizationCommand::Create(create()))
        .then_expect_error(OrganizationError::AlreadyExists);
}

#[test]
fn it_may_begin_with_a_team_of_its_name() {
    let team = FirstTeam {
        team_id: "t1".into(),
        team_member_id: "tm1".into(),
    };
    let mut events = created();
    events.extend([
        OrganizationEvent::TeamCreated {
            team_id: "t1".into(),
            name: text("Acme"),
            first: true,
            at: at(),
        },
        OrganizationEvent::TeamMemberAdded {
            team_member_id: "tm1".into(),
            team_id: "t1".into(),
            user_id: user("olga"),
            at: at(),
        },
    ]);
    organization()
        .given_no_previous_events()
        .when(OrganizationCommand::Create(Foundation {
            team: Some(team),
            ..create()
        }))
        .then_expect_events(events);
}

#[test]
fn what_changes_is_told_and_what_stays_is_not() {
    let all = Update {
        name: Some("New".into()),
        slug: Some("new".into()),
        logo: Some(Some("l".into())),
        metadata: Some(None),
    };
    organization()
        .given(created())
        .when(update("olga", all))
        .then_expect_events(vec![
            OrganizationEvent::Updated {
                name: Some(text("New")),
                logo: Change::Set(text("l")),
                metadata: Change::Removed,
                at: at(),
            },
            OrganizationEvent::SlugChanged {
                from: text("acme"),
                to: text("new"),
                at: at(),
            },
        ]);
    let same = Update {
        name: Some("Acme".into()),
        slug: Some("acme".into()),
        logo: Some(None),
        metadata: Some(Some("{}".into())),
    };
    organization()
        .given(created())
        .when(update("olga", same))
        .then_expect_events(vec![]);
}

#[test]
fn only_who_may_changes_it() {
    let given = with(&[("mia", "member")]);
    for (actor, refusal) in [
        ("mia", OrganizationError::NotAllowed),
        ("eve", OrganizationError::NotAMember),
    ] {
        organization()
            .given(given.clone())
            .when(update(actor, Update::default()))
            .then_expect_error(refusal);
    }
}

#[test]
fn a_slug_is_held_by_one_organization_and_goes_with_it() {
    let claims = |event: OrganizationEvent| event.claims();
    let take = |slug: &str| ClaimChange::Take(ClaimScope::Slug, slug.into());
    let release = |slug: &str| ClaimChange::Release(ClaimScope::Slug, slug.into());
    assert!(claims(created().remove(0)) == [take("acme")]);
    let changed = OrganizationEvent::SlugChanged {
        from: text("acme"),
        to: text("new"),
        at: at(),
    };
    assert!(claims(changed) == [release("acme"), take("new")]);
    assert!(claims(closed(CloseReason::Deleted)) == [ClaimChange::ReleaseAll]);
}

fn delete(actor: &str, invitations: usize) -> OrganizationCommand {
    OrganizationCommand::Delete {
        actor: user(actor),
        invitations,
        at: at(),
    }
}

#[test]
fn owners_close_it() {
    let given = with(&[("adam", "admin")]);
    organization()
        .given(given.clone())
        .when(delete("olga", 0))
        .then_expect_events(vec![closed(CloseReason::Deleted)]);
    organization()
        .given(given.clone())
        .when(delete("adam", 0))
        .then_expect_error(OrganizationError::NotAllowed);
    organization()
        .given(given)
        .when(delete("eve", 0))
        .then_expect_error(OrganizationError::NotAMember);
}

#[test]
fn no_key_of_an_invitation_stays_behind() {
    let mut given = created();
    given.push(invitations::sent("ida@example.com", "member", &[]));
    organization()
        .given(given.clone())
        .when(delete("olga", 0))
        .then_expect_error(OrganizationError::Outdated);
    organization()
        .given(given)
        .when(delete("olga", 1))
        .then_expect_events(vec![closed(CloseReason::Deleted)]);
}

fn forget(user_id: &str) -> OrganizationCommand {
    OrganizationCommand::ForgetMember {
        user_id: user(user_id),
        at: at(),
    }
}

fn desert(user_id: &str) -> OrganizationCommand {
    OrganizationCommand::Desert {
        user_id: user(user_id),
        invitations: 0,
        at: at(),
    }
}

fn erased(user_id: &str) -> OrganizationEvent {
    members::removed(user_id, RemovalReason::Erased)
}

fn inherits(user_id: &str) -> OrganizationEvent {
    members::role_changed(user_id, "owner")
}

#[test]
fn an_erased_owner_leaves_it_to_an_admin_or_else_to_whoever_came_first() {
    organization()
        .given(with(&[("mia", "member"), ("adam", "admin")]))
        .when(forget("olga"))
        .then_expect_events(vec![erased("olga"), inherits("adam")]);
    organization()
        .given(with(&[("mia", "member"), ("max", "member")]))
        .when(forget("olga"))
        .then_expect_events(vec![erased("olga"), inherits("mia")]);
    organization()
        .given(with(&[("adam", "admin"), ("otto", "owner")]))
        .when(forget("olga"))
        .then_expect_events(vec![erased("olga")]);
}

#[test]
fn an_erased_stranger_changes_nothing() {
    organization()
        .given(created())
        .when(forget("eve"))
        .then_expect_events(vec![]);
}

#[test]
fn an_organization_that_nobody_is_left_in_is_closed() {
    organization()
        .given(created())
        .when(forget("olga"))
        .then_expect_error(OrganizationError::LastMember);
    organization()
        .given(created())
        .when(desert("olga"))
        .then_expect_events(vec![closed(CloseReason::Deserted)]);
    organization()
        .given(with(&[("mia", "member")]))
        .when(desert("olga"))
        .then_expect_error(OrganizationError::OtherMembers);
    organization()
        .given(created())
        .when(desert("eve"))
        .then_expect_error(OrganizationError::NotAMember);
}

#[test]
fn erased_values_are_no_claims_and_change_no_rule() {
    let erased: Personal<String> =
        serde_json::from_str(r#"{"$personal":{"subject":"o1","erased":true}}"#).unwrap();
    let event = OrganizationEvent::Created {
        name: erased.clone(),
        slug: erased,
        logo: None,
        metadata: None,
        by: None,
        at: at(),
    };
    assert!(event.claims().is_empty());
    organization()
        .given(vec![event, joined("olga", "owner")])
        .when(delete("olga", 0))
        .then_expect_events(vec![closed(CloseReason::Deleted)]);
}

/// When invitations of these tests end.
fn end() -> DateTime<Utc> {
    at() + TimeDelta::hours(48)
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}
