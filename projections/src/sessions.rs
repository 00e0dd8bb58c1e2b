//! `sessions`: live sessions by the hash of their token.

use aggregates::session::{Factor, FactorTimes, SessionEvent};
use aggregates::user::UserEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgPool, Row as _};

use crate::users::UserRow;
use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: "sessions",
    version: 4,
    kind: Kind::Inline,
    streams: &["session", "user"],
    columns: &[
        "id",
        "token_hash",
        "user_id",
        "remembered",
        "ip_address",
        "user_agent",
        "created_at",
        "updated_at",
        "expires_at",
        "active_organization_id",
        "active_team_id",
        "impersonated_by",
        "first_factor_at",
        "second_factor_at",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

/// A session that was not ended; it may have expired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
pub struct SessionRow {
    /// The `sid` of access tokens.
    pub id: String,
    /// SHA-256 of the session token, lower-case hex.
    pub token_hash: String,
    /// Whose session.
    pub user_id: String,
    /// Whether it outlives the browser and slides.
    pub remembered: bool,
    /// Empty if unknown.
    pub ip_address: String,
    /// Empty if unknown.
    pub user_agent: String,
    /// When somebody signed in.
    pub created_at: DateTime<Utc>,
    /// When it was last extended.
    pub updated_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// The organization that it works for.
    pub active_organization_id: Option<String>,
    /// The team of it.
    pub active_team_id: Option<String>,
    /// The admin who acts as the person.
    pub impersonated_by: Option<String>,
    /// When the person last showed a first factor in it; none if they never did.
    pub first_factor_at: Option<DateTime<Utc>>,
    /// The same of a second one.
    pub second_factor_at: Option<DateTime<Utc>>,
}

impl SessionRow {
    /// When the person last showed which factor.
    pub fn factors(&self) -> FactorTimes {
        FactorTimes {
            first: self.first_factor_at,
            second: self.second_factor_at,
        }
    }
}

const NAME: &str = "sessions";
const OWNER: &str = "user_id";

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    match recorded.event {
        AnyEvent::Session(event) => apply_session(recorded.stream_id, event, changes),
        AnyEvent::User(event) => apply_user(recorded.stream_id, event, changes),
        AnyEvent::Organization(_)
        | AnyEvent::Vault(_)
        | AnyEvent::SigningKeys(_)
        | AnyEvent::Log(_) => {}
    }
}

/// What befalls a person can end all of their sessions at once.
fn apply_user(user_id: &str, event: &UserEvent, changes: &mut Changes) {
    match event {
        UserEvent::SessionsEnded { except, .. } => {
            let except = except.as_ref().map(|id| id.as_str());
            changes.delete_owned(NAME, OWNER, user_id, except);
        }
        UserEvent::ErasureRequested { .. } => changes.delete_owned(NAME, OWNER, user_id, None),
        UserEvent::Registered { .. }
        | UserEvent::EmailVerified { .. }
        | UserEvent::EmailVerificationWithdrawn { .. }
        | UserEvent::PasswordSet { .. }
        | UserEvent::PasswordRemoved { .. }
        | UserEvent::EmailChangeRequested { .. }
        | UserEvent::EmailChangeConfirmed { .. }
        | UserEvent::EmailChanged { .. }
        | UserEvent::EmailChangeReverted { .. }
        | UserEvent::FormerEmailReleased { .. }
        | UserEvent::LockedOut { .. }
        | UserEvent::ProfileChanged { .. }
        | UserEvent::RoleChanged { .. }
        | UserEvent::TierChanged { .. }
        | UserEvent::Banned { .. }
        | UserEvent::BanLifted { .. }
        | UserEvent::SecondFactorPrepared { .. }
        | UserEvent::SecondFactorEnabled { .. }
        | UserEvent::SecondFactorDisabled { .. }
        | UserEvent::BackupCodesReplaced { .. }
        | UserEvent::BackupCodeUsed { .. }
        | UserEvent::SecondFactorLocked { .. }
        | UserEvent::PasskeyAdded { .. }
        | UserEvent::PasskeyRenamed { .. }
        | UserEvent::PasskeyRemoved { .. }
        | UserEvent::PasskeyCounterWentBack { .. }
        | UserEvent::AccountLinked { .. }
        | UserEvent::AccountUnlinked { .. }
        | UserEvent::AccountScopesChanged { .. }
        | UserEvent::ApiKeyCreated { .. }
        | UserEvent::ApiKeyRevoked { .. }
        | UserEvent::AuditRead { .. } => {}
    }
}

