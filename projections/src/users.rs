//! `users`: what sign-in, the session answer and the admin list know of a person.

pub mod listing;

use aggregates::user::{Change, UserEvent};
use aggregates::{Personal, Roles};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, PgExecutor, PgPool};

use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: "users",
    version: 3,
    kind: Kind::Inline,
    streams: &["user"],
    columns: &[
        "id",
        "email",
        "email_verified",
        "name",
        "image",
        "locale",
        "role",
        "tier",
        "banned",
        "ban_reason",
        "ban_expires",
        "two_factor_enabled",
        "created_at",
        "updated_at",
    ],
    owner: None,
    reads_client: false,
    apply,
};

/// A registered person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct UserRow {
    /// 32 characters.
    pub id: String,
    /// In lower case.
    pub email: String,
    /// Whether the address was proven.
    pub email_verified: bool,
    /// As the person wrote it.
    pub name: String,
    /// Address of a picture.
    pub image: Option<String>,
    /// Language tag.
    pub locale: Option<String>,
    /// See `aggregates::Roles`.
    pub role: String,
    /// See `aggregates::Tier`.
    pub tier: String,
    /// Whether nobody gets in; it stays so until the ban is lifted, also after its end.
    pub banned: bool,
    /// What the person is told.
    pub ban_reason: Option<String>,
    /// When the ban may be lifted by itself.
    pub ban_expires: Option<DateTime<Utc>>,
    /// Whether signing in takes a second factor.
    pub two_factor_enabled: bool,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
    /// When anything of the above last changed.
    pub updated_at: DateTime<Utc>,
}

impl UserRow {
    /// Whether the role `name` is among theirs.
    pub fn has_role(&self, name: &str) -> bool {
        Roles::parse(&self.role).is_some_and(|roles| roles.contains(name))
    }
}

const NAME: &str = "users";

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::User(event) = recorded.event else {
        return;
    };
    let id = recorded.stream_id;
    match event {
        UserEvent::Registered {
            email,
            name,
            image,
            locale,
            role,
            tier,
            at,
        } => {
            // Erased people have no row.
            let (Some(email), Some(name)) = (email.get(), name.get()) else {
                return;
            };
            let row = UserRow {
                id: id.to_owned(),
                email: email.as_str().to_owned(),
                email_verified: false,
                name: name.clone(),
                image: image.as_ref().and_then(Personal::get).cloned(),
                locale: locale.as_ref().and_then(Personal::get).cloned(),
                role: role.as_str().to_owned(),
                tier: tier.as_str().to_owned(),
                banned: false,
                ban_reason: None,
                ban_expires: None,
                two_factor_enabled: false,
                created_at: *at,
                updated_at: *at,
            };
            changes.put(NAME, id, &row);
        }
        UserEvent::EmailVerified { at } => changes.patch(
            NAME,
            id,
            json!({"id": id, "email_verified": true, "updated_at": at}),
        ),
        UserEvent::EmailVerificationWithdrawn { at } => changes.patch(
            NAME,
            id,
            json!({"id": id, "email_verified": false, "updated_at": at}),
        ),
        UserEvent::EmailChanged { to, at, .. } | UserEvent::EmailChangeReverted { to, at, .. } => {
            let Some(email) = to.get() else { return };
            changes.patch(
                NAME,
                id,
                json!({"id": id, "email": email, "updated_at": at}),
            );
        }
        UserEvent::ErasureRequested { .. } => changes.delete(NAME, id),
        UserEvent::Banned { reason, until, at } => {
            let reason = reason.as_ref().and_then(Personal::get);
            changes.patch(
                NAME,
                id,
                json!({"id": id, "banned": true, "ban_reason": reason, "ban_expires": until, "updated_at": at}),
            );
        }
        UserEvent::BanLifted { at } => changes.patch(
            NAME,
            id,
            json!({"id": id, "banned": false, "ban_reason": null, "ban_expires": null, "updated_at": at}),
        ),
        UserEvent::SecondFactorEnabled { at, .. } => changes.patch(
            NAME,
            id,
            json!({"id": id, "two_factor_enabled": true, "updated_at": at}),
        ),
        UserEvent::SecondFactorDisabled { at } => changes.patch(
            NAME,
            id,
            json!({"id": id, "two_factor_enabled": false, "updated_at": at}),
        ),
        UserEvent::PasswordSet { .. }
        | UserEvent::PasswordRemoved { .. }
        | UserEvent::SecondFactorPrepared { .. }
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
        | UserEvent::AuditRead { .. }
        | UserEvent::EmailChangeRequested { .. }
        | UserEvent::EmailChangeConfirmed { .. }
        | UserEvent::FormerEmailReleased { .. }
        | UserEvent::SessionsEnded { .. }
        | UserEvent::LockedOut { .. } => {}
        UserEvent::ProfileChanged {
            name,
            image,
            locale,
            at,
        } => {
            let mut columns = json!({"id": id, "updated_at": at});
            if let Some(name) = name.as_ref().and_then(Personal::get) {
                columns["name"] = json!(name);
            }
            patch_column(&mut columns, "image", image);
            patch_column(&mut columns, "locale", locale);
            changes.patch(NAME, id, columns);
        }
        UserEvent::RoleChanged { role, at } => {
            changes.patch(NAME, id, json!({"id": id, "role": role, "updated_at": at}))
        }
        UserEvent::TierChanged { tier, at } => {
            changes.patch(NAME, id, json!({"id": id, "tier": tier, "updated_at": at}))
        }
    }
}

