//! Looks at whole tables: what is in them, and what changed.

use std::collections::BTreeMap;

use sqlx::PgPool;

/// All rows of all tables, as JSON text, by table.
pub type Snapshot = BTreeMap<String, Vec<String>>;

/// Everything that is in the database.
pub async fn snapshot(admin: &PgPool) -> Snapshot {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname in ('public', 'read') and tablename not like 'events\\_%' order by 1",
    )
    .fetch_all(admin)
    .await
    .unwrap();
    let mut rows = BTreeMap::new();
    for table in tables {
        let query = format!("select to_jsonb(t)::text from {table} t order by 1");
        rows.insert(
            table,
            sqlx::query_scalar(&query).fetch_all(admin).await.unwrap(),
        );
    }
    for table in [
        "public.events",
        "public.claims",
        "public.custody",
        "public.effects",
        "public.idempotency_keys",
        "read.users",
        "read.sessions",
    ] {
        assert!(rows.contains_key(table), "{table} is looked at");
    }
    rows
}

/// The tables whose rows are not the same.
pub fn changed(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    before
        .keys()
        .filter(|table| before[*table] != after[*table])
        .cloned()
        .collect()
}

/// A number that a query gives.
pub async fn number(admin: &PgPool, query: &str) -> i64 {
    sqlx::query_scalar(query).fetch_one(admin).await.unwrap()
}

/// Asserts that positions and the sequences of each stream have no hole, and that `streams` agrees.
pub async fn assert_dense(admin: &PgPool) {
    let holes = number(
        admin,
        "select coalesce(max(position), 0) - count(*) + coalesce(min(position), 1) - 1 from events",
    )
    .await;
    assert_eq!(holes, 0, "positions are dense from 1");
    let uneven = number(
        admin,
        "select count(*) from (
             select aggregate_type as type, aggregate_id as id, count(*) as n, min(sequence) as first, max(sequence) as last
             from events group by 1, 2) e
         full join streams s using (type, id)
         where e.first is distinct from 1 or e.n is distinct from e.last or s.version is distinct from e.last",
    )
    .await;
    assert_eq!(uneven, 0, "streams are dense from 1 and know their length");
}
