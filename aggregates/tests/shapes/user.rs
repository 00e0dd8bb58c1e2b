//! Every shape that a user's events can have.

use aggregates::session::EndReason;
use aggregates::user::{Change, ErasureReason, PasswordCause, UserEvent};
use aggregates::{ReadLog, Reading, Roles, SessionId, Tier, UserId};
use chrono::TimeDelta;

use super::ways_in::ways_in;
use super::{about_ada, at, email, erased, name};

/// One event of every shape, with what tells it from the others of its type.
pub fn user_events() -> Vec<(&'static str, UserEvent)> {
    [accounts(), addresses(), doors(), ways_in(), readings()].concat()
}

fn roles(text: &str) -> Roles {
    Roles::parse(text).unwrap()
}

/// What an account is and shows.
fn accounts() -> Vec<(&'static str, UserEvent)> {
    let profile = |name, image, locale| UserEvent::ProfileChanged {
        name,
        image,
        locale,
        at: at(3),
    };
    vec![
        (
            "",
            UserEvent::Registered {
                email: email("ada@example.com"),
                name: name(),
                image: Some(about_ada("https://example.com/ada.png".to_owned())),
                locale: Some(about_ada("de".to_owned())),
                role: Roles::admin(),
                tier: Tier::Founder,
                at: at(0),
            },
        ),
        (
            ".least",
            UserEvent::Registered {
                email: email("ada@example.com"),
                name: about_ada(String::new()),
                image: None,
                locale: None,
                role: Roles::default(),
                tier: Tier::default(),
                at: at(0),
            },
        ),
        (
            ".erased",
            UserEvent::Registered {
                email: erased(),
                name: erased(),
                image: Some(erased()),
                locale: Some(erased()),
                role: Roles::user(),
                tier: Tier::Public,
                at: at(0),
            },
        ),
        ("", UserEvent::EmailVerified { at: at(1) }),
        ("", UserEvent::EmailVerificationWithdrawn { at: at(2) }),
        (
            "",
            profile(
                Some(name()),
                Change::Set(about_ada("https://example.com/king.png".to_owned())),
                Change::Set(about_ada("en-GB".to_owned())),
            ),
        ),
        (".removed", profile(None, Change::Removed, Change::Removed)),
        (".kept", profile(Some(name()), Change::Kept, Change::Kept)),
        (
            ".erased",
            profile(Some(erased()), Change::Set(erased()), Change::Kept),
        ),
        (
            "",
            UserEvent::RoleChanged {
                role: roles("service"),
                at: at(4),
            },
        ),
        (
            ".several",
            UserEvent::RoleChanged {
                role: roles("admin,support"),
                at: at(4),
            },
        ),
        (
            "",
            UserEvent::TierChanged {
                tier: Tier::Beta,
                at: at(5),
            },
        ),
    ]
}

/// The address on its way to another one and back.
fn addresses() -> Vec<(&'static str, UserEvent)> {
    let (ada, king) = (email("ada@example.com"), email("king@example.com"));
    let requested = |to| UserEvent::EmailChangeRequested { to, at: at(30) };
    let changed = |from, to| UserEvent::EmailChanged {
        from,
        to,
        at: at(31),
    };
    let reverted = |from, to| UserEvent::EmailChangeReverted {
        from,
        to,
        at: at(32),
    };
    let released = |email| UserEvent::FormerEmailReleased { email, at: at(33) };
    vec![
        ("", requested(king.clone())),
        (".erased", requested(erased())),
        ("", UserEvent::EmailChangeConfirmed { at: at(35) }),
        ("", changed(ada.clone(), king.clone())),
        (".erased", changed(erased(), erased())),
        ("", reverted(king, ada.clone())),
        (".erased", reverted(erased(), erased())),
        ("", released(ada)),
        (".erased", released(erased())),
    ]
}

/// Who gets in.
fn doors() -> Vec<(&'static str, UserEvent)> {
    let password_set = |cause| UserEvent::PasswordSet {
        cause,
        added: false,
        at: at(2),
    };
    let ended = |reason| UserEvent::SessionsEnded {
        except: None,
        reason,
        at: at(34),
    };
    vec![
        ("", password_set(PasswordCause::SignUp)),
        (".change", password_set(PasswordCause::Change)),
        (".reset", password_set(PasswordCause::Reset)),
        (
            ".added",
            UserEvent::PasswordSet {
                cause: PasswordCause::Reset,
                added: true,
                at: at(2),
            },
        ),
        (".signed_out", ended(EndReason::SignedOut)),
        (".revoked", ended(EndReason::Revoked)),
        (".password_changed", ended(EndReason::PasswordChanged)),
        (".password_reset", ended(EndReason::PasswordReset)),
        (".email_changed", ended(EndReason::EmailChanged)),
        (".banned", ended(EndReason::Banned)),
        (".impersonation", ended(EndReason::Impersonation)),
        (".replaced", ended(EndReason::Replaced)),
        (".account_taken_over", ended(EndReason::AccountTakenOver)),
        (
            ".but_one",
            UserEvent::SessionsEnded {
                except: Some(SessionId::new("s0000000000000000000000000000001")),
                reason: EndReason::PasswordChanged,
                at: at(34),
            },
        ),
        (
            "",
            UserEvent::LockedOut {
                until: at(35) + TimeDelta::minutes(15),
                at: at(35),
            },
        ),
        (
            ".own_request",
            UserEvent::ErasureRequested {
                reason: ErasureReason::OwnRequest,
                at: at(36),
            },
        ),
        (
            ".admin_request",
            UserEvent::ErasureRequested {
                reason: ErasureReason::AdminRequest,
                at: at(36),
            },
        ),
    ]
}

/// What an admin or auditor reads of others.
fn readings() -> Vec<(&'static str, UserEvent)> {
    let read = |of, filters: &[&str]| UserEvent::AuditRead {
        reading: Reading {
            of,
            filters: filters.iter().map(|&name| name.to_owned()).collect(),
        },
        at: at(37),
    };
    let owner = UserId::new("u0000000000000000000000000000002");
    let of_owner = ReadLog::SecurityLog {
        owner: owner.clone(),
    };
    vec![
        (".security_log", read(of_owner, &["userId"])),
        (".security_logs", read(ReadLog::SecurityLogs, &["type"])),
        (".vault", read(ReadLog::Vault { owner }, &[])),
        (
            ".vaults",
            read(ReadLog::Vaults, &["action", "ipAddress", "from"]),
        ),
        (
            ".events",
            read(
                ReadLog::Events {
                    from: 1,
                    to: 4_000_000_001,
                },
                &[],
            ),
        ),
    ]
}
