//! `organizations`: what an organization shows of itself.

use aggregates::Personal;
use aggregates::organization::OrganizationEvent;
use aggregates::user::Change;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow as _, PgPool, Row as _};

use crate::members::MemberRow;
use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 1,
    kind: Kind::Inline,
    streams: &["organization"],
    columns: &["id", "name", "slug", "logo", "metadata", "created_at"],
    owner: None,
    reads_client: false,
    apply,
};

const NAME: &str = "organizations";

/// An organization that stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct OrganizationRow {
    /// 32 characters.
    pub id: String,
    /// As its owner wrote it.
    pub name: String,
    /// Unique.
    pub slug: String,
    /// Address of a picture.
    pub logo: Option<String>,
    /// JSON text of the applications.
    pub metadata: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::Organization(event) = recorded.event else {
        return;
    };
    let id = recorded.stream_id;
    match event {
        OrganizationEvent::Created {
            name,
            slug,
            logo,
            metadata,
            by: _,
            at,
        } => {
            // Closed organizations have no key and no row.
            let (Some(name), Some(slug)) = (name.get(), slug.get()) else {
                return;
            };
            let row = OrganizationRow {
                id: id.to_owned(),
                name: name.clone(),
                slug: slug.clone(),
                logo: logo.as_ref().and_then(Personal::get).cloned(),
                metadata: metadata.as_ref().and_then(Personal::get).cloned(),
                created_at: *at,
            };
            changes.put(NAME, id, &row);
        }
        OrganizationEvent::Updated {
            name,
            logo,
            metadata,
            ..
        } => {
            let mut columns = json!({"id": id});
            if let Some(name) = name.as_ref().and_then(Personal::get) {
                columns["name"] = json!(name);
            }
            patch_column(&mut columns, "logo", logo);
            patch_column(&mut columns, "metadata", metadata);
            changes.patch(NAME, id, columns);
        }
        OrganizationEvent::SlugChanged { to, .. } => {
            if let Some(slug) = to.get() {
                changes.patch(NAME, id, json!({"id": id, "slug": slug}));
            }
        }
        OrganizationEvent::Closed { .. } => changes.delete(NAME, id),
        OrganizationEvent::MemberAdded { .. }
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

fn patch_column(columns: &mut Value, column: &str, change: &Change) {
    match change {
        Change::Kept => {}
        Change::Removed => columns[column] = Value::Null,
        Change::Set(value) => columns[column] = json!(value.get()),
    }
}

/// The organization with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<OrganizationRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, name, slug, logo, metadata, created_at from read.organizations where id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// The organization with this id, and a person's membership in it.
///
/// # Errors
/// When the database does not answer.
pub async fn entered(
    pool: &PgPool,
    id: &str,
    user_id: &str,
) -> Result<Option<(OrganizationRow, Option<MemberRow>)>, sqlx::Error> {
    let row = sqlx::query(
        "select o.id, o.name, o.slug, o.logo, o.metadata, o.created_at,
                m.id as member_id, m.role, m.created_at as member_created_at
         from read.organizations o
         left join read.members m on m.user_id = $2 and m.organization_id = o.id
         where o.id = $1",
    )
    .bind(id)
    .bind(user_id)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let member = match row.try_get("member_id")? {
        None => None,
        Some(member_id) => Some(MemberRow {
            id: member_id,
            organization_id: id.to_owned(),
            user_id: user_id.to_owned(),
            role: row.try_get("role")?,
            created_at: row.try_get("member_created_at")?,
        }),
    };
    Ok(Some((OrganizationRow::from_row(&row)?, member)))
}

/// The organizations that a person belongs to, in the order in which they came to them.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<OrganizationRow>, sqlx::Error> {
    sqlx::query_as(
        "select o.id, o.name, o.slug, o.logo, o.metadata, o.created_at
         from read.members m join read.organizations o on o.id = m.organization_id
         where m.user_id = $1 order by m.created_at, m.event_id",
    )
    .bind(user_id)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::organization::CloseReason;

    use super::*;
    use crate::RowChange;

    fn about<T>(value: T) -> Personal<T> {
        Personal::about("o1", value)
    }

    fn created() -> AnyEvent {
        AnyEvent::Organization(OrganizationEvent::Created {
            name: about("Acme".into()),
            slug: about("acme".into()),
            logo: None,
            metadata: Some(about("{}".into())),
            by: None,
            at: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_row_follows_what_the_organization_shows() {
        let updated = AnyEvent::Organization(OrganizationEvent::Updated {
            name: None,
            logo: Change::Set(about("l".into())),
            metadata: Change::Removed,
            at: DateTime::UNIX_EPOCH,
        });
        let slug = AnyEvent::Organization(OrganizationEvent::SlugChanged {
            from: about("acme".into()),
            to: about("new".into()),
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "o1", &[created(), updated, slug]);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let row: OrganizationRow = serde_json::from_value(row.clone().into()).unwrap();
        let shown = (row.name.as_str(), row.slug.as_str(), row.logo.as_deref());
        assert_eq!(shown, ("Acme", "new", Some("l")));
        assert_eq!(row.metadata, None);
    }

    #[test]
    fn a_closed_organization_leaves_no_row() {
        let closed = AnyEvent::Organization(OrganizationEvent::Closed {
            reason: CloseReason::Deleted,
            by: None,
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "o1", &[created(), closed]);
        assert_eq!(changes, vec![("o1".into(), RowChange::Delete)]);
    }
}
