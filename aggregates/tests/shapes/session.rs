//! Every shape that a session's events can have.

use aggregates::session::{EndReason, Factor, SessionEvent, SignInMethod};
use aggregates::{Personal, UserId};
use chrono::TimeDelta;

use super::{ADA, about_ada, at, erased};

/// One event of every shape, with what tells it from the others of its type.
pub fn session_events() -> Vec<(&'static str, SessionEvent)> {
    // The first events of this type did not say whose session it was.
    let ended_once = |reason| SessionEvent::Ended {
        user_id: None,
        reason,
        at: at(8),
    };
    let ended = |reason| SessionEvent::Ended {
        user_id: Some(ada()),
        reason,
        at: at(8),
    };
    vec![
        ("", started(SignInMethod::Password)),
        (".sign_up", started(SignInMethod::SignUp)),
        (".email_link", started(SignInMethod::EmailLink)),
        (".session", started(SignInMethod::Session)),
        (".magic_link", started(SignInMethod::MagicLink)),
        (".passkey", started(SignInMethod::Passkey)),
        (".social", started(SignInMethod::Social)),
        (".impersonation", impersonated(None)),
        (
            ".impersonation.reason",
            impersonated(Some(about_ada("Ticket 7: \"cannot sign in\"".to_owned()))),
        ),
        (".second_factor", with_second_factor()),
        (
            ".erased",
            SessionEvent::Started {
                user_id: ada(),
                token_hash: token_hash(),
                method: SignInMethod::Password,
                second_factor: false,
                impersonated_by: None,
                reason: None,
                remembered: false,
                ip_address: erased(),
                user_agent: erased(),
                expires_at: at(6) + TimeDelta::days(1),
                at: at(6),
            },
        ),
        (
            "",
            SessionEvent::Extended {
                expires_at: at(7) + TimeDelta::days(7),
                at: at(7),
            },
        ),
        (".first", shown(Factor::First)),
        (".second", shown(Factor::Second)),
        ("", activated(Some("o1"), Some("t1"))),
        (".none", activated(None, None)),
        (".signed_out", ended_once(EndReason::SignedOut)),
        (".revoked", ended_once(EndReason::Revoked)),
        (".signed_out.whose", ended(EndReason::SignedOut)),
        (".revoked.whose", ended(EndReason::Revoked)),
        (".password_changed.whose", ended(EndReason::PasswordChanged)),
        (".password_reset.whose", ended(EndReason::PasswordReset)),
        (".email_changed.whose", ended(EndReason::EmailChanged)),
        (".banned.whose", ended(EndReason::Banned)),
        (".impersonation.whose", ended(EndReason::Impersonation)),
        (".replaced.whose", ended(EndReason::Replaced)),
        (
            ".account_taken_over.whose",
            ended(EndReason::AccountTakenOver),
        ),
    ]
}

fn started(method: SignInMethod) -> SessionEvent {
    SessionEvent::Started {
        user_id: ada(),
        token_hash: token_hash(),
        method,
        second_factor: false,
        impersonated_by: None,
        reason: None,
        remembered: true,
        ip_address: about_ada("2001:db8::1".to_owned()),
        user_agent: about_ada("Mozilla/5.0 (\"quoted\")".to_owned()),
        expires_at: at(6) + TimeDelta::days(7),
        at: at(6),
    }
}

fn impersonated(why: Option<Personal<String>>) -> SessionEvent {
    let mut event = started(SignInMethod::Impersonation);
    if let SessionEvent::Started {
        impersonated_by,
        reason,
        ..
    } = &mut event
    {
        *reason = why;
        *impersonated_by = Some(UserId::new("u0000000000000000000000000000002"));
    }
    event
}

fn with_second_factor() -> SessionEvent {
    let mut event = started(SignInMethod::Password);
    if let SessionEvent::Started { second_factor, .. } = &mut event {
        *second_factor = true;
    }
    event
}

fn shown(factor: Factor) -> SessionEvent {
    SessionEvent::FactorShown { factor, at: at(41) }
}

fn activated(organization: Option<&str>, team: Option<&str>) -> SessionEvent {
    SessionEvent::OrganizationActivated {
        organization_id: organization.map(str::to_owned),
        team_id: team.map(str::to_owned),
        at: at(40),
    }
}

fn ada() -> UserId {
    UserId::new(ADA)
}

fn token_hash() -> String {
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned()
}
