//! `GET /list-users`: people, searched, filtered, sorted and in pages.

use axum::response::Response;
use projections::users::listing::{self, Asked, Column, Comparison, Condition};
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;

use super::words::MAY_NOT_LIST;
use super::{admin_of, done};
use crate::http::answers::Refusal;
use crate::http::request::Fields;
use crate::http::shapes::{UserJson, user_json};
use crate::http::web::Call;

/// People in one answer: when nobody says, and at most.
const PEOPLE: (i64, i64) = (100, 1000);

#[derive(Serialize)]
struct Page<'a> {
    users: Vec<UserJson<'a>>,
    total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
}

pub(super) async fn list_users(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let search = fields.optional_text("searchValue");
    let search_field = fields.optional_choice("searchField", &["email", "name"]);
    let search_operator =
        fields.optional_choice("searchOperator", &["contains", "starts_with", "ends_with"]);
    let sort = fields.optional_text("sortBy");
    let direction = fields.optional_choice("sortDirection", &["asc", "desc"]);
    let filter_field = fields.optional_text("filterField");
    let filter_operator = fields.optional_choice("filterOperator", &Comparison::NAMES);
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_LIST).await?;

    let limit = number(&fields, "limit").map(|limit| limit.min(PEOPLE.1));
    let offset = number(&fields, "offset");
    let values: Vec<String> =
        form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes())
            .filter(|(name, _)| name == "filterValue")
            .map(|(_, value)| value.into_owned())
            .collect();
    let asked = (|| {
        let condition = |column: &str, comparison: &str, values: &[String]| {
            Condition::new(
                Column::named(column)?,
                Comparison::named(comparison)?,
                values,
            )
        };
        let mut conditions = vec![];
        if let Some(search) = search.filter(|text| !text.is_empty()) {
            let column = search_field.unwrap_or("email");
            let comparison = search_operator.unwrap_or("contains");
            conditions.push(condition(column, comparison, &[search])?);
        }
        if !values.is_empty() {
            let column = filter_field.as_deref().unwrap_or("email");
            conditions.push(condition(column, filter_operator.unwrap_or("eq"), &values)?);
        }
        let sort = match sort.filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => Some((Column::named(&name)?, direction == Some("desc"))),
        };
        let asked = Asked {
            conditions,
            sort,
            limit: limit.unwrap_or(PEOPLE.0),
            offset: offset.unwrap_or(0),
        };
        (asked.limit > 0 && asked.offset >= 0).then_some(asked)
    })();
    // What cannot be asked for is true of nobody, as clients know it.
    let Some(asked) = asked else {
        return done(&call, &session, json!({"users": [], "total": 0})).await;
    };
    let (people, total) = listing::page(&call.app().pool, &asked).await?;
    let page = Page {
        users: people.iter().map(user_json).collect(),
        total,
        limit,
        offset,
    };
    done(&call, &session, page).await
}

/// A number of a query; zero, and what is no whole number, is none.
fn number(fields: &Fields, name: &str) -> Option<i64> {
    let text = fields.raw(name)?.as_str()?;
    text.trim().parse().ok().filter(|number| *number != 0)
}
