//! Row changes: what a fold says, before it is written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// A row as column → value.
pub type Row = Map<String, Value>;

/// What becomes of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowChange {
    /// The whole row, new or replaced.
    Put(Row),
    /// Some columns of a row that exists; nothing if it does not.
    Patch(Row),
    /// No row.
    Delete,
}

/// The end of all rows that somebody owns, but one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OwnedDelete {
    /// Which model.
    #[serde(skip)]
    pub model: &'static str,
    /// Value of the model's owner column.
    pub owner: String,
    /// Key of the row that stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except: Option<String>,
}

/// Changes by model and key; the last write per key wins. What `delete_owned` says comes before all of them:
/// rows that were put earlier are taken out of the changes by it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    models: BTreeMap<&'static str, BTreeMap<String, RowChange>>,
    owned: Vec<OwnedDelete>,
}

impl Changes {
    /// Writes a whole row. `row` must serialize to an object with the columns of the model.
    pub fn put(&mut self, model: &'static str, id: &str, row: &impl Serialize) {
        let row = match serde_json::to_value(row) {
            Ok(Value::Object(row)) => row,
            other => unreachable!("a row of {model} is a struct of plain values: {other:?}"),
        };
        self.model(model).insert(id.to_owned(), RowChange::Put(row));
    }

    /// Changes some columns of a row.
    pub fn patch(&mut self, model: &'static str, id: &str, columns: Value) {
        let Value::Object(columns) = columns else {
            unreachable!("a patch of {model} is an object")
        };
        match self.model(model).get_mut(id) {
            Some(RowChange::Put(row) | RowChange::Patch(row)) => row.extend(columns),
            Some(RowChange::Delete) => {}
            None => {
                self.model(model)
                    .insert(id.to_owned(), RowChange::Patch(columns));
            }
        }
    }

    /// Removes a row.
    pub fn delete(&mut self, model: &'static str, id: &str) {
        self.model(model).insert(id.to_owned(), RowChange::Delete);
    }

    /// Removes every row of a model whose column `column` is `owner`, but the one with the key `except`.
    pub fn delete_owned(
        &mut self,
        model: &'static str,
        column: &str,
        owner: &str,
        except: Option<&str>,
    ) {
        for (key, change) in self.model(model) {
            let is_theirs = matches!(change, RowChange::Put(row) if row.get(column).and_then(Value::as_str) == Some(owner));
            if is_theirs && except != Some(key) {
                *change = RowChange::Delete;
            }
        }
        self.owned.push(OwnedDelete {
            model,
            owner: owner.to_owned(),
            except: except.map(str::to_owned),
        });
    }

    /// What `delete_owned` said, in order; to be done before the changes of single rows.
    pub fn take_owned(&mut self) -> Vec<OwnedDelete> {
        std::mem::take(&mut self.owned)
    }

    /// Every change of a single row: model, key, change.
    pub fn into_rows(self) -> impl Iterator<Item = (&'static str, String, RowChange)> {
        self.models.into_iter().flat_map(|(model, rows)| {
            rows.into_iter()
                .map(move |(id, change)| (model, id, change))
        })
    }

    fn model(&mut self, model: &'static str) -> &mut BTreeMap<String, RowChange> {
        self.models.entry(model).or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folded(fold: impl FnOnce(&mut Changes)) -> Vec<(&'static str, String, RowChange)> {
        let mut changes = Changes::default();
        fold(&mut changes);
        changes.into_rows().collect()
    }

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_patch_completes_what_came_before() {
        let got = folded(|c| {
            c.put(
                "users",
                "1",
                &json!({"id": "1", "name": "a", "tier": "public"}),
            );
            c.patch("users", "1", json!({"name": "b"}));
            c.patch("users", "2", json!({"name": "c"}));
            c.patch("users", "2", json!({"tier": "beta"}));
        });
        assert_eq!(
            got,
            vec![
                (
                    "users",
                    "1".into(),
                    RowChange::Put(row(json!({"id": "1", "name": "b", "tier": "public"})))
                ),
                (
                    "users",
                    "2".into(),
                    RowChange::Patch(row(json!({"name": "c", "tier": "beta"})))
                ),
            ]
        );
    }

    #[test]
    fn owned_rows_end_where_they_stand_in_the_order_of_events() {
        let row_of = |id: &str, owner: &str| json!({"id": id, "owner": owner});
        let mut changes = Changes::default();
        for id in ["early", "kept"] {
            changes.put("sessions", id, &row_of(id, "u1"));
        }
        changes.put("sessions", "foreign", &row_of("foreign", "u2"));
        changes.delete_owned("sessions", "owner", "u1", Some("kept"));
        changes.put("sessions", "late", &row_of("late", "u1"));
        let owned = changes.take_owned();
        assert_eq!(
            serde_json::to_value(&owned).unwrap(),
            json!([{"owner": "u1", "except": "kept"}])
        );
        let rows: Vec<_> = changes
            .into_rows()
            .map(|(_, key, change)| (key, change == RowChange::Delete))
            .collect();
        assert_eq!(
            rows,
            [
                ("early", true),
                ("foreign", false),
                ("kept", false),
                ("late", false)
            ]
            .map(|(key, gone)| (key.to_owned(), gone))
        );
    }

    #[test]
    fn a_deleted_row_comes_back_only_as_a_whole() {
        let got = folded(|c| {
            c.delete("users", "1");
            c.patch("users", "1", json!({"name": "b"}));
            c.delete("users", "2");
            c.put("users", "2", &json!({"id": "2"}));
        });
        assert_eq!(
            got,
            vec![
                ("users", "1".into(), RowChange::Delete),
                ("users", "2".into(), RowChange::Put(row(json!({"id": "2"}))))
            ]
        );
    }
}
