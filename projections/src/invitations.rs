//! `invitations`: who was asked into which organization, and what became of it.

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
        "email",
        "role",
        "team_ids",
        "status",
        "inviter_id",
        "expires_at",
        "created_at",
        "event_id",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "invitations";
const OWNER: &str = "organization_id";

/// An invitation, whatever became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct InvitationRow {
    /// 32 characters.
    pub id: String,
    /// Into which organization.
    pub organization_id: String,
    /// Whose account may accept it.
    pub email: String,
    /// Roles, joined by commas.
    pub role: String,
    /// Teams that they join as well, joined by commas.
    pub team_ids: Option<String>,
    /// `pending`, `accepted`, `rejected` or `canceled`; one that ran out stays pending.
    pub status: String,
    /// Who asked them in.
    pub inviter_id: String,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// When it was sent first.
    pub created_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    row: InvitationRow,
    /// Tells the order of rows of the same moment.
    event_id: &'a str,
}

impl InvitationRow {
    /// Whether it can be answered.
    pub fn stands(&self, now: DateTime<Utc>) -> bool {
        self.status == "pending" && self.expires_at > now
    }

    /// The teams that it leads into.
    pub fn teams(&self) -> impl Iterator<Item = &str> {
        self.team_ids.iter().flat_map(|ids| ids.split(','))
    }
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::Organization(event) = recorded.event else {
        return;
    };
    let mut became = |id: &str, status: &str| {
        changes.patch(NAME, id, json!({"id": id, "status": status}));
    };
    if let OrganizationEvent::InvitationSent {
        invitation_id,
        email,
        role,
        team_ids,
        inviter_id,
        expires_at,
        at,
    } = event
    {
        // Whoever was erased was never invited.
        let Some(email) = email.get() else { return };
        let row = InvitationRow {
            id: invitation_id.clone(),
            organization_id: recorded.stream_id.to_owned(),
            email: email.as_str().to_owned(),
            role: role.clone(),
            team_ids: (!team_ids.is_empty()).then(|| team_ids.join(",")),
            status: "pending".to_owned(),
            inviter_id: inviter_id.to_string(),
            expires_at: *expires_at,
            created_at: *at,
        };
        let event_id = &recorded.event_id.to_string();
        changes.put(NAME, invitation_id, &Stored { row, event_id });
    } else if let OrganizationEvent::InvitationRenewed {
        invitation_id: id,
        expires_at,
        ..
    } = event
    {
        changes.patch(NAME, id, json!({"id": id, "expires_at": expires_at}));
    } else if let OrganizationEvent::InvitationAccepted { invitation_id, .. } = event {
        became(invitation_id, "accepted");
    } else if let OrganizationEvent::InvitationRejected { invitation_id, .. } = event {
        became(invitation_id, "rejected");
    } else if let OrganizationEvent::InvitationCanceled { invitation_id, .. } = event {
        became(invitation_id, "canceled");
    } else if let OrganizationEvent::InvitationErased { invitation_id, .. } = event {
        changes.delete(NAME, invitation_id);
    } else if let OrganizationEvent::Closed { .. } = event {
        changes.delete_owned(NAME, OWNER, recorded.stream_id, None);
    }
}

const COLUMNS: &str = "i.id, i.organization_id, i.email, i.role, i.team_ids, i.status, i.inviter_id, i.expires_at, \
                       i.created_at";

/// The invitation with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<InvitationRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from read.invitations i where i.id = $1"
    ))
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// Every invitation into an organization, in the order in which they were sent.
///
/// # Errors
/// When the database does not answer.
pub async fn of_organization(
    pool: &PgPool,
    organization_id: &str,
) -> Result<Vec<InvitationRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from read.invitations i where i.organization_id = $1 order by i.created_at, i.event_id"
    ))
    .bind(organization_id)
    .fetch_all(pool)
    .await
}

/// An invitation that stands, and where it leads.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Addressed {
    /// The invitation.
    #[sqlx(flatten)]
    pub invitation: InvitationRow,
    /// Name of the organization.
    pub organization_name: String,
}

/// The invitations of an address that can be answered.
///
/// # Errors
/// When the database does not answer.
pub async fn of_email(
    pool: &PgPool,
    email: &str,
    now: DateTime<Utc>,
) -> Result<Vec<Addressed>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS}, o.name as organization_name
         from read.invitations i join read.organizations o on o.id = i.organization_id
         where i.email = $1 and i.status = 'pending' and i.expires_at > $2 order by i.created_at, i.event_id"
    ))
    .bind(email)
    .bind(now)
    .fetch_all(pool)
    .await
}

/// Every invitation to some addresses, whatever became of it: its organization and its id.
///
/// # Errors
/// When the database does not answer.
pub async fn to_emails(
    pool: &PgPool,
    emails: &[String],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as("select organization_id, id from read.invitations where email = any($1)")
        .bind(emails)
        .fetch_all(pool)
        .await
}

/// Whose data key the address of an invitation is sealed under.
pub fn subject(organization_id: &str, invitation_id: &str) -> String {
    format!("{organization_id}/{invitation_id}")
}

#[cfg(test)]
mod tests {
    use aggregates::{EmailAddress, Personal, UserId};

    use super::*;
    use crate::RowChange;

    fn sent(email: Personal<EmailAddress>) -> AnyEvent {
        AnyEvent::Organization(OrganizationEvent::InvitationSent {
            invitation_id: "i1".into(),
            email,
            role: "member".into(),
            team_ids: vec!["t1".into(), "t2".into()],
            inviter_id: UserId::new("u1"),
            expires_at: DateTime::UNIX_EPOCH,
            at: DateTime::UNIX_EPOCH,
        })
    }

    fn ida() -> Personal<EmailAddress> {
        let email = EmailAddress::parse("ida@example.com").unwrap();
        Personal::about(subject("o1", "i1"), email)
    }

    #[test]
    fn an_invitation_says_what_became_of_it() {
        let invitation_id = "i1".to_owned();
        let at = DateTime::UNIX_EPOCH;
        let answers = [
            (
                OrganizationEvent::InvitationAccepted {
                    invitation_id: invitation_id.clone(),
                    at,
                },
                "accepted",
            ),
            (
                OrganizationEvent::InvitationRejected {
                    invitation_id: invitation_id.clone(),
                    at,
                },
                "rejected",
            ),
            (
                OrganizationEvent::InvitationCanceled { invitation_id, at },
                "canceled",
            ),
        ];
        for (answer, status) in answers {
            let events = [sent(ida()), AnyEvent::Organization(answer)];
            let changes = crate::rows_of(NAME, "o1", &events);
            let [(_, RowChange::Put(row))] = changes.as_slice() else {
                panic!("{changes:?}")
            };
            assert_eq!(row["status"], status);
            for column in PROJECTION.columns {
                assert!(row.contains_key(*column), "{column}");
            }
            let row: InvitationRow = serde_json::from_value(row.clone().into()).unwrap();
            assert_eq!(row.teams().collect::<Vec<_>>(), ["t1", "t2"]);
        }
    }

    #[test]
    fn an_erased_address_has_no_row() {
        let erased =
            serde_json::from_str(r#"{"$personal":{"subject":"o1/i1","erased":true}}"#).unwrap();
        assert_eq!(crate::rows_of(NAME, "o1", &[sent(erased)]), vec![]);
    }
}
