//! The list of people that admins see: searched, filtered and sorted by what is known of a person, and by nothing else.
//! What is looked for travels beside the SQL, never in it.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, QueryBuilder};

use super::UserRow;

/// Something that is known of a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    name: &'static str,
    sql: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Bool,
    Time,
}

const fn column(name: &'static str, sql: &'static str, kind: Kind) -> Column {
    Column { name, sql, kind }
}

const COLUMNS: [Column; 14] = [
    column("id", "id", Kind::Text),
    column("email", "email", Kind::Text),
    column("emailVerified", "email_verified", Kind::Bool),
    column("name", "name", Kind::Text),
    column("image", "image", Kind::Text),
    column("locale", "locale", Kind::Text),
    column("role", "role", Kind::Text),
    column("accessTier", "tier", Kind::Text),
    column("banned", "banned", Kind::Bool),
    column("banReason", "ban_reason", Kind::Text),
    column("banExpires", "ban_expires", Kind::Time),
    column("twoFactorEnabled", "two_factor_enabled", Kind::Bool),
    column("createdAt", "created_at", Kind::Time),
    column("updatedAt", "updated_at", Kind::Time),
];

impl Column {
    /// By its name in requests.
    pub fn named(name: &str) -> Option<Self> {
        COLUMNS.into_iter().find(|column| column.name == name)
    }
}

/// How a column is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    /// With one value: `=`, `<>`, `<`, `<=`, `>` or `>=`.
    Sql(&'static str),
    /// One of several values.
    In,
    /// None of them.
    NotIn,
    /// The text stands somewhere in it, in letters of either case.
    Contains,
    /// It begins with the text.
    StartsWith,
    /// It ends with the text.
    EndsWith,
}

impl Comparison {
    /// Every name in requests.
    pub const NAMES: [&'static str; 11] = [
        "eq",
        "ne",
        "lt",
        "lte",
        "gt",
        "gte",
        "in",
        "not_in",
        "contains",
        "starts_with",
        "ends_with",
    ];

    /// By its name in requests.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Sql("="),
            "ne" => Self::Sql("<>"),
            "lt" => Self::Sql("<"),
            "lte" => Self::Sql("<="),
            "gt" => Self::Sql(">"),
            "gte" => Self::Sql(">="),
            "in" => Self::In,
            "not_in" => Self::NotIn,
            "contains" => Self::Contains,
            "starts_with" => Self::StartsWith,
            "ends_with" => Self::EndsWith,
            _ => return None,
        })
    }
}

/// Something that must be true of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    column: Column,
    comparison: Comparison,
    values: Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Texts(Vec<String>),
    Bools(Vec<bool>),
    Times(Vec<DateTime<Utc>>),
}

impl Condition {
    /// `None` if the column cannot be compared like that, or not with these values.
    pub fn new(column: Column, comparison: Comparison, values: &[String]) -> Option<Self> {
        let many = matches!(comparison, Comparison::In | Comparison::NotIn);
        let pattern = matches!(
            comparison,
            Comparison::Contains | Comparison::StartsWith | Comparison::EndsWith
        );
        if !many && values.len() != 1 || pattern && column.kind != Kind::Text {
            return None;
        }
        let values = values.iter();
        let values = match column.kind {
            // No text in the database holds a NUL, and none can be asked for.
            Kind::Text => Values::Texts(
                values
                    .map(|text| (!text.contains('\0')).then(|| text.clone()))
                    .collect::<Option<_>>()?,
            ),
            Kind::Bool => Values::Bools(
                values
                    .map(|text| text.parse().ok())
                    .collect::<Option<_>>()?,
            ),
            Kind::Time => Values::Times(
                values
                    .map(|text| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc()))
                    .collect::<Option<_>>()?,
            ),
        };
        Some(Self {
            column,
            comparison,
            values,
        })
    }

    fn push(&self, query: &mut QueryBuilder<'_, Postgres>) {
        query.push(self.column.sql);
        let around = match self.comparison {
            Comparison::Sql(operator) => {
                query.push(format!(" {operator} any ("));
                None
            }
            Comparison::In => {
                query.push(" = any (");
                None
            }
            Comparison::NotIn => {
                query.push(" <> all (");
                None
            }
            Comparison::Contains => Some(("%", "%")),
            Comparison::StartsWith => Some(("", "%")),
            Comparison::EndsWith => Some(("%", "")),
        };
        if let (Some((before, after)), Values::Texts(texts)) = (around, &self.values) {
            query.push(" ilike ");
            query.push_bind(format!("{before}{}{after}", escaped(&texts[0])));
            return;
        }
        match &self.values {
            Values::Texts(texts) => query.push_bind(texts.clone()),
            Values::Bools(bools) => query.push_bind(bools.clone()),
            Values::Times(times) => query.push_bind(times.clone()),
        };
        query.push(")");
    }
}