fn patch_column(columns: &mut Value, column: &str, change: &Change) {
    match change {
        Change::Kept => {}
        Change::Removed => columns[column] = Value::Null,
        Change::Set(value) => columns[column] = json!(value.get()),
    }
}

/// The person with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, email, email_verified, name, image, locale, role, tier,
                banned, ban_reason, ban_expires, two_factor_enabled, created_at, updated_at
         from read.users where id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// Whoever holds a claim (scope and hash), and beside them in one row what a sign-in asks: a secret of theirs (of this
/// kind and id) as custody's columns, `any_device`, and `known_devices`, the ids of those used since then.
///
/// # Errors
/// When the database does not answer.
pub async fn at_the_door(
    pool: &PgPool,
    (scope, key_hash): (&str, &[u8]),
    (kind, id): (&str, &str),
    since: DateTime<Utc>,
) -> Result<Option<(UserRow, PgRow)>, sqlx::Error> {
    let row = sqlx::query(
        "select u.id, u.email, u.email_verified, u.name, u.image, u.locale, u.role, u.tier, u.banned, u.ban_reason,
                u.ban_expires, u.two_factor_enabled, u.created_at, u.updated_at,
                k.version, k.kek_id, k.format, k.nonce, k.ciphertext, k.older_than_log,
                exists (select from read.devices d where d.user_id = c.owner) as any_device,
                array(select d.id from read.devices d where d.user_id = c.owner and d.last_sign_in_at >= $5) as known_devices
         from claims c
         join read.users u on u.id = c.owner
         left join custody_read k on k.kind = $3 and k.owner = c.owner and k.id = $4
         where c.scope = $1 and c.key_hash = $2",
    )
    .bind(scope)
    .bind(key_hash)
    .bind(kind)
    .bind(id)
    .bind(since)
    .fetch_optional(pool)
    .await?;
    row.map(|row| Ok((UserRow::from_row(&row)?, row)))
        .transpose()
}

/// Those of the given ids that belong to somebody.
///
/// # Errors
/// When the database does not answer.
pub async fn existing(db: impl PgExecutor<'_>, ids: &[&str]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select id from read.users where id = any($1)")
        .bind(ids)
        .fetch_all(db)
        .await
}

