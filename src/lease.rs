//! Leases: what one node does at a time. A row says who, until when, and with which fence: whatever the holder writes
//! names its fence, so that one who was away for too long writes nothing any more. No session of the database is held,
//! so a pooler in transaction mode works.

use std::time::Duration;

use sqlx::PgPool;

/// A lease that is not renewed for this long is free for others.
pub const HELD_FOR: Duration = Duration::from_secs(3);
/// How often it is renewed, and how often others look whether it is free: somebody has it again 4 s after its holder died.
pub const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// A lease as one node asks for it.
pub struct Lease {
    pool: PgPool,
    name: &'static str,
    holder: String,
}

impl Lease {
    /// The lease `name` for a node.
    pub fn new(pool: PgPool, name: &'static str, holder: &str) -> Self {
        Self {
            pool,
            name,
            holder: holder.to_owned(),
        }
    }

    /// Takes or renews it; the fence if this node has it now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn take(&self) -> Result<Option<Held>, sqlx::Error> {
        let fence: Option<i64> = sqlx::query_scalar(
            "insert into followers.leases as l (name, holder, fence, expires_at)
             values ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
             on conflict (name) do update set
                 holder = excluded.holder,
                 fence = l.fence + (l.holder <> excluded.holder)::integer,
                 expires_at = excluded.expires_at
             where l.holder = excluded.holder or l.expires_at < clock_timestamp()
             returning fence",
        )
        .bind(self.name)
        .bind(&self.holder)
        .bind(HELD_FOR.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        let name = self.name;
        Ok(fence.map(|fence| Held { name, fence }))
    }

    /// Lets go of it, so that another node need not wait for its end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn release(&self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update followers.leases set expires_at = clock_timestamp() where name = $1 and holder = $2",
        )
        .bind(self.name)
        .bind(&self.holder)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// A lease that this node had when it last looked.
pub struct Held {
    /// Which lease.
    pub name: &'static str,
    /// What a write has to name.
    pub fence: i64,
}
