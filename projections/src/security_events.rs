//! `security_events`: what happened to an account, in the words of the security log. Failed tries at the doors
//! are no events and stand beside it, in `door_events`.

use aggregates::organization::OrganizationEvent;
use aggregates::session::{EndReason, SessionEvent, SignInMethod};
use aggregates::user::{PasswordCause, UserEvent};
use aggregates::{Personal, ReadLog, Reading, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{AnyEvent, Changes, Client, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 3,
    kind: Kind::Inline,
    streams: &["user", "session", "organization"],
    columns: &[
        "id",
        "user_id",
        "event_type",
        "ip_address",
        "user_agent",
        "metadata",
        "created_at",
    ],
    owner: Some(OWNER),
    reads_client: true,
    apply,
};

const NAME: &str = "security_events";
const OWNER: &str = "user_id";

/// One line of the security log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct SecurityEventRow {
    /// UUID of the event.
    pub id: String,
    /// About whom; none where somebody tried an address that has no account.
    pub user_id: Option<String>,
    /// In capitals, such as `LOGIN_SUCCESS`.
    pub event_type: String,
    /// Empty if unknown.
    pub ip_address: String,
    /// Empty if unknown.
    pub user_agent: String,
    /// More about it.
    pub metadata: Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    match recorded.event {
        AnyEvent::User(event) => apply_user(recorded, event, changes),
        AnyEvent::Session(event) => apply_session(recorded, event, changes),
        AnyEvent::Organization(event) => apply_organization(recorded, event, changes),
        AnyEvent::Vault(_) | AnyEvent::SigningKeys(_) | AnyEvent::Log(_) => {}
    }
}

/// What somebody does with a whole organization stands in their own history.
fn apply_organization(recorded: Recorded<'_>, event: &OrganizationEvent, changes: &mut Changes) {
    let mut line = |by: &Option<UserId>, event_type, at| {
        let Some(by) = by else { return };
        let metadata = json!({"organizationId": recorded.stream_id});
        put(
            recorded,
            by.as_str(),
            event_type,
            recorded.client,
            metadata,
            at,
            changes,
        );
    };
    match event {
        OrganizationEvent::Created { by, at, .. } => line(by, "ORG_CREATED", *at),
        OrganizationEvent::Closed { by, at, .. } => line(by, "ORG_DELETED", *at),
        OrganizationEvent::Updated { .. }
        | OrganizationEvent::SlugChanged { .. }
        | OrganizationEvent::MemberAdded { .. }
        | OrganizationEvent::MemberRoleChanged { .. }
        | OrganizationEvent::MemberRemoved { .. }
        | OrganizationEvent::InvitationSent { .. }
        | OrganizationEvent::InvitationRenewed { .. }
        | OrganizationEvent::InvitationAccepted { .. }
        | OrganizationEvent::InvitationRejected { .. }
        | OrganizationEvent::InvitationCanceled { .. }
        | OrganizationEvent::InvitationErased { .. }
        | OrganizationEvent::RoleCreated { .. }
        | OrganizationEvent::RoleUpdated { .. }
        | OrganizationEvent::RoleDeleted { .. }
        | OrganizationEvent::TeamCreated { .. }
        | OrganizationEvent::TeamRenamed { .. }
        | OrganizationEvent::TeamRemoved { .. }
        | OrganizationEvent::TeamMemberAdded { .. }
        | OrganizationEvent::TeamMemberRemoved { .. } => {}
    }
}

