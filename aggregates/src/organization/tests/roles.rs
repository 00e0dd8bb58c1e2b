//! Roles that an organization defines.

use super::*;

pub fn create(actor: &str, name: &str, resource: &str, action: &str) -> OrganizationCommand {
    OrganizationCommand::CreateRole {
        actor: user(actor),
        role_id: format!("r-{name}"),
        name: name.into(),
        permission: permission(resource, &[action]),
        at: at(),
    }
}

pub fn editor() -> OrganizationEvent {
    role_created("editor", permission("project", &["update"]))
}

fn with_editor() -> Vec<OrganizationEvent> {
    let mut events = with(&[("adam", "admin"), ("mia", "member")]);
    events.push(editor());
    events
}

pub fn key(name: &str) -> RoleKey {
    RoleKey::Name(name.into())
}

pub fn rename(role: RoleKey, name: &str) -> OrganizationCommand {
    OrganizationCommand::UpdateRole {
        actor: user("olga"),
        role,
        name: Some(name.into()),
        permission: None,
        at: at(),
    }
}

fn allow(actor: &str, resource: &str, action: &str) -> OrganizationCommand {
    OrganizationCommand::UpdateRole {
        actor: user(actor),
        role: key("editor"),
        name: None,
        permission: Some(permission(resource, &[action])),
        at: at(),
    }
}

fn updated(name: Option<&str>, permission: Option<permissions::Permissions>) -> OrganizationEvent {
    OrganizationEvent::RoleUpdated {
        role_id: "r-editor".into(),
        name: name.map(Into::into),
        permission,
        at: at(),
    }
}

#[test]
fn a_role_allows_what_it_says() {
    organization()
        .given(created())
        .when(create("olga", "editor", "project", "update"))
        .then_expect_events(vec![editor()]);
    let mut given = with_editor();
    given.push(role_created("team-lead", permission("team", &["create"])));
    given.push(joined("tom", "editor,team-lead"));
    organization()
        .given(given)
        .when(OrganizationCommand::CreateTeam {
            actor: user("tom"),
            team_id: "t1".into(),
            name: "t1".into(),
            at: at(),
        })
        .then_expect_events(vec![teams::created("t1")]);
}

/// S-63
#[test]
fn nobody_defines_what_they_lack() {
    let missing = |what: &str| OrganizationError::Missing(vec![what.to_owned()]);
    for (command, refusal) in [
        (
            create("olga", "bad", "project", "fly"),
            missing("project:fly"),
        ),
        (
            create("adam", "bad", "organization", "delete"),
            missing("organization:delete"),
        ),
        (
            allow("adam", "organization", "delete"),
            missing("organization:delete"),
        ),
        (
            create("olga", "bad", "nothing", "x"),
            OrganizationError::NoSuchResource,
        ),
        (
            create("mia", "bad", "ac", "read"),
            OrganizationError::NotAllowed,
        ),
        (allow("mia", "ac", "read"), OrganizationError::NotAllowed),
        (
            create("eve", "bad", "ac", "read"),
            OrganizationError::NotAMember,
        ),
    ] {
        organization()
            .given(with_editor())
            .when(command)
            .then_expect_error(refusal);
    }
}

#[test]
fn a_name_means_one_role() {
    for (command, refusal) in [
        (
            create("olga", "editor", "ac", "read"),
            OrganizationError::RoleNameTaken,
        ),
        (
            create("olga", "owner", "ac", "read"),
            OrganizationError::RoleNameTaken,
        ),
        (
            rename(key("editor"), "admin"),
            OrganizationError::RoleNameTaken,
        ),
        (
            rename(key("nope"), "z"),
            OrganizationError::RoleNotFound(String::new()),
        ),
        (
            create("olga", "a,owner", "ac", "read"),
            OrganizationError::RoleNameInvalid,
        ),
        (
            create("olga", " a", "ac", "read"),
            OrganizationError::RoleNameInvalid,
        ),
        (
            create("olga", "", "ac", "read"),
            OrganizationError::RoleNameInvalid,
        ),
        (
            create("olga", &"a".repeat(65), "ac", "read"),
            OrganizationError::RoleNameInvalid,
        ),
    ] {
        organization()
            .given(with_editor())
            .when(command)
            .then_expect_error(refusal);
    }
}

#[test]
fn whoever_has_a_role_follows_its_name() {
    let mut given = with_editor();
    given.push(joined("ed", "member,editor"));
    organization()
        .given(given)
        .when(rename(RoleKey::Id("r-editor".into()), "writer"))
        .then_expect_events(vec![
            updated(Some("writer"), None),
            members::role_changed("ed", "member,writer"),
        ]);
}

#[test]
fn what_a_role_allows_changes() {
    organization()
        .given(with_editor())
        .when(allow("olga", "project", "delete"))
        .then_expect_events(vec![updated(
            None,
            Some(permission("project", &["delete"])),
        )]);
    organization()
        .given(with_editor())
        .when(allow("olga", "project", "update"))
        .then_expect_events(vec![]);
}

#[test]
fn a_role_that_nobody_has_can_go() {
    let delete = |actor: &str, role| OrganizationCommand::DeleteRole {
        actor: user(actor),
        role,
        at: at(),
    };
    organization()
        .given(with_editor())
        .when(delete("olga", key("editor")))
        .then_expect_events(vec![OrganizationEvent::RoleDeleted {
            role_id: "r-editor".into(),
            at: at(),
        }]);
    let mut assigned = with_editor();
    assigned.push(joined("ed", "member,editor"));
    organization()
        .given(assigned)
        .when(delete("olga", key("editor")))
        .then_expect_error(OrganizationError::RoleAssigned);
    for (command, refusal) in [
        (
            delete("olga", key("owner")),
            OrganizationError::RolePredefined,
        ),
        (
            delete("olga", RoleKey::Id("nope".into())),
            OrganizationError::RoleNotFound(String::new()),
        ),
        (delete("mia", key("editor")), OrganizationError::NotAllowed),
        (delete("eve", key("editor")), OrganizationError::NotAMember),
    ] {
        organization()
            .given(with_editor())
            .when(command)
            .then_expect_error(refusal);
    }
}

#[test]
fn so_many_roles_there_are() {
    let mut given = created();
    given.extend((0..ROLES_MAX).map(|n| role_created(&n.to_string(), permission("ac", &["read"]))));
    organization()
        .given(given)
        .when(create("olga", "editor", "ac", "read"))
        .then_expect_error(OrganizationError::TooManyRoles);
}
