//! `members`: who belongs to which organization, with which roles.

use aggregates::organization::OrganizationEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;

use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 1,
    kind: Kind::Inline,
    streams: &["organization"],
    columns: &[
        "id",
        "organization_id",
        "user_id",
        "role",
        "created_at",
        "event_id",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "members";
const OWNER: &str = "organization_id";

/// Somebody who belongs to an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct MemberRow {
    /// Of the membership.
    pub id: String,
    /// Where.
    pub organization_id: String,
    /// Who.
    pub user_id: String,
    /// Roles, joined by commas.
    pub role: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    row: MemberRow,
    /// Tells the order of rows of the same moment.
    event_id: &'a str,
}

/// A member with what others may know of the person.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Person {
    /// The membership.
    #[sqlx(flatten)]
    pub member: MemberRow,
    /// As the person wrote it.
    pub name: String,
    /// In lower case.
    pub email: String,
    /// Address of a picture.
    pub image: Option<String>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::Organization(event) = recorded.event else {
        return;
    };
    if let OrganizationEvent::MemberAdded {
        member_id,
        user_id,
        role,
        at,
    } = event
    {
        let row = MemberRow {
            id: member_id.clone(),
            organization_id: recorded.stream_id.to_owned(),
            user_id: user_id.to_string(),
            role: role.clone(),
            created_at: *at,
        };
        let event_id = &recorded.event_id.to_string();
        changes.put(NAME, member_id, &Stored { row, event_id });
    } else if let OrganizationEvent::MemberRoleChanged {
        member_id, role, ..
    } = event
    {
        changes.patch(NAME, member_id, json!({"id": member_id, "role": role}));
    } else if let OrganizationEvent::MemberRemoved { member_id, .. } = event {
        changes.delete(NAME, member_id);
    } else if let OrganizationEvent::Closed { .. } = event {
        changes.delete_owned(NAME, OWNER, recorded.stream_id, None);
    }
}

/// A person's membership in an organization.
///
/// # Errors
/// When the database does not answer.
pub async fn of(
    pool: &PgPool,
    organization_id: &str,
    user_id: &str,
) -> Result<Option<MemberRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, organization_id, user_id, role, created_at from read.members
         where user_id = $2 and organization_id = $1",
    )
    .bind(organization_id)
    .bind(user_id)
    .fetch_optional(pool)
    .await
}

/// Everybody in an organization, in the order in which they came. Those whose account is closed are not among them,
/// even while the organization does not know yet.
///
/// # Errors
/// When the database does not answer.
pub async fn people(pool: &PgPool, organization_id: &str) -> Result<Vec<Person>, sqlx::Error> {
    sqlx::query_as(
        "select m.id, m.organization_id, m.user_id, m.role, m.created_at, u.name, u.email, u.image
         from read.members m join read.users u on u.id = m.user_id
         where m.organization_id = $1 order by m.created_at, m.event_id",
    )
    .bind(organization_id)
    .fetch_all(pool)
    .await
}

/// The organizations that a person belongs to.
///
/// # Errors
/// When the database does not answer.
pub async fn organizations_of(pool: &PgPool, user_id: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select organization_id from read.members where user_id = $1")
        .bind(user_id)
        .fetch_all(pool)
        .await
}

/// Those of the given people who belong to an organization.
///
/// # Errors
/// When the database does not answer.
pub async fn members_among(pool: &PgPool, user_ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select distinct user_id from read.members where user_id = any($1)")
        .bind(user_ids)
        .fetch_all(pool)
        .await
}

#[cfg(test)]
mod tests {
    use aggregates::UserId;
    use aggregates::organization::RemovalReason;

    use super::*;
    use crate::RowChange;

    fn added() -> AnyEvent {
        AnyEvent::Organization(OrganizationEvent::MemberAdded {
            member_id: "m1".into(),
            user_id: UserId::new("u1"),
            role: "owner".into(),
            at: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_member_has_the_roles_that_were_given_last() {
        let changed = AnyEvent::Organization(OrganizationEvent::MemberRoleChanged {
            member_id: "m1".into(),
            role: "member,admin".into(),
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "o1", &[added(), changed]);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(row["role"], "member,admin");
        assert_eq!(row["organization_id"], "o1");
        for column in PROJECTION.columns {
            assert!(row.contains_key(*column), "{column}");
        }
    }

    #[test]
    fn whoever_is_gone_has_no_row() {
        let removed = AnyEvent::Organization(OrganizationEvent::MemberRemoved {
            member_id: "m1".into(),
            user_id: UserId::new("u1"),
            reason: RemovalReason::Left,
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "o1", &[added(), removed]);
        assert_eq!(changes, vec![("m1".into(), RowChange::Delete)]);
    }
}