fn apply_user(recorded: Recorded<'_>, event: &UserEvent, changes: &mut Changes) {
    let user_id = recorded.stream_id;
    let nothing = Value::Null;
    let (event_type, metadata, at) = match event {
        UserEvent::Registered { at, .. } => ("REGISTER", nothing, at),
        UserEvent::EmailVerified { at } => ("EMAIL_VERIFIED", nothing, at),
        UserEvent::EmailVerificationWithdrawn { at } => {
            ("EMAIL_VERIFICATION_WITHDRAWN", nothing, at)
        }
        UserEvent::PasswordSet { cause, at, .. } => match cause {
            // Part of the registration.
            PasswordCause::SignUp => return,
            PasswordCause::Change => ("PASSWORD_CHANGED", nothing, at),
            PasswordCause::Reset => ("PASSWORD_RESET_COMPLETED", nothing, at),
        },
        UserEvent::EmailChangeRequested { to, at } => {
            ("EMAIL_CHANGE_REQUESTED", json!({"newEmail": to.get()}), at)
        }
        UserEvent::EmailChangeConfirmed { at } => ("EMAIL_CHANGE_CONFIRMED", nothing, at),
        UserEvent::EmailChanged { from, to, at } => (
            "EMAIL_CHANGED",
            json!({"oldEmail": from.get(), "newEmail": to.get()}),
            at,
        ),
        UserEvent::EmailChangeReverted { to, at, .. } => {
            ("EMAIL_CHANGE_REVERTED", json!({"newEmail": to.get()}), at)
        }
        UserEvent::ProfileChanged { at, .. } => ("PROFILE_UPDATED", nothing, at),
        UserEvent::RoleChanged { role, at } => ("ROLE_CHANGED", json!({"role": role}), at),
        UserEvent::TierChanged { tier, at } => ("TIER_CHANGED", json!({"tier": tier}), at),
        UserEvent::SessionsEnded { reason, at, .. } => {
            ("SESSIONS_ENDED", json!({"reason": reason}), at)
        }
        UserEvent::LockedOut { until, at } => ("ACCOUNT_LOCKED", json!({"until": until}), at),
        UserEvent::ErasureRequested { reason, at } => {
            changes.delete_owned(NAME, OWNER, user_id, None);
            let metadata = json!({"reason": reason});
            // What stays of an erased person is that they were erased, not from where they asked for it.
            put(
                recorded,
                user_id,
                "ACCOUNT_DELETED",
                None,
                metadata,
                *at,
                changes,
            );
            return;
        }
        UserEvent::PasswordRemoved { at } => ("PASSWORD_REMOVED", nothing, at),
        UserEvent::Banned { reason, until, at } => {
            let reason = reason.as_ref().and_then(Personal::get);
            ("USER_BANNED", json!({"reason": reason, "until": until}), at)
        }
        UserEvent::BanLifted { at } => ("USER_UNBANNED", nothing, at),
        UserEvent::SecondFactorEnabled { method, at } => {
            ("TWO_FACTOR_ENABLED", json!({"method": method}), at)
        }
        UserEvent::SecondFactorDisabled { at } => ("TWO_FACTOR_DISABLED", nothing, at),
        UserEvent::BackupCodesReplaced { at } => ("BACKUP_CODES_REPLACED", nothing, at),
        UserEvent::BackupCodeUsed { at } => ("BACKUP_CODE_USED", nothing, at),
        UserEvent::SecondFactorLocked { until, at } => {
            ("TWO_FACTOR_LOCKED", json!({"until": until}), at)
        }
        UserEvent::PasskeyAdded { passkey_id, at, .. } => {
            ("PASSKEY_REGISTERED", json!({"passkeyId": passkey_id}), at)
        }
        UserEvent::PasskeyRenamed { passkey_id, at, .. } => {
            ("PASSKEY_RENAMED", json!({"passkeyId": passkey_id}), at)
        }
        UserEvent::PasskeyRemoved { passkey_id, at, .. } => {
            ("PASSKEY_DELETED", json!({"passkeyId": passkey_id}), at)
        }
        UserEvent::PasskeyCounterWentBack {
            passkey_id,
            known,
            shown,
            at,
        } => (
            "PASSKEY_COUNTER_WENT_BACK",
            json!({"passkeyId": passkey_id, "known": known, "shown": shown}),
            at,
        ),
        UserEvent::AccountLinked { provider, at, .. } => {
            ("ACCOUNT_LINKED", json!({"provider": provider}), at)
        }
        UserEvent::AccountUnlinked { provider, at, .. } => {
            ("ACCOUNT_UNLINKED", json!({"provider": provider}), at)
        }
        UserEvent::ApiKeyCreated { key_id, at, .. } => {
            ("API_KEY_CREATED", json!({"keyId": key_id}), at)
        }
        UserEvent::ApiKeyRevoked { key_id, at } => {
            ("API_KEY_REVOKED", json!({"keyId": key_id}), at)
        }
        UserEvent::AuditRead { reading, at } => ("AUDIT_READ", read(reading), at),
        // Nothing that changes who gets in.
        UserEvent::FormerEmailReleased { .. }
        | UserEvent::SecondFactorPrepared { .. }
        | UserEvent::AccountScopesChanged { .. } => return,
    };
    put(
        recorded,
        user_id,
        event_type,
        recorded.client,
        metadata,
        *at,
        changes,
    );
}