fn apply_session(id: &str, event: &SessionEvent, changes: &mut Changes) {
    match event {
        SessionEvent::Started {
            user_id,
            token_hash,
            method,
            second_factor,
            impersonated_by,
            reason: _,
            remembered,
            ip_address,
            user_agent,
            expires_at,
            at,
        } => {
            // The sessions of erased people are gone.
            let (Some(ip_address), Some(user_agent)) = (ip_address.get(), user_agent.get()) else {
                return;
            };
            let factors = FactorTimes::at_start(*method, *second_factor, *at);
            let row = SessionRow {
                id: id.to_owned(),
                token_hash: token_hash.clone(),
                user_id: user_id.to_string(),
                remembered: *remembered,
                ip_address: ip_address.clone(),
                user_agent: user_agent.clone(),
                created_at: *at,
                updated_at: *at,
                expires_at: *expires_at,
                active_organization_id: None,
                active_team_id: None,
                impersonated_by: impersonated_by.as_ref().map(ToString::to_string),
                first_factor_at: factors.first,
                second_factor_at: factors.second,
            };
            changes.put(NAME, id, &row);
        }
        SessionEvent::Extended { expires_at, at } => {
            changes.patch(
                NAME,
                id,
                json!({"id": id, "expires_at": expires_at, "updated_at": at}),
            );
        }
        SessionEvent::FactorShown { factor, at } => {
            let column = match factor {
                Factor::First => "first_factor_at",
                Factor::Second => "second_factor_at",
            };
            changes.patch(NAME, id, json!({"id": id, column: at}));
        }
        SessionEvent::OrganizationActivated {
            organization_id,
            team_id,
            at: _,
        } => changes.patch(
            NAME,
            id,
            json!({"id": id, "active_organization_id": organization_id, "active_team_id": team_id}),
        ),
        SessionEvent::Ended { .. } => changes.delete(NAME, id),
    }
}

/// What sessions are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The hash of their token, lower-case hex.
    TokenHash,
    /// Their id.
    Id,
}

impl Key {
    /// The key of a session.
    pub fn of(self, session: &SessionRow) -> &str {
        match self {
            Self::TokenHash => &session.token_hash,
            Self::Id => &session.id,
        }
    }
}

/// Sessions and their people, expired or not; nobody who is banned has one, whatever began at the same moment. Where an
/// admin acts as the person, only for as long as that holds what it takes: they are an admin, not banned and signed in
/// themselves, and the person is no admin (S-66).
///
/// # Errors
/// When the database does not answer.
pub async fn with_users(
    pool: &PgPool,
    key: Key,
    values: &[String],
) -> Result<Vec<(SessionRow, UserRow)>, sqlx::Error> {
    let column = match key {
        Key::TokenHash => "token_hash",
        Key::Id => "id",
    };
    let rows = sqlx::query(&format!(
        "select s.id, s.token_hash, s.user_id, s.remembered, s.ip_address, s.user_agent,
                s.created_at, s.updated_at, s.expires_at,
                s.active_organization_id, s.active_team_id, s.impersonated_by,
                s.first_factor_at, s.second_factor_at,
                u.email, u.email_verified, u.name, u.image, u.locale, u.role, u.tier,
                u.banned, u.ban_reason, u.ban_expires, u.two_factor_enabled,
                u.created_at as user_created_at, u.updated_at as user_updated_at
         from read.sessions s join read.users u on u.id = s.user_id
         where s.{column} = any($1)
           and not u.banned
           and (s.impersonated_by is null
                or 'admin' <> all (string_to_array(u.role, ','))
                   and exists (select from read.users a
                               where a.id = s.impersonated_by
                                 and 'admin' = any (string_to_array(a.role, ',')) and not a.banned)
                   and exists (select from read.sessions o
                               where o.user_id = s.impersonated_by and o.impersonated_by is null))",
    ))
    .bind(values)
    .fetch_all(pool)
    .await?;
    rows.iter().map(with_user).collect()
}

