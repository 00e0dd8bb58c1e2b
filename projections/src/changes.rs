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

/// Changes by model and key; the last write per key wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    models: BTreeMap<&'static str, BTreeMap<String, RowChange>>,
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

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Every change: model, key, change.
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