fn apply_session(recorded: Recorded<'_>, event: &SessionEvent, changes: &mut Changes) {
    match event {
        SessionEvent::Started {
            user_id,
            method,
            second_factor,
            impersonated_by,
            reason,
            ip_address,
            user_agent,
            at,
            ..
        } => {
            // Whoever was erased keeps no history but that of the erasure.
            let (Some(ip_address), Some(user_agent)) = (ip_address.get(), user_agent.get()) else {
                return;
            };
            let event_type = match method {
                SignInMethod::Password
                | SignInMethod::EmailLink
                | SignInMethod::MagicLink
                | SignInMethod::Social => "LOGIN_SUCCESS",
                SignInMethod::Passkey => "PASSKEY_LOGIN_SUCCESS",
                SignInMethod::Impersonation => "IMPERSONATION_STARTED",
                // No sign-in: the account was made, or its password changed, and that has a line already.
                SignInMethod::SignUp | SignInMethod::Session => return,
            };
            let client = Client {
                ip_address: ip_address.clone(),
                user_agent: user_agent.clone(),
            };
            let mut metadata = json!({"method": method, "sessionId": recorded.stream_id});
            if *second_factor {
                metadata["secondFactor"] = json!(true);
            }
            if let Some(admin) = impersonated_by {
                metadata["impersonatedBy"] = json!(admin);
            }
            if let Some(reason) = reason.as_ref().and_then(Personal::get) {
                metadata["reason"] = json!(reason);
            }
            let user_id = user_id.as_str();
            put(
                recorded,
                user_id,
                event_type,
                Some(&client),
                metadata,
                *at,
                changes,
            );
        }
        SessionEvent::Ended {
            user_id: Some(user_id),
            reason,
            at,
        } => {
            let event_type = match reason {
                EndReason::SignedOut => "LOGOUT",
                EndReason::Impersonation => "IMPERSONATION_ENDED",
                EndReason::Revoked
                | EndReason::PasswordChanged
                | EndReason::PasswordReset
                | EndReason::EmailChanged
                | EndReason::Banned
                | EndReason::Replaced
                | EndReason::AccountTakenOver => "SESSION_REVOKED",
            };
            let metadata = json!({"sessionId": recorded.stream_id});
            let client = recorded.client;
            put(
                recorded,
                user_id.as_str(),
                event_type,
                client,
                metadata,
                *at,
                changes,
            );
        }
        SessionEvent::Extended { .. }
        | SessionEvent::FactorShown { .. }
        | SessionEvent::OrganizationActivated { .. }
        | SessionEvent::Ended { user_id: None, .. } => {}
    }
}

/// What somebody read of others, in the words of the security log.
fn read(Reading { of, filters }: &Reading) -> Value {
    let mut metadata = match of {
        ReadLog::Vault { owner } => json!({"of": "vault", "userId": owner}),
        ReadLog::Vaults => json!({"of": "vaults"}),
        ReadLog::SecurityLog { owner } => json!({"of": "security_log", "userId": owner}),
        ReadLog::SecurityLogs => json!({"of": "security_logs"}),
        ReadLog::Events { from, to } => json!({"of": "events", "from": from, "to": to}),
    };
    if !filters.is_empty() {
        metadata["filters"] = json!(filters);
    }
    metadata
}

fn put(
    recorded: Recorded<'_>,
    user_id: &str,
    event_type: &str,
    client: Option<&Client>,
    metadata: Value,
    at: DateTime<Utc>,
    changes: &mut Changes,
) {
    let client = client.cloned().unwrap_or_default();
    let id = recorded.event_id.to_string();
    let row = SecurityEventRow {
        id: id.clone(),
        user_id: Some(user_id.to_owned()),
        event_type: event_type.to_owned(),
        ip_address: client.ip_address,
        user_agent: client.user_agent,
        metadata: if metadata.is_null() {
            json!({})
        } else {
            metadata
        },
        created_at: at,
    };
    changes.put(NAME, &id, &row);
}

/// Which lines of the security log are asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// Of one person; else everybody's.
    pub user_id: Option<&'a str>,
    /// Of one type.
    pub event_type: Option<&'a str>,
    /// Older than this line.
    pub before: Option<(DateTime<Utc>, &'a str)>,
    /// At most so many.
    pub limit: i64,
}

