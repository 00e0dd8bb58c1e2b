-- Counters of requests, shared by all nodes. Ephemeral: neither log nor read model, never rebuilt.
-- `key` is a hash of client address and path.

create unlogged table rate_limits (
    key        bytea       not null,
    count      integer     not null,
    allowed    boolean     not null,
    allowed_at timestamptz not null,
    constraint rate_limits_pkey primary key (key)
);
create index rate_limits_allowed_at_idx on rate_limits (allowed_at);
