//! Who is asked in, and who comes.

use super::*;

pub fn invite(actor: &str, email: &str, role: &str) -> Invite {
    Invite {
        actor: user(actor),
        invitation_id: format!("i-{email}"),
        subject: format!("o1/i-{email}"),
        email: address(email),
        invitee: None,
        role: role.into(),
        team_ids: vec![],
        again: Again::Refuse,
        expires_at: end(),
        at: at(),
    }
}

pub fn sent(email: &str, role: &str, team_ids: &[&str]) -> OrganizationEvent {
    OrganizationEvent::InvitationSent {
        invitation_id: format!("i-{email}"),
        email: Personal::about(format!("o1/i-{email}"), address(email)),
        role: role.into(),
        team_ids: team_ids.iter().map(ToString::to_string).collect(),
        inviter_id: user("olga"),
        expires_at: end(),
        at: at(),
    }
}

pub fn accept(actor: &str, email: &str) -> Acceptance {
    Acceptance {
        actor: user(actor),
        email: address(email),
        invitation_id: "i-ida@example.com".into(),
        member_id: format!("m-{actor}"),
        team_member_ids: vec![],
        at: at(),
    }
}

fn accepted() -> OrganizationEvent {
    OrganizationEvent::InvitationAccepted {
        invitation_id: "i-ida@example.com".into(),
        at: at(),
    }
}

fn canceled() -> OrganizationEvent {
    OrganizationEvent::InvitationCanceled {
        invitation_id: "i-ida@example.com".into(),
        at: at(),
    }
}

fn invited() -> Vec<OrganizationEvent> {
    let mut events = with(&[("adam", "admin"), ("mia", "member")]);
    events.push(sent("ida@example.com", "member", &[]));
    events
}

fn refused(given: Vec<OrganizationEvent>, command: OrganizationCommand, with: OrganizationError) {
    organization()
        .given(given)
        .when(command)
        .then_expect_error(with);
}

#[test]
fn owners_and_admins_invite() {
    organization()
        .given(with(&[]))
        .when(OrganizationCommand::Invite(invite(
            "olga",
            "ida@example.com",
            "member,admin",
        )))
        .then_expect_events(vec![sent("ida@example.com", "member,admin", &[])]);
}

/// S-63
#[test]
fn not_everybody_invites_everybody() {
    let given = with(&[("adam", "admin"), ("mia", "member")]);
    let member = Invite {
        invitee: Some(user("mia")),
        ..invite("olga", "mia@example.com", "member")
    };
    let team = Invite {
        team_ids: vec!["nope".into()],
        ..invite("olga", "ida@example.com", "member")
    };
    for (invite, refusal) in [
        (
            invite("eve", "ida@example.com", "member"),
            OrganizationError::NotAMember,
        ),
        (
            invite("mia", "ida@example.com", "member"),
            OrganizationError::NotAllowed,
        ),
        (
            invite("olga", "ida@example.com", "wizard"),
            OrganizationError::RoleNotFound("wizard".into()),
        ),
        (
            invite("adam", "ida@example.com", "owner"),
            OrganizationError::RoleAboveOwn,
        ),
        (member, OrganizationError::AlreadyMember),
        (team, OrganizationError::TeamNotFound),
    ] {
        refused(given.clone(), OrganizationCommand::Invite(invite), refusal);
    }
}

#[test]
fn an_address_is_invited_once_or_anew() {
    let again = |again| Invite {
        invitation_id: "i-2".into(),
        subject: "o1/i-2".into(),
        again,
        expires_at: end() + TimeDelta::hours(1),
        ..invite("olga", "ida@example.com", "admin")
    };
    refused(
        invited(),
        OrganizationCommand::Invite(again(Again::Refuse)),
        OrganizationError::AlreadyInvited,
    );
    let second = OrganizationEvent::InvitationSent {
        invitation_id: "i-2".into(),
        email: Personal::about("o1/i-2", address("ida@example.com")),
        role: "admin".into(),
        team_ids: vec![],
        inviter_id: user("olga"),
        expires_at: end() + TimeDelta::hours(1),
        at: at(),
    };
    organization()
        .given(invited())
        .when(OrganizationCommand::Invite(again(Again::Replace)))
        .then_expect_events(vec![canceled(), second]);
}

