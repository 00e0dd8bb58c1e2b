//! Before it is made and after its end nothing happens to an organization.

use super::*;

const INVITATION: &str = "i-ida@example.com";

/// One of every command but the one that makes an organization.
fn every_command() -> Vec<OrganizationCommand> {
    let (actor, at) = (user("olga"), at());
    let (invitation_id, email) = (INVITATION.to_owned(), address("ida@example.com"));
    vec![
        update("olga", Update::default()),
        delete("olga", 0),
        desert("olga"),
        forget("olga"),
        members::change("olga", "mia", "admin"),
        members::remove("olga", "mia"),
        members::leave("olga"),
        OrganizationCommand::Invite(invitations::invite("olga", "ida@example.com", "member")),
        OrganizationCommand::AcceptInvitation(invitations::accept("ida", "ida@example.com")),
        OrganizationCommand::RenewInvitation {
            actor: actor.clone(),
            invitation_id: invitation_id.clone(),
            expires_at: end(),
            at,
        },
        OrganizationCommand::RejectInvitation {
            email,
            invitation_id: invitation_id.clone(),
            at,
        },
        OrganizationCommand::CancelInvitation {
            actor: actor.clone(),
            invitation_id: invitation_id.clone(),
            at,
        },
        OrganizationCommand::EraseInvitation { invitation_id, at },
        roles::create("olga", "editor", "project", "update"),
        roles::rename(roles::key("editor"), "writer"),
        OrganizationCommand::DeleteRole {
            actor,
            role: roles::key("editor"),
            at,
        },
        teams::create("olga"),
        teams::rename("olga", "t1", Some("x")),
        teams::remove("olga", "t1"),
        teams::add("olga", "t1", "mia"),
        teams::take_out("olga", "t1", "mia"),
    ]
}

#[test]
fn nothing_happens_to_what_nobody_made() {
    for command in every_command() {
        organization()
            .given_no_previous_events()
            .when(command)
            .then_expect_error(OrganizationError::NotFound);
    }
}

#[test]
fn what_is_closed_stays_closed() {
    for reason in [CloseReason::Deleted, CloseReason::Deserted] {
        let mut given = with(&[("mia", "member")]);
        given.extend([
            roles::editor(),
            teams::created("t1"),
            invitations::sent("ida@example.com", "member", &[]),
            closed(reason),
        ]);
        for command in every_command() {
            organization()
                .given(given.clone())
                .when(command)
                .then_expect_error(OrganizationError::NotFound);
        }
        organization()
            .given(given)
            .when(OrganizationCommand::Create(create()))
            .then_expect_error(OrganizationError::AlreadyExists);
    }
}

/// Not even what is still in the log after its end.
#[test]
fn nothing_of_a_closed_organization_stays_in_memory() {
    let mut organization = Organization::default();
    for event in created() {
        organization.apply(event);
    }
    organization.apply(closed(CloseReason::Deleted));
    for event in created() {
        organization.apply(event);
    }
    assert_eq!(organization, Organization::Closed);
}
