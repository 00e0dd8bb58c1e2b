//! What roles allow. A role holds actions on resources; a member holds roles, joined by commas. Three roles are
//! predefined, organizations may define others out of the same resources.

use std::collections::BTreeMap;

/// Actions by resource.
pub type Permissions = BTreeMap<String, Vec<String>>;

/// Whoever makes an organization has this role, and somebody always has it.
pub const OWNER: &str = "owner";
const ADMIN: &str = "admin";
const MEMBER: &str = "member";

/// Every resource and what can be done to it. `project` is for the applications: the service itself has none.
const RESOURCES: &[(&str, &[&str])] = &[
    ("organization", &["update", "delete"]),
    ("member", &["create", "update", "delete"]),
    ("invitation", &["create", "cancel"]),
    ("team", &["create", "update", "delete"]),
    ("ac", &["create", "read", "update", "delete"]),
    ("project", &["create", "update", "delete"]),
];

/// What admins may not, of all that owners may.
const OWNERS_ONLY: [(&str, &str); 2] = [("organization", "delete"), ("project", "delete")];

/// Whether a role of this name is predefined.
pub fn is_predefined(role: &str) -> bool {
    [OWNER, ADMIN, MEMBER].contains(&role)
}

/// Whether there is such a resource.
pub fn is_resource(name: &str) -> bool {
    RESOURCES.iter().any(|(resource, _)| *resource == name)
}

/// The single roles in a text that joins them by commas.
pub fn roles(joined: &str) -> impl Iterator<Item = &str> {
    joined.split(',').map(str::trim)
}

/// Whether one of the joined roles is the owner's.
pub fn is_owner(joined: &str) -> bool {
    roles(joined).any(|role| role == OWNER)
}

/// Whether one of the joined roles is the admin's.
pub fn is_admin(joined: &str) -> bool {
    roles(joined).any(|role| role == ADMIN)
}

/// Whether a predefined role allows an action; `None` if the role is not predefined.
fn predefined(role: &str, resource: &str, action: &str) -> Option<bool> {
    let exists = RESOURCES
        .iter()
        .any(|(name, actions)| *name == resource && actions.contains(&action));
    match role {
        OWNER => Some(exists),
        ADMIN => Some(exists && !OWNERS_ONLY.contains(&(resource, action))),
        MEMBER => Some(resource == "ac" && action == "read"),
        _ => None,
    }
}

/// Whether a single role allows an action.
fn role_allows(role: &str, custom: Option<&Permissions>, resource: &str, action: &str) -> bool {
    predefined(role, resource, action).unwrap_or_else(|| {
        custom
            .and_then(|permissions| permissions.get(resource))
            .is_some_and(|actions| actions.iter().any(|allowed| allowed == action))
    })
}

/// Whether one of the joined roles allows everything that is asked for. Nothing asked for is nothing allowed.
pub fn allows<'a>(
    joined: &str,
    custom: impl Fn(&str) -> Option<&'a Permissions>,
    asked: &Permissions,
) -> bool {
    !asked.is_empty()
        && roles(joined).any(|role| {
            let custom = custom(role);
            asked.iter().all(|(resource, actions)| {
                is_resource(resource)
                    && actions
                        .iter()
                        .all(|action| role_allows(role, custom, resource, action))
            })
        })
}

/// What of `wanted` none of the joined roles allows, each as `resource:action`.
pub fn missing<'a>(
    joined: &str,
    custom: impl Fn(&str) -> Option<&'a Permissions>,
    wanted: &Permissions,
) -> Vec<String> {
    let held = |resource: &str, action: &str| {
        roles(joined).any(|role| role_allows(role, custom(role), resource, action))
    };
    let wanted = wanted
        .iter()
        .flat_map(|(resource, actions)| actions.iter().map(move |action| (resource, action)));
    wanted
        .filter(|(resource, action)| !held(resource, action))
        .map(|(resource, action)| format!("{resource}:{action}"))
        .collect()
}

/// Everything that the joined roles allow together.
pub fn all_of<'a>(joined: &str, custom: impl Fn(&str) -> Option<&'a Permissions>) -> Permissions {
    let mut all = Permissions::new();
    for role in roles(joined) {
        let custom = custom(role);
        for (resource, actions) in RESOURCES {
            for action in *actions {
                if role_allows(role, custom, resource, action) {
                    let held = all.entry((*resource).to_owned()).or_default();
                    held.push((*action).to_owned());
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(resource: &str, actions: &[&str]) -> Permissions {
        let actions = actions.iter().map(ToString::to_string).collect();
        [(resource.to_owned(), actions)].into()
    }

    fn none(_: &str) -> Option<&'static Permissions> {
        None
    }

    #[test]
    fn predefined_roles_are_ordered() {
        for (resource, actions) in RESOURCES {
            for action in *actions {
                let one = asked(resource, &[action]);
                assert!(allows(OWNER, none, &one), "{resource}:{action}");
                let admin = !OWNERS_ONLY.contains(&(resource, action));
                assert_eq!(allows(ADMIN, none, &one), admin, "{resource}:{action}");
                let member = (*resource, *action) == ("ac", "read");
                assert_eq!(allows(MEMBER, none, &one), member, "{resource}:{action}");
            }
        }
        assert!(!allows("nobody", none, &asked("ac", &["read"])));
    }

    #[test]
    fn one_role_has_to_allow_all_that_is_asked_for() {
        let custom = asked("project", &["delete"]);
        let of = |role: &str| (role == "cleaner").then_some(&custom);
        assert!(allows("member,cleaner", of, &asked("project", &["delete"])));
        let both = [asked("project", &["delete"]), asked("ac", &["read"])]
            .into_iter()
            .flatten()
            .collect();
        assert!(!allows("member,cleaner", of, &both));
        // What is granted may come from several roles.
        assert!(missing("member,cleaner", of, &both).is_empty());
        assert_eq!(missing("cleaner", of, &both), vec!["ac:read".to_owned()]);
    }

    #[test]
    fn unknown_resources_and_empty_questions_are_refused() {
        assert!(!allows(OWNER, none, &asked("nothing", &["x"])));
        assert!(!allows(OWNER, none, &asked("nothing", &[])));
        assert!(!allows(OWNER, none, &asked("project", &["fly"])));
        assert!(!allows(OWNER, none, &Permissions::new()));
        assert_eq!(
            missing(OWNER, none, &asked("project", &["fly"])),
            vec!["project:fly".to_owned()]
        );
    }
}