#[test]
fn only_an_invitation_that_one_could_have_sent_is_renewed() {
    let renew = |actor: &str, at| OrganizationCommand::RenewInvitation {
        actor: user(actor),
        invitation_id: "i-ida@example.com".into(),
        expires_at: end() + TimeDelta::hours(1),
        at,
    };
    organization()
        .given(invited())
        .when(renew("adam", at()))
        .then_expect_events(vec![OrganizationEvent::InvitationRenewed {
            invitation_id: "i-ida@example.com".into(),
            expires_at: end() + TimeDelta::hours(1),
            at: at(),
        }]);
    for (actor, at, refusal) in [
        ("adam", end(), OrganizationError::InvitationNotFound),
        ("mia", at(), OrganizationError::NotAllowed),
        ("eve", at(), OrganizationError::NotAMember),
    ] {
        refused(invited(), renew(actor, at), refusal);
    }
    let mut given = with(&[("adam", "admin")]);
    given.push(sent("ida@example.com", "owner", &[]));
    refused(given, renew("adam", at()), OrganizationError::RoleAboveOwn);
}

#[test]
fn so_many_stand_at_one_time() {
    let mut given = with(&[]);
    given.extend((0..INVITATIONS_MAX).map(|n| sent(&format!("i{n}@example.com"), "member", &[])));
    let another = invite("olga", "ida@example.com", "member");
    refused(
        given.clone(),
        OrganizationCommand::Invite(another.clone()),
        OrganizationError::TooManyInvitations,
    );
    // Those that are out of date do not count, and the address of one may be invited anew.
    for email in ["ida@example.com", "i0@example.com"] {
        let later = Invite {
            at: end(),
            ..invite("olga", email, "member")
        };
        let events = organization()
            .given(given.clone())
            .when(OrganizationCommand::Invite(later))
            .inspect_result();
        assert_eq!(events.unwrap().len(), 1);
    }
}

#[test]
fn whoever_was_invited_comes_in_once() {
    organization()
        .given(invited())
        .when(OrganizationCommand::AcceptInvitation(accept(
            "ida",
            "ida@example.com",
        )))
        .then_expect_events(vec![accepted(), joined("ida", "member")]);
    let mut given = invited();
    given.extend([accepted(), joined("ida", "member")]);
    refused(
        given,
        OrganizationCommand::AcceptInvitation(accept("ida", "ida@example.com")),
        OrganizationError::InvitationNotFound,
    );
}

#[test]
fn nobody_else_does_and_not_too_late() {
    let accept = |accept| OrganizationCommand::AcceptInvitation(accept);
    let late = Acceptance {
        at: end(),
        ..self::accept("ida", "ida@example.com")
    };
    for (command, refusal) in [
        (
            accept(self::accept("eve", "eve@example.com")),
            OrganizationError::NotTheRecipient,
        ),
        (accept(late), OrganizationError::InvitationNotFound),
        (
            accept(self::accept("mia", "ida@example.com")),
            OrganizationError::AlreadyMember,
        ),
    ] {
        refused(invited(), command, refusal);
    }
}

/// S-63, S-64
#[test]
fn an_invitation_is_worth_no_more_than_whoever_sent_it() {
    let accept = OrganizationCommand::AcceptInvitation(accept("ida", "ida@example.com"));
    let gone = members::removed("olga", RemovalReason::Erased);
    for change in [gone, members::role_changed("olga", "member")] {
        let mut given = invited();
        given.push(change);
        refused(given, accept.clone(), OrganizationError::InviterGone);
    }
    let mut given = with(&[]);
    given.extend([
        role_created("editor", permission("project", &["update"])),
        sent("ida@example.com", "editor", &[]),
        OrganizationEvent::RoleDeleted {
            role_id: "r-editor".into(),
            at: at(),
        },
    ]);
    refused(
        given,
        accept,
        OrganizationError::RoleNotFound("editor".into()),
    );
}

