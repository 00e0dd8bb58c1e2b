//! Every door of the service: which routes there are, how their requests are counted, and what they check. The router
//! is made from this table and from nothing else, so no route stands outside of it (S-10).

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::MethodRouter;

use super::limits::Limit;
use super::web::Web;
use super::{
    account, admin, api_keys, auth, callback, link_pages, linked, magic_link, multi_session,
    organizations, passkeys, security_events, social, transparency, two_factor, v1_account,
    v1_auth, v1_passkeys, vault, vault_audit,
};
use crate::config::Config;

/// A route.
pub struct Door {
    /// Of its requests.
    pub method: Method,
    /// Below the prefix of its area.
    pub path: &'static str,
    /// How its requests are counted; the coarse brake if nothing is said.
    pub limit: Option<Limit>,
    /// Whether it counts its callers by itself, and the brake holds only what is nobody's call.
    pub counts_people: bool,
    /// What it checks.
    pub checks: Checks,
    /// Whether an admin who acts as somebody may use it in their session.
    pub impersonated: bool,
    /// Whether it asks for a proof that is a few minutes old, where the service is configured to (S-60).
    pub step_up: bool,
    /// Whether a service with this configuration has it.
    exists: fn(&Config) -> bool,
    handler: MethodRouter<Arc<Web>>,
}

/// What a door checks that somebody could guess at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Nothing, or a signed or random session token or proof.
    Nothing,
    /// A password: behind the guard's budget of the account.
    Password,
    /// A code of a second factor: behind the guard's budgets of the challenge and of the person.
    SecondFactor,
    /// A signature of a passkey: behind the guard's budget of that passkey.
    Passkey,
    /// A token from a mail: behind the guard's budget of the network.
    MailedToken,
}

impl Door {
    /// A route that is held by the coarse brake alone. In an impersonated session only reading is open, unless the door
    /// says otherwise: nobody's credentials change, and nobody is exported or deleted, by whoever acts as them (S-66).
    pub fn open(method: Method, path: &'static str, handler: MethodRouter<Arc<Web>>) -> Self {
        Self {
            impersonated: method == Method::GET,
            method,
            path,
            limit: None,
            counts_people: false,
            checks: Checks::Nothing,
            step_up: false,
            exists: |_| true,
            handler,
        }
    }

    /// The same with a limit of its own.
    pub fn limited(self, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// The same, which counts its callers by itself once it knows them.
    pub fn counting_people(self) -> Self {
        Self {
            counts_people: true,
            ..self
        }
    }

    /// The same, open in an impersonated session.
    pub fn also_impersonated(self) -> Self {
        Self {
            impersonated: true,
            ..self
        }
    }

    /// The same, shut in an impersonated session.
    pub fn never_impersonated(self) -> Self {
        Self {
            impersonated: false,
            ..self
        }
    }

    /// The same, for whoever has shown lately who they are.
    pub fn after_step_up(self) -> Self {
        Self {
            step_up: true,
            ..self
        }
    }

    /// The same, where the configuration says so; elsewhere there is no such route.
    pub fn only_if(self, exists: fn(&Config) -> bool) -> Self {
        Self { exists, ..self }
    }

    /// The same, checking something.
    pub fn checking(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }
}

/// The areas of the API: prefix and doors.
pub fn areas() -> [(&'static str, Vec<Door>); 7] {
    let native = auth::doors()
        .into_iter()
        .chain(account::doors())
        .chain(two_factor::doors())
        .chain(magic_link::doors())
        .chain(passkeys::doors())
        .chain(admin::doors())
        .chain(organizations::doors())
        .chain(multi_session::doors())
        .chain(social::doors())
        .chain(callback::doors())
        .chain(linked::doors())
        .collect();
    let own = v1_auth::doors()
        .into_iter()
        .chain(v1_account::doors())
        .chain([security_events::own_door()])
        .chain(link_pages::doors())
        .chain(magic_link::page_doors())
        .chain(v1_passkeys::doors())
        .collect();
    let mut admin = vec![security_events::admin_door()];
    admin.extend(vault_audit::admin_doors());
    let mut vault = vault::doors();
    vault.push(vault_audit::own_door());
    [
        ("/api/auth", native),
        ("/api/v1/auth", own),
        ("/api/v1/admin", admin),
        ("/api/v1/api-keys", api_keys::doors()),
        ("/api/v1/gilden", organizations::gilden::doors()),
        ("/api/v1/me/encryption-vault", vault),
        ("/log", transparency::doors()),
    ]
}

/// Those doors of an area that a service with this configuration has.
pub fn existing(
    (prefix, doors): (&'static str, Vec<Door>),
    config: &Config,
) -> (&'static str, Vec<Door>) {
    let doors = doors.into_iter().filter(|door| (door.exists)(config));
    (prefix, doors.collect())
}

/// The router of an area's doors. `Router::nest` would parse the address of every request anew.
pub fn router(prefix: &str, doors: Vec<Door>) -> Router<Arc<Web>> {
    doors.into_iter().fold(Router::new(), |router, door| {
        router.route(&format!("{prefix}{}", door.path), door.handler)
    })
}

/// What holds for requests before they reach their door, by full path.
pub struct Limits(HashMap<String, Vec<Rules>>);

/// Of one method of a path.
struct Rules {
    method: Method,
    path: &'static str,
    limit: Option<Limit>,
    counts_people: bool,
    impersonated: bool,
    step_up: bool,
}

impl Limits {
    /// Of all doors.
    pub fn of_all_doors() -> Self {
        let mut limits: HashMap<String, Vec<_>> = HashMap::new();
        for (prefix, doors) in areas() {
            for door in doors {
                let of_path = limits.entry(format!("{prefix}{}", door.path)).or_default();
                of_path.push(Rules {
                    method: door.method,
                    path: door.path,
                    limit: door.limit,
                    counts_people: door.counts_people,
                    impersonated: door.impersonated,
                    step_up: door.step_up,
                });
            }
        }
        Self(limits)
    }

    /// The door's own limit, or the path that the brake counts for.
    pub fn find(&self, method: &Method, path: &str) -> Option<(&'static str, Option<Limit>)> {
        let rules = self.of(method, path)?;
        Some((rules.path, rules.limit))
    }

    /// Whether the door counts its callers by itself.
    pub fn counts_people(&self, method: &Method, path: &str) -> bool {
        self.of(method, path)
            .is_some_and(|rules| rules.counts_people)
    }

    /// Whether the door is open in an impersonated session.
    pub fn admits_impersonation(&self, method: &Method, path: &str) -> bool {
        self.of(method, path)
            .is_some_and(|rules| rules.impersonated)
    }

    /// Whether the door asks for a proof that is a few minutes old.
    pub fn asks_for_step_up(&self, method: &Method, path: &str) -> bool {
        self.of(method, path).is_some_and(|rules| rules.step_up)
    }

    fn of(&self, method: &Method, path: &str) -> Option<&Rules> {
        // The router answers HEAD like GET.
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let mut of_path = self.0.get(path)?.iter();
        of_path.find(|rules| rules.method == *method)
    }
}