/// The next people after an id, in order of their ids, as (id, mail address).
///
/// # Errors
/// When the database does not answer.
pub async fn addresses_after(
    db: impl PgExecutor<'_>,
    id: &str,
    limit: i64,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as("select id, email from read.users where id > $1 order by id limit $2")
        .bind(id)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// How many of the people that there are registered at a time or later.
///
/// # Errors
/// When the database does not answer.
pub async fn made_since(pool: &PgPool, time: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from read.users where created_at >= $1")
        .bind(time)
        .fetch_one(pool)
        .await
}

/// How many people there are.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Totals {
    /// Everybody.
    pub total: i64,
    /// Those who proved their address.
    pub verified: i64,
    /// Those whose account was made since the given times, shortest first.
    pub today: i64,
    /// In the last 7 days.
    pub this_week: i64,
    /// In the last 30 days.
    pub this_month: i64,
}

/// Counts people, for the metrics page; a full pass over the table.
///
/// # Errors
/// When the database does not answer.
pub async fn totals(pool: &PgPool, now: DateTime<Utc>) -> Result<Totals, sqlx::Error> {
    sqlx::query_as(
        "select count(*) as total,
                count(*) filter (where email_verified) as verified,
                count(*) filter (where created_at >= date_trunc('day', $1 at time zone 'utc') at time zone 'utc') as today,
                count(*) filter (where created_at >= $1 - interval '7 days') as this_week,
                count(*) filter (where created_at >= $1 - interval '30 days') as this_month
         from read.users",
    )
    .bind(now)
    .fetch_one(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::user::SecondFactorMethod;
    use aggregates::{EmailAddress, Tier};
    use chrono::TimeDelta;

    use super::*;
    use crate::RowChange;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn row(events: impl IntoIterator<Item = UserEvent>) -> UserRow {
        let registered = UserEvent::Registered {
            email: Personal::about("u1", EmailAddress::parse("ada@example.com").unwrap()),
            name: Personal::about("u1", "Ada".into()),
            image: None,
            locale: None,
            role: Roles::parse("user,admin").unwrap(),
            tier: Tier::Public,
            at: at(0),
        };
        let events: Vec<AnyEvent> = std::iter::once(registered)
            .chain(events)
            .map(AnyEvent::User)
            .collect();
        let changes = crate::rows_of(NAME, "u1", &events);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        serde_json::from_value(row.clone().into()).unwrap()
    }

    #[test]
    fn a_person_has_each_of_their_roles() {
        let person = row([]);
        assert!(person.has_role("user") && person.has_role("admin"));
        assert!(!person.has_role("service"));
    }

    #[test]
    fn a_ban_stands_with_reason_and_end_until_it_is_lifted() {
        let banned = UserEvent::Banned {
            reason: Some(Personal::about("u1", "spam".into())),
            until: Some(at(9)),
            at: at(1),
        };
        let person = row([banned.clone()]);
        assert!(person.banned);
        assert_eq!(person.ban_reason.as_deref(), Some("spam"));
        assert_eq!(
            (person.ban_expires, person.updated_at),
            (Some(at(9)), at(1))
        );
        let person = row([banned, UserEvent::BanLifted { at: at(2) }]);
        assert_eq!(
            (person.banned, person.ban_reason, person.ban_expires),
            (false, None, None)
        );
    }

    #[test]
    fn a_second_factor_counts_once_it_is_enabled() {
        let prepared = UserEvent::SecondFactorPrepared { at: at(1) };
        let enabled = UserEvent::SecondFactorEnabled {
            method: SecondFactorMethod::Totp,
            at: at(2),
        };
        let disabled = UserEvent::SecondFactorDisabled { at: at(3) };
        assert!(!row([prepared.clone()]).two_factor_enabled);
        assert!(row([prepared.clone(), enabled.clone()]).two_factor_enabled);
        assert!(!row([prepared, enabled, disabled]).two_factor_enabled);
    }
}
