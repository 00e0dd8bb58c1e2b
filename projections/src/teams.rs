//! `teams`: the groups of an organization's members.

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
        "name",
        "created_at",
        "updated_at",
        "event_id",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "teams";
const OWNER: &str = "organization_id";

/// A team.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct TeamRow {
    /// 32 characters.
    pub id: String,
    /// Of which organization.
    pub organization_id: String,
    /// As somebody wrote it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed; none for the team that an organization began with.
    pub updated_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    row: TeamRow,
    /// Tells the order of rows of the same moment.
    event_id: &'a str,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::Organization(event) = recorded.event else {
        return;
    };
    if let OrganizationEvent::TeamCreated {
        team_id,
        name,
        first,
        at,
    } = event
    {
        let Some(name) = name.get() else { return };
        let row = TeamRow {
            id: team_id.clone(),
            organization_id: recorded.stream_id.to_owned(),
            name: name.clone(),
            created_at: *at,
            updated_at: (!first).then_some(*at),
        };
        let event_id = &recorded.event_id.to_string();
        changes.put(NAME, team_id, &Stored { row, event_id });
    } else if let OrganizationEvent::TeamRenamed { team_id, name, at } = event {
        let Some(name) = name.get() else { return };
        changes.patch(
            NAME,
            team_id,
            json!({"id": team_id, "name": name, "updated_at": at}),
        );
    } else if let OrganizationEvent::TeamRemoved { team_id, .. } = event {
        changes.delete(NAME, team_id);
    } else if let OrganizationEvent::Closed { .. } = event {
        changes.delete_owned(NAME, OWNER, recorded.stream_id, None);
    }
}

const COLUMNS: &str = "t.id, t.organization_id, t.name, t.created_at, t.updated_at";

/// The team with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<TeamRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from read.teams t where t.id = $1"
    ))
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// A team, and how many belong to it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Counted {
    /// The team.
    #[sqlx(flatten)]
    pub team: TeamRow,
    /// How many members it has.
    pub members: i64,
}

/// The teams of an organization, in the order in which they were made.
///
/// # Errors
/// When the database does not answer.
pub async fn of_organization(
    pool: &PgPool,
    organization_id: &str,
) -> Result<Vec<Counted>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS}, (select count(*) from read.team_members n where n.team_id = t.id) as members
         from read.teams t where t.organization_id = $1 order by t.created_at, t.event_id"
    ))
    .bind(organization_id)
    .fetch_all(pool)
    .await
}

/// The teams that a person belongs to, in the order in which they came to them.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<TeamRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from read.team_members n join read.teams t on t.id = n.team_id
         where n.user_id = $1 order by n.created_at, n.event_id"
    ))
    .bind(user_id)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::Personal;
    use chrono::TimeDelta;

    use super::*;
    use crate::RowChange;

    #[test]
    fn a_team_has_its_last_name() {
        let name = |name: &str| Personal::about("o1", name.to_owned());
        let later = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
        let created = |first| {
            AnyEvent::Organization(OrganizationEvent::TeamCreated {
                team_id: "t1".into(),
                name: name("Mill"),
                first,
                at: DateTime::UNIX_EPOCH,
            })
        };
        let renamed = AnyEvent::Organization(OrganizationEvent::TeamRenamed {
            team_id: "t1".into(),
            name: name("Store"),
            at: later,
        });
        let row = |events: &[AnyEvent]| {
            let changes = crate::rows_of(NAME, "o1", events);
            let [(_, RowChange::Put(row))] = changes.as_slice() else {
                panic!("{changes:?}")
            };
            for column in PROJECTION.columns {
                assert!(row.contains_key(*column), "{column}");
            }
            serde_json::from_value::<TeamRow>(row.clone().into()).unwrap()
        };
        assert_eq!(row(&[created(true)]).updated_at, None);
        let team = row(&[created(false), renamed]);
        assert_eq!(
            (team.name.as_str(), team.updated_at),
            ("Store", Some(later))
        );
    }
}