#[test]
fn so_many_members_there_are() {
    let mut given = invited();
    given.extend((3..MEMBERS_MAX).map(|n| joined(&format!("u{n}"), "member")));
    refused(
        given,
        OrganizationCommand::AcceptInvitation(accept("ida", "ida@example.com")),
        OrganizationError::TooManyMembers,
    );
}

#[test]
fn an_invitation_leads_into_teams_that_are_there() {
    let mut given = with(&[]);
    given.extend([
        teams::created("t1"),
        teams::created("t2"),
        sent("ida@example.com", "member", &["t1", "t2"]),
        OrganizationEvent::TeamRemoved {
            team_id: "t1".into(),
            at: at(),
        },
    ]);
    let accept = Acceptance {
        team_member_ids: vec!["tm-1".into(), "tm-t2-ida".into()],
        ..accept("ida", "ida@example.com")
    };
    organization()
        .given(given)
        .when(OrganizationCommand::AcceptInvitation(accept))
        .then_expect_events(vec![
            accepted(),
            joined("ida", "member"),
            teams::added("t2", "ida"),
        ]);
}

#[test]
fn an_invitation_is_rejected_by_whom_it_is_for() {
    let reject = |email: &str, at| OrganizationCommand::RejectInvitation {
        email: address(email),
        invitation_id: "i-ida@example.com".into(),
        at,
    };
    organization()
        .given(invited())
        .when(reject("ida@example.com", at()))
        .then_expect_events(vec![OrganizationEvent::InvitationRejected {
            invitation_id: "i-ida@example.com".into(),
            at: at(),
        }]);
    refused(
        invited(),
        reject("eve@example.com", at()),
        OrganizationError::NotTheRecipient,
    );
    refused(
        invited(),
        reject("ida@example.com", end()),
        OrganizationError::InvitationNotFound,
    );
}

#[test]
fn an_erased_invitation_is_open_to_nobody_and_has_no_key() {
    let erase = OrganizationCommand::EraseInvitation {
        invitation_id: "i-ida@example.com".into(),
        at: at(),
    };
    let erased = OrganizationEvent::InvitationErased {
        invitation_id: "i-ida@example.com".into(),
        at: at(),
    };
    organization()
        .given(invited())
        .when(erase.clone())
        .then_expect_events(vec![erased.clone()]);
    let mut given = invited();
    given.push(erased);
    organization()
        .given(given.clone())
        .when(erase)
        .then_expect_events(vec![]);
    refused(
        given.clone(),
        OrganizationCommand::AcceptInvitation(accept("ida", "ida@example.com")),
        OrganizationError::InvitationNotFound,
    );
    organization()
        .given(given)
        .when(delete("olga", 0))
        .then_expect_events(vec![closed(CloseReason::Deleted)]);
}

#[test]
fn an_invitation_is_taken_back_by_those_who_may() {
    let cancel = |actor: &str, id: &str| OrganizationCommand::CancelInvitation {
        actor: user(actor),
        invitation_id: id.into(),
        at: at(),
    };
    let ida = "i-ida@example.com";
    organization()
        .given(invited())
        .when(cancel("adam", ida))
        .then_expect_events(vec![canceled()]);
    for (command, refusal) in [
        (cancel("mia", ida), OrganizationError::NotAllowed),
        (cancel("eve", ida), OrganizationError::NotAMember),
        (
            cancel("adam", "nope"),
            OrganizationError::InvitationNotFound,
        ),
    ] {
        refused(invited(), command, refusal);
    }
}
