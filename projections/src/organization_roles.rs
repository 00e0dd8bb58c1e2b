//! `organization_roles`: the roles that organizations define.

use aggregates::organization::OrganizationEvent;
use aggregates::organization::permissions::Permissions;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::types::Json;

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
        "name",
        "permission",
        "created_at",
        "updated_at",
        "event_id",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "organization_roles";
const OWNER: &str = "organization_id";

/// A role of an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct RoleRow {
    /// 32 characters.
    pub id: String,
    /// Of which organization.
    pub organization_id: String,
    /// Lower case.
    pub name: String,
    /// What it allows.
    pub permission: Json<Permissions>,
    /// When it was defined.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    row: RoleRow,
    /// Tells the order of rows of the same moment.
    event_id: &'a str,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::Organization(event) = recorded.event else {
        return;
    };
    if let OrganizationEvent::RoleCreated {
        role_id,
        name,
        permission,
        at,
    } = event
    {
        let row = RoleRow {
            id: role_id.clone(),
            organization_id: recorded.stream_id.to_owned(),
            name: name.clone(),
            permission: Json(permission.clone()),
            created_at: *at,
            updated_at: None,
        };
        let event_id = &recorded.event_id.to_string();
        changes.put(NAME, role_id, &Stored { row, event_id });
    } else if let OrganizationEvent::RoleUpdated {
        role_id,
        name,
        permission,
        at,
    } = event
    {
        let mut columns = json!({"id": role_id, "updated_at": at});
        if let Some(name) = name {
            columns["name"] = json!(name);
        }
        if let Some(permission) = permission {
            columns["permission"] = json!(permission);
        }
        changes.patch(NAME, role_id, columns);
    } else if let OrganizationEvent::RoleDeleted { role_id, .. } = event {
        changes.delete(NAME, role_id);
    } else if let OrganizationEvent::Closed { .. } = event {
        changes.delete_owned(NAME, OWNER, recorded.stream_id, None);
    }
}

/// The roles of an organization, in the order in which they were defined.
///
/// # Errors
/// When the database does not answer.
pub async fn of_organization(
    pool: &PgPool,
    organization_id: &str,
) -> Result<Vec<RoleRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, organization_id, name, permission, created_at, updated_at from read.organization_roles
         where organization_id = $1 order by created_at, event_id",
    )
    .bind(organization_id)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowChange;

    #[test]
    fn a_role_is_what_it_became() {
        let permission = |action: &str| -> Permissions {
            [("project".to_owned(), vec![action.to_owned()])].into()
        };
        let at = DateTime::UNIX_EPOCH;
        let created = OrganizationEvent::RoleCreated {
            role_id: "r1".into(),
            name: "editor".into(),
            permission: permission("update"),
            at,
        };
        let updated = |name, permission| OrganizationEvent::RoleUpdated {
            role_id: "r1".into(),
            name,
            permission,
            at,
        };
        let events = [
            created,
            updated(Some("writer".into()), None),
            updated(None, Some(permission("delete"))),
        ]
        .map(AnyEvent::Organization);
        let changes = crate::rows_of(NAME, "o1", &events);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        for column in PROJECTION.columns {
            assert!(row.contains_key(*column), "{column}");
        }
        let row: RoleRow = serde_json::from_value(row.clone().into()).unwrap();
        assert_eq!(row.name, "writer");
        assert_eq!(row.permission.0, permission("delete"));
        assert_eq!(row.updated_at, Some(at));
    }
}
