//! `vault_audit`: every call of a vault, in the words of the audit log (mana-v1.md section 5.4).

pub mod page;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 1,
    kind: Kind::Async,
    streams: &["vault"],
    columns: &[
        "id",
        "position",
        "user_id",
        "action",
        "status",
        "context",
        "ip_address",
        "user_agent",
        "session_id",
        "request_id",
        "created_at",
    ],
    owner: None,
    reads_client: true,
    apply,
};

/// Its name, and its table's.
pub const NAME: &str = "vault_audit";

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct AuditRow {
    /// Of the event.
    pub id: String,
    /// Of the event in the log.
    pub position: i64,
    /// Whose vault.
    pub user_id: String,
    /// What was asked for, such as `fetch`.
    pub action: String,
    /// How it was answered, in numbers like those of HTTP.
    pub status: i32,
    /// More about it.
    pub context: Option<String>,
    /// None if unknown, and when the owner is erased.
    pub ip_address: Option<String>,
    /// None if unknown, and when the owner is erased.
    pub user_agent: Option<String>,
    /// In which session it was asked for.
    pub session_id: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let (AnyEvent::Vault(event), Some(logged)) = (recorded.event, recorded.logged) else {
        return;
    };
    let (line, access) = (event.line(), event.access());
    let client = access.client.get();
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    let id = recorded.event_id.to_string();
    let row = AuditRow {
        position: logged.position,
        user_id: recorded.stream_id.to_owned(),
        action: line.action.to_owned(),
        status: line.status.into(),
        context: line.context.map(Into::into),
        ip_address: client.and_then(|client| known(&client.ip_address)),
        user_agent: client.and_then(|client| known(&client.user_agent)),
        session_id: logged.session_id.map(str::to_owned),
        request_id: logged.request_id.map(str::to_owned),
        created_at: access.at,
        id: id.clone(),
    };
    changes.put(NAME, &id, &row);
}

#[cfg(test)]
mod tests {
    use aggregates::vault::{Access, Action, Client, Refusal, VaultEvent};
    use aggregates::{Personal, UserId};
    use sqlx::types::Uuid;

    use super::*;
    use crate::{Logged, RowChange};

    fn row(client: Personal<Client>) -> AuditRow {
        let at = DateTime::UNIX_EPOCH;
        let event = AnyEvent::Vault(VaultEvent::Refused {
            action: Action::Fetch,
            reason: Refusal::NoVault,
            access: Access { client, at },
        });
        let mut changes = Changes::default();
        let logged = Logged {
            position: 7,
            session_id: Some("s1"),
            request_id: None,
        };
        apply(
            Recorded {
                stream_id: "u1",
                event_id: Uuid::nil(),
                client: None,
                logged: Some(logged),
                event: &event,
            },
            &mut changes,
        );
        let rows: Vec<_> = changes.into_rows().collect();
        let [(NAME, key, RowChange::Put(row))] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        for column in PROJECTION.columns {
            assert!(row.contains_key(*column), "{column}");
        }
        assert_eq!(row["id"], key.as_str());
        serde_json::from_value(row.clone().into()).unwrap()
    }

    #[test]
    fn a_call_is_a_line() {
        let client = Client {
            ip_address: "192.0.2.1".to_owned(),
            user_agent: String::new(),
        };
        let row = row(Personal::about(UserId::new("u1").as_str(), client));
        assert_eq!((row.user_id.as_str(), row.position), ("u1", 7));
        assert_eq!((row.action.as_str(), row.status), ("failed_fetch", 404));
        assert_eq!(row.context.as_deref(), Some("not-initialised"));
        assert_eq!(row.ip_address.as_deref(), Some("192.0.2.1"));
        assert_eq!(row.user_agent, None);
        assert_eq!(
            (row.session_id.as_deref(), row.request_id),
            (Some("s1"), None)
        );
    }

    #[test]
    fn of_an_erased_person_no_address_is_left() {
        let erased: Personal<Client> = serde_json::from_value(
            serde_json::json!({"$personal": {"subject": "u1", "erased": true}}),
        )
        .unwrap();
        let row = row(erased);
        assert_eq!((row.ip_address, row.user_agent), (None, None));
        assert_eq!(row.action, "failed_fetch");
    }
}
