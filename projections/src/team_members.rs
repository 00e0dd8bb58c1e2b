//! `team_members`: who belongs to which team.

use aggregates::organization::OrganizationEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
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
        "team_id",
        "user_id",
        "created_at",
        "event_id",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "team_members";
const OWNER: &str = "organization_id";

/// Somebody who belongs to a team.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct TeamMemberRow {
    /// Of the membership.
    pub id: String,
    /// Of the team.
    pub organization_id: String,
    /// Which team.
    pub team_id: String,
    /// Who.
    pub user_id: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    row: TeamMemberRow,
    /// Tells the order of rows of the same moment.
    event_id: &'a str,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::Organization(event) = recorded.event else {
        return;
    };
    if let OrganizationEvent::TeamMemberAdded {
        team_member_id,
        team_id,
        user_id,
        at,
    } = event
    {
        let row = TeamMemberRow {
            id: team_member_id.clone(),
            organization_id: recorded.stream_id.to_owned(),
            team_id: team_id.clone(),
            user_id: user_id.to_string(),
            created_at: *at,
        };
        let event_id = &recorded.event_id.to_string();
        changes.put(NAME, team_member_id, &Stored { row, event_id });
    } else if let OrganizationEvent::TeamMemberRemoved { team_member_id, .. } = event {
        changes.delete(NAME, team_member_id);
    } else if let OrganizationEvent::Closed { .. } = event {
        changes.delete_owned(NAME, OWNER, recorded.stream_id, None);
    }
}

/// The members of a team, in the order in which they came.
///
/// # Errors
/// When the database does not answer.
pub async fn of_team(pool: &PgPool, team_id: &str) -> Result<Vec<TeamMemberRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, organization_id, team_id, user_id, created_at from read.team_members
         where team_id = $1 order by created_at, event_id",
    )
    .bind(team_id)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::UserId;

    use super::*;
    use crate::RowChange;

    #[test]
    fn whoever_left_a_team_has_no_row() {
        let added = AnyEvent::Organization(OrganizationEvent::TeamMemberAdded {
            team_member_id: "n1".into(),
            team_id: "t1".into(),
            user_id: UserId::new("u1"),
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "o1", std::slice::from_ref(&added));
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        for column in PROJECTION.columns {
            assert!(row.contains_key(*column), "{column}");
        }
        let removed = AnyEvent::Organization(OrganizationEvent::TeamMemberRemoved {
            team_member_id: "n1".into(),
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "o1", &[added, removed]);
        assert_eq!(changes, vec![("n1".into(), RowChange::Delete)]);
    }
}
