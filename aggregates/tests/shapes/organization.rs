//! Every shape that an organization's events can have.

use aggregates::organization::{CloseReason, OrganizationEvent, RemovalReason};
use aggregates::user::Change;
use aggregates::{EmailAddress, Personal, UserId};
use chrono::TimeDelta;
use serde::de::DeserializeOwned;

use super::{ADA, at};

const ENGINES: &str = "o0000000000000000000000000000001";
const INVITATION: &str = "i0000000000000000000000000000001";
const MEMBER: &str = "m0000000000000000000000000000001";
const ROLE: &str = "r0000000000000000000000000000001";
const TEAM: &str = "t0000000000000000000000000000001";
const TEAM_MEMBER: &str = "n0000000000000000000000000000001";

/// One event of every shape, with what tells it from the others of its type.
pub fn organization_events() -> Vec<(&'static str, OrganizationEvent)> {
    [itself(), members(), invitations(), roles(), teams()].concat()
}

fn text(value: &str) -> Personal<String> {
    Personal::about(ENGINES, value.to_owned())
}

/// A value of a closed organization, as the store gives it back.
fn erased<T: DeserializeOwned>(subject: &str) -> Personal<T> {
    let json = format!(r#"{{"$personal":{{"subject":"{subject}","erased":true}}}}"#);
    serde_json::from_str(&json).unwrap()
}

fn itself() -> Vec<(&'static str, OrganizationEvent)> {
    // The first events of these types did not say who.
    let ada = || Some(UserId::new(ADA));
    let created = |name, slug, logo, metadata, by| OrganizationEvent::Created {
        name,
        slug,
        logo,
        metadata,
        by,
        at: at(40),
    };
    let updated = |name, logo, metadata| OrganizationEvent::Updated {
        name,
        logo,
        metadata,
        at: at(41),
    };
    let slug = |from, to| OrganizationEvent::SlugChanged {
        from,
        to,
        at: at(42),
    };
    let closed = |reason, by| OrganizationEvent::Closed {
        reason,
        by,
        at: at(43),
    };
    let gone = || erased(ENGINES);
    vec![
        (
            "",
            created(
                text("Analytical \"Engines\" & Söhne"),
                text("engines"),
                Some(text("https://example.com/engine.png")),
                Some(text(r#"{"b":1,"a":[null]}"#)),
                None,
            ),
        ),
        (".least", created(text("E"), text("e"), None, None, None)),
        (".by", created(text("E"), text("e"), None, None, ada())),
        (
            ".erased",
            created(gone(), gone(), Some(gone()), Some(gone()), None),
        ),
        (
            "",
            updated(
                Some(text("Engines")),
                Change::Set(text("https://example.com/2.png")),
                Change::Set(text("{}")),
            ),
        ),
        (".removed", updated(None, Change::Removed, Change::Removed)),
        (
            ".kept",
            updated(Some(text("Engines")), Change::Kept, Change::Kept),
        ),
        (
            ".erased",
            updated(Some(gone()), Change::Set(gone()), Change::Kept),
        ),
        ("", slug(text("engines"), text("engines-2"))),
        (".erased", slug(gone(), gone())),
        (".deleted", closed(CloseReason::Deleted, None)),
        (".deleted.by", closed(CloseReason::Deleted, ada())),
        (".deserted", closed(CloseReason::Deserted, None)),
    ]
}

fn members() -> Vec<(&'static str, OrganizationEvent)> {
    let removed = |reason| OrganizationEvent::MemberRemoved {
        member_id: MEMBER.to_owned(),
        user_id: UserId::new(ADA),
        reason,
        at: at(46),
    };
    vec![
        (
            "",
            OrganizationEvent::MemberAdded {
                member_id: MEMBER.to_owned(),
                user_id: UserId::new(ADA),
                role: "owner".to_owned(),
                at: at(44),
            },
        ),
        (
            "",
            OrganizationEvent::MemberRoleChanged {
                member_id: MEMBER.to_owned(),
                role: "member,editor".to_owned(),
                at: at(45),
            },
        ),
        (".removed", removed(RemovalReason::Removed)),
        (".left", removed(RemovalReason::Left)),
        (".erased", removed(RemovalReason::Erased)),
    ]
}

fn invitations() -> Vec<(&'static str, OrganizationEvent)> {
    let invitation_id = || INVITATION.to_owned();
    let sent = |email, team_ids| OrganizationEvent::InvitationSent {
        invitation_id: invitation_id(),
        email,
        role: "member".to_owned(),
        team_ids,
        inviter_id: UserId::new(ADA),
        expires_at: at(47) + TimeDelta::hours(48),
        at: at(47),
    };
    let subject = format!("{ENGINES}/{INVITATION}");
    let email = || {
        let email = EmailAddress::parse("king@example.com").unwrap();
        Personal::about(&subject, email)
    };
    vec![
        ("", sent(email(), vec![])),
        (".teams", sent(email(), vec![TEAM.to_owned()])),
        (".erased", sent(erased(&subject), vec![])),
        (
            "",
            OrganizationEvent::InvitationRenewed {
                invitation_id: invitation_id(),
                expires_at: at(48) + TimeDelta::hours(48),
                at: at(48),
            },
        ),
        (
            "",
            OrganizationEvent::InvitationAccepted {
                invitation_id: invitation_id(),
                at: at(49),
            },
        ),
        (
            "",
            OrganizationEvent::InvitationRejected {
                invitation_id: invitation_id(),
                at: at(49),
            },
        ),
        (
            "",
            OrganizationEvent::InvitationCanceled {
                invitation_id: invitation_id(),
                at: at(49),
            },
        ),
        (
            "",
            OrganizationEvent::InvitationErased {
                invitation_id: invitation_id(),
                at: at(49),
            },
        ),
    ]
}

fn roles() -> Vec<(&'static str, OrganizationEvent)> {
    let actions = |actions: &[&str]| actions.iter().map(ToString::to_string).collect();
    let updated = |name, permission| OrganizationEvent::RoleUpdated {
        role_id: ROLE.to_owned(),
        name,
        permission,
        at: at(51),
    };
    vec![
        (
            "",
            OrganizationEvent::RoleCreated {
                role_id: ROLE.to_owned(),
                name: "editor".to_owned(),
                permission: [
                    ("project".to_owned(), actions(&["update", "create"])),
                    ("ac".to_owned(), actions(&["read"])),
                ]
                .into(),
                at: at(50),
            },
        ),
        (".name", updated(Some("writer".to_owned()), None)),
        (
            ".permission",
            updated(
                None,
                Some([("project".to_owned(), actions(&["delete"]))].into()),
            ),
        ),
        (
            "",
            OrganizationEvent::RoleDeleted {
                role_id: ROLE.to_owned(),
                at: at(52),
            },
        ),
    ]
}

fn teams() -> Vec<(&'static str, OrganizationEvent)> {
    let team_id = || TEAM.to_owned();
    let created = |name, first| OrganizationEvent::TeamCreated {
        team_id: team_id(),
        name,
        first,
        at: at(53),
    };
    let renamed = |name| OrganizationEvent::TeamRenamed {
        team_id: team_id(),
        name,
        at: at(54),
    };
    vec![
        ("", created(text("Mill"), false)),
        (".first", created(text("Engines"), true)),
        (".erased", created(erased(ENGINES), false)),
        ("", renamed(text("Store"))),
        (".erased", renamed(erased(ENGINES))),
        (
            "",
            OrganizationEvent::TeamRemoved {
                team_id: team_id(),
                at: at(55),
            },
        ),
        (
            "",
            OrganizationEvent::TeamMemberAdded {
                team_member_id: TEAM_MEMBER.to_owned(),
                team_id: team_id(),
                user_id: UserId::new(ADA),
                at: at(56),
            },
        ),
        (
            "",
            OrganizationEvent::TeamMemberRemoved {
                team_member_id: TEAM_MEMBER.to_owned(),
                at: at(57),
            },
        ),
    ]
}