/// A text in which no character of a pattern means anything.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('%', "\\%")
        .replace('_', "\\_")
}

/// Which people are asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// All of it must be true of them.
    pub conditions: Vec<Condition>,
    /// By what they are sorted, and whether the other way round; by default in the order in which they came.
    pub sort: Option<(Column, bool)>,
    /// At most so many.
    pub limit: i64,
    /// Without so many of the first.
    pub offset: i64,
}

/// A person, and how many are asked for with them.
#[derive(sqlx::FromRow)]
struct Counted {
    #[sqlx(flatten)]
    user: UserRow,
    total: i64,
}

/// Some of the people who are asked for, and how many there are of them.
///
/// # Errors
/// When the database does not answer.
pub async fn page(pool: &PgPool, asked: &Asked) -> Result<(Vec<UserRow>, i64), sqlx::Error> {
    let mut query = QueryBuilder::new(
        "select id, email, email_verified, name, image, locale, role, tier,
                banned, ban_reason, ban_expires, two_factor_enabled, created_at, updated_at,
                (select count(*) from read.users",
    );
    push_conditions(&mut query, asked);
    query.push(") as total from read.users");
    push_conditions(&mut query, asked);
    match asked.sort {
        // As an index has it, from its end.
        None => query.push(" order by created_at, id desc"),
        Some((column, descending)) => {
            let direction = if descending { " desc" } else { "" };
            query.push(format!(" order by {}{direction}, id", column.sql))
        }
    };
    query.push(" limit ").push_bind(asked.limit);
    query.push(" offset ").push_bind(asked.offset);
    let people: Vec<Counted> = query.build_query_as().fetch_all(pool).await?;
    let total = match people.first() {
        Some(person) => person.total,
        None => {
            let mut query = QueryBuilder::new("select count(*) from read.users");
            push_conditions(&mut query, asked);
            query.build_query_scalar().fetch_one(pool).await?
        }
    };
    Ok((
        people.into_iter().map(|person| person.user).collect(),
        total,
    ))
}

fn push_conditions(query: &mut QueryBuilder<'_, Postgres>, asked: &Asked) {
    for (n, condition) in asked.conditions.iter().enumerate() {
        query.push(if n == 0 { " where " } else { " and " });
        condition.push(query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(column: &str, comparison: &str, values: &[&str]) -> Option<Condition> {
        let values: Vec<String> = values.iter().map(|text| (*text).to_owned()).collect();
        Condition::new(
            Column::named(column).unwrap(),
            Comparison::named(comparison).unwrap(),
            &values,
        )
    }

    #[test]
    fn what_is_not_shown_of_a_person_is_no_column() {
        for name in [
            "",
            "password",
            "email_verified",
            "id; drop table read.users",
            "EMAIL",
        ] {
            assert_eq!(Column::named(name), None, "{name}");
        }
    }

    #[test]
    fn every_comparison_has_its_name() {
        assert!(
            Comparison::NAMES
                .iter()
                .all(|name| Comparison::named(name).is_some())
        );
        assert_eq!(Comparison::named("like"), None);
    }

    #[test]
    fn values_must_fit_their_column() {
        for (column, comparison, values) in [
            ("email", "eq", vec![]),
            ("email", "eq", vec!["a", "b"]),
            ("email", "eq", vec!["a\0"]),
            ("banned", "eq", vec!["1"]),
            ("banned", "contains", vec!["t"]),
            ("createdAt", "gt", vec!["yesterday"]),
            ("createdAt", "starts_with", vec!["2026"]),
        ] {
            assert_eq!(
                condition(column, comparison, &values),
                None,
                "{column} {comparison}"
            );
        }
        assert!(condition("email", "in", &[]).is_some());
        assert!(condition("banned", "ne", &["true"]).is_some());
        assert!(condition("createdAt", "lte", &["2026-01-02T03:04:05.678Z"]).is_some());
    }

    #[test]
    fn what_is_looked_for_stands_beside_the_sql_and_is_no_pattern() {
        let mut query = QueryBuilder::new("");
        condition("name", "contains", &["50%_\\' or true"])
            .unwrap()
            .push(&mut query);
        assert_eq!(query.sql(), "name ilike $1");
        assert_eq!(escaped("50%_\\"), "50\\%\\_\\\\");
    }
}