/// Lines of the security log, newest first: what happened, and what was tried at the doors.
///
/// # Errors
/// When the database does not answer.
pub async fn page(pool: &PgPool, asked: Asked<'_>) -> Result<Vec<SecurityEventRow>, sqlx::Error> {
    let part = |table: &str| {
        format!(
            "(select id, user_id, event_type, ip_address, user_agent, metadata, created_at from {table}
              where ($1::text is null or user_id = $1) and ($2::text is null or event_type = $2)
                and ($3::timestamptz is null or (created_at, id) < ($3, $4))
              order by created_at desc, id desc limit $5)"
        )
    };
    let (at, id) = asked.before.unzip();
    sqlx::query_as(&format!(
        "{} union all {} order by created_at desc, id desc limit $5",
        part("read.security_events"),
        part("door_events"),
    ))
    .bind(asked.user_id)
    .bind(asked.event_type)
    .bind(at)
    .bind(id)
    .bind(asked.limit)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::organization::CloseReason;

    use super::*;
    use crate::RowChange;

    fn lines(event: AnyEvent) -> Vec<(String, Value)> {
        let changes = crate::rows_of(NAME, "s1", &[event]);
        let rows = changes.into_iter().map(|(_, change)| match change {
            RowChange::Put(row) => serde_json::from_value(row.into()).unwrap(),
            other => panic!("{other:?}"),
        });
        rows.map(|row: SecurityEventRow| (row.event_type, row.metadata))
            .collect()
    }

    fn started(method: SignInMethod, second_factor: bool, by: Option<&str>) -> AnyEvent {
        AnyEvent::Session(SessionEvent::Started {
            user_id: UserId::new("u1"),
            token_hash: "00".into(),
            method,
            second_factor,
            impersonated_by: by.map(UserId::new),
            reason: by.map(|_| Personal::about("u1", "a ticket".into())),
            remembered: true,
            ip_address: Personal::about("u1", "192.0.2.1".into()),
            user_agent: Personal::about("u1", "x".into()),
            expires_at: DateTime::UNIX_EPOCH,
            at: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_sign_in_says_by_what_and_by_whom() {
        for (event, event_type, metadata) in [
            (
                started(SignInMethod::Password, false, None),
                "LOGIN_SUCCESS",
                json!({"method": "password", "sessionId": "s1"}),
            ),
            (
                started(SignInMethod::MagicLink, true, None),
                "LOGIN_SUCCESS",
                json!({"method": "magic_link", "sessionId": "s1", "secondFactor": true}),
            ),
            (
                started(SignInMethod::Passkey, false, None),
                "PASSKEY_LOGIN_SUCCESS",
                json!({"method": "passkey", "sessionId": "s1"}),
            ),
            (
                started(SignInMethod::Impersonation, false, Some("u2")),
                "IMPERSONATION_STARTED",
                json!({"method": "impersonation", "sessionId": "s1", "impersonatedBy": "u2", "reason": "a ticket"}),
            ),
        ] {
            assert_eq!(lines(event), [(event_type.to_owned(), metadata)]);
        }
    }

    #[test]
    fn whoever_makes_or_closes_an_organization_has_a_line_of_it() {
        let closed = |reason, by| {
            AnyEvent::Organization(OrganizationEvent::Closed {
                reason,
                by,
                at: DateTime::UNIX_EPOCH,
            })
        };
        let line = ("ORG_DELETED".to_owned(), json!({"organizationId": "s1"}));
        let by = Some(UserId::new("u1"));
        assert_eq!(lines(closed(CloseReason::Deleted, by)), [line]);
        assert_eq!(lines(closed(CloseReason::Deserted, None)), []);
    }

    #[test]
    fn what_changes_no_way_in_is_no_line() {
        let prepared = UserEvent::SecondFactorPrepared {
            at: DateTime::UNIX_EPOCH,
        };
        let activated = SessionEvent::OrganizationActivated {
            organization_id: None,
            team_id: None,
            at: DateTime::UNIX_EPOCH,
        };
        for event in [AnyEvent::User(prepared), AnyEvent::Session(activated)] {
            assert_eq!(lines(event), []);
        }
    }

    #[test]
    fn a_passkey_that_may_have_been_copied_is_told_in_numbers() {
        let went_back = UserEvent::PasskeyCounterWentBack {
            passkey_id: "p1".into(),
            known: 7,
            shown: 3,
            at: DateTime::UNIX_EPOCH,
        };
        let metadata = json!({"passkeyId": "p1", "known": 7, "shown": 3});
        assert_eq!(
            lines(AnyEvent::User(went_back)),
            [("PASSKEY_COUNTER_WENT_BACK".to_owned(), metadata)]
        );
    }

    #[test]
    fn whoever_reads_what_others_did_has_a_line_of_what_it_was() {
        let owner = UserId::new("u2");
        let of_owner = ReadLog::SecurityLog {
            owner: owner.clone(),
        };
        let vaults = json!({"of": "vaults", "filters": ["ipAddress"]});
        for (of, filters, metadata) in [
            (
                ReadLog::Vault { owner },
                vec![],
                json!({"of": "vault", "userId": "u2"}),
            ),
            (ReadLog::Vaults, vec!["ipAddress".to_owned()], vaults),
            (
                of_owner,
                vec![],
                json!({"of": "security_log", "userId": "u2"}),
            ),
            (
                ReadLog::SecurityLogs,
                vec!["type".to_owned()],
                json!({"of": "security_logs", "filters": ["type"]}),
            ),
            (
                ReadLog::Events { from: 1, to: 9 },
                vec![],
                json!({"of": "events", "from": 1, "to": 9}),
            ),
        ] {
            let read = UserEvent::AuditRead {
                reading: Reading { of, filters },
                at: DateTime::UNIX_EPOCH,
            };
            let line = ("AUDIT_READ".to_owned(), metadata);
            assert_eq!(lines(AnyEvent::User(read)), [line]);
        }
    }
}