fn with_user(row: &PgRow) -> Result<(SessionRow, UserRow), sqlx::Error> {
    let session = SessionRow::from_row(row)?;
    let user = UserRow {
        id: session.user_id.clone(),
        email: row.try_get("email")?,
        email_verified: row.try_get("email_verified")?,
        name: row.try_get("name")?,
        image: row.try_get("image")?,
        locale: row.try_get("locale")?,
        role: row.try_get("role")?,
        tier: row.try_get("tier")?,
        banned: row.try_get("banned")?,
        ban_reason: row.try_get("ban_reason")?,
        ban_expires: row.try_get("ban_expires")?,
        two_factor_enabled: row.try_get("two_factor_enabled")?,
        created_at: row.try_get("user_created_at")?,
        updated_at: row.try_get("user_updated_at")?,
    };
    Ok((session, user))
}

/// A person's sessions that have not expired at `now`, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(
    pool: &PgPool,
    user_id: &str,
    now: DateTime<Utc>,
) -> Result<Vec<SessionRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
                active_organization_id, active_team_id, impersonated_by, first_factor_at, second_factor_at
         from read.sessions where user_id = $1 and expires_at > $2
         order by created_at desc, id",
    )
    .bind(user_id)
    .bind(now)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::session::{EndReason, SignInMethod};
    use aggregates::{Personal, UserId};
    use chrono::TimeDelta;

    use super::*;
    use crate::RowChange;

    fn started() -> AnyEvent {
        AnyEvent::Session(SessionEvent::Started {
            user_id: UserId::new("u1"),
            token_hash: "00".into(),
            method: SignInMethod::Password,
            second_factor: false,
            impersonated_by: Some(UserId::new("u2")),
            reason: None,
            remembered: true,
            ip_address: Personal::about("u1", "192.0.2.1".into()),
            user_agent: Personal::about("u1", "x".into()),
            expires_at: DateTime::UNIX_EPOCH + TimeDelta::days(7),
            at: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn an_ended_session_leaves_no_row() {
        let ended = AnyEvent::Session(SessionEvent::Ended {
            user_id: None,
            reason: EndReason::Revoked,
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "s1", &[started(), ended]);
        assert_eq!(changes, vec![("s1".into(), RowChange::Delete)]);
    }

    #[test]
    fn a_session_says_who_acts_in_it_and_for_which_organization() {
        let activated = AnyEvent::Session(SessionEvent::OrganizationActivated {
            organization_id: Some("o1".into()),
            team_id: None,
            at: DateTime::UNIX_EPOCH + TimeDelta::days(2),
        });
        let changes = crate::rows_of(NAME, "s1", &[started(), activated]);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let row: SessionRow = serde_json::from_value(row.clone().into()).unwrap();
        assert_eq!(row.active_organization_id.as_deref(), Some("o1"));
        assert_eq!(row.active_team_id, None);
        assert_eq!(row.impersonated_by.as_deref(), Some("u2"));
        // It was not used for longer by this.
        assert_eq!(row.updated_at, DateTime::UNIX_EPOCH);
    }

    #[test]
    fn a_factor_that_is_shown_again_moves_its_own_time() {
        let later = DateTime::UNIX_EPOCH + TimeDelta::minutes(3);
        let shown = AnyEvent::Session(SessionEvent::FactorShown {
            factor: Factor::Second,
            at: later,
        });
        let changes = crate::rows_of(NAME, "s1", &[started(), shown]);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let row: SessionRow = serde_json::from_value(row.clone().into()).unwrap();
        let wanted = FactorTimes {
            first: Some(DateTime::UNIX_EPOCH),
            second: Some(later),
        };
        assert_eq!(row.factors(), wanted);
    }

    #[test]
    fn an_extension_moves_the_end_of_the_same_row() {
        let until = DateTime::UNIX_EPOCH + TimeDelta::days(9);
        let extended = AnyEvent::Session(SessionEvent::Extended {
            expires_at: until,
            at: DateTime::UNIX_EPOCH + TimeDelta::days(2),
        });
        let changes = crate::rows_of(NAME, "s1", &[started(), extended]);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let row: SessionRow = serde_json::from_value(row.clone().into()).unwrap();
        assert_eq!(
            (row.expires_at, row.created_at),
            (until, DateTime::UNIX_EPOCH)
        );
    }
}
