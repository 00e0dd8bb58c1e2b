-- What the doors keep between requests: tokens that were mailed, tries that failed, and what was tried.
-- Ephemeral: neither log nor read model, never rebuilt. All of it that is about a person goes with them.

-- Tokens that are good once. Known by the SHA-256 of kind and token only (S-26); redeemed by the append that
-- does what the token allows, so two redemptions cannot both win and a crash burns nothing (S-29).
create table tokens (
    hash       bytea       not null,
    kind       text        not null,
    user_id    text        not null,
    -- What the token is about, sealed under the person's data key; null if its kind says it all.
    sealed     bytea,
    expires_at timestamptz not null,
    constraint tokens_pkey primary key (hash)
);
create index tokens_user_id_idx on tokens (user_id, kind);
create index tokens_expires_at_idx on tokens (expires_at);

-- Budgets of tries, by a keyed hash of whom or where they are about. A try is counted before anything is
-- checked (S-12); it is given back when it was good, or when it could not be checked.
create table attempts (
    key            bytea         not null,
    -- When tries failed, oldest first; those older than the window do not count any more.
    failed_at      timestamptz[] not null,
    -- Tries that are being checked, and when the last one began: a node that dies takes its tries with it.
    checking       integer       not null,
    checking_since timestamptz   not null,
    -- Until when nothing is checked, and how often in a row it came to that.
    locked_until   timestamptz,
    locks          integer       not null,
    constraint attempts_pkey primary key (key)
);
create index attempts_checking_since_idx on attempts (checking_since);

-- Takes a try from each budget, or from none. Budgets are locked in the order of their keys, so two calls
-- never wait for each other. Times are the caller's, or the database's if it gives none.
create function take_attempt(
    p_keys          bytea[],
    p_limits        integer[],
    p_window_secs   double precision,
    -- A check that takes longer than this has died.
    p_checking_secs double precision,
    p_now           timestamptz,
    out admitted    boolean,
    -- Which budget refused it, from 1.
    out refused_by  integer,
    -- Seconds until that budget is open again; null if only tries that are being checked stand in the way.
    out wait_secs   double precision
) language plpgsql as $$
declare
    moment  timestamptz := coalesce(p_now, clock_timestamp());
    n   integer;
    budget attempts;
begin
    -- Nobody waits for the disk: what a power cut takes back is a few tries of the last moment.
    perform set_config('synchronous_commit', 'off', true);
    admitted := true;
    for n in select k.n from unnest(p_keys) with ordinality k (key, n) order by k.key loop
        insert into attempts (key, failed_at, checking, checking_since, locks)
        values (p_keys[n], '{}', 0, moment, 0)
        on conflict do nothing;
        select * into budget from attempts where key = p_keys[n] for update;
        if budget.locked_until > moment then
            admitted := false;
            refused_by := n;
            wait_secs := greatest(wait_secs, extract(epoch from budget.locked_until - moment));
        elsif (select count(*) from unnest(budget.failed_at) f where f > moment - make_interval(secs => p_window_secs))
              + (case when budget.checking_since > moment - make_interval(secs => p_checking_secs) then budget.checking else 0 end)
              >= p_limits[n] then
            admitted := false;
            refused_by := coalesce(refused_by, n);
        end if;
    end loop;
    if admitted then
        update attempts set
            checking = case when checking_since > moment - make_interval(secs => p_checking_secs) then checking else 0 end + 1,
            checking_since = moment
        where key = any (p_keys);
    end if;
end $$;

-- Settles a try that was taken.
create function settle_attempt(
    p_keys        bytea[],
    p_limits      integer[],
    p_window_secs double precision,
    -- Length of the first lock, which doubles with each further one, and of the longest.
    p_lock_secs   double precision[],
    -- How often in a row a budget was locked is forgotten after this long without a failure.
    p_quiet_secs  double precision,
    -- failed: it counts, and may lock. good: the budgets of p_cleared start afresh. withdrawn: it never was.
    p_outcome     text,
    p_cleared     boolean[],
    p_now         timestamptz,
    -- For each budget: until when this try has locked it; null if it has not.
    out locked    timestamptz[]
) language plpgsql as $$
declare
    moment  timestamptz := coalesce(p_now, clock_timestamp());
    n   integer;
    budget attempts;
begin
    perform set_config('synchronous_commit', 'off', true);
    locked := array_fill(null::timestamptz, array[cardinality(p_keys)]);
    for n in select k.n from unnest(p_keys) with ordinality k (key, n) order by k.key loop
        select * into budget from attempts where key = p_keys[n] for update;
        continue when not found;
        budget.checking := greatest(budget.checking - 1, 0);
        if p_outcome = 'good' and p_cleared[n] then
            budget.failed_at := '{}';
            budget.locked_until := null;
            budget.locks := 0;
        elsif p_outcome = 'failed' then
            if budget.failed_at[cardinality(budget.failed_at)] < moment - make_interval(secs => p_quiet_secs) then
                budget.locks := 0;
            end if;
            budget.failed_at := array(
                select f from unnest(budget.failed_at) f where f > moment - make_interval(secs => p_window_secs) order by f) || moment;
            if cardinality(budget.failed_at) >= p_limits[n] then
                budget.locked_until := moment + make_interval(secs => least(p_lock_secs[1] * 2 ^ least(budget.locks, 20), p_lock_secs[2]));
                budget.locks := budget.locks + 1;
                -- The last one stays, as the time of the last failure.
                budget.failed_at := array[moment];
                locked[n] := budget.locked_until;
            end if;
        end if;
        update attempts set (failed_at, checking, locked_until, locks)
                          = (budget.failed_at, budget.checking, budget.locked_until, budget.locks)
        where key = p_keys[n];
    end loop;
end $$;

-- What was tried at the doors and is no event: failed sign-ins, asked-for resets, locks of addresses without an
-- account. Bounded: a fixed number of lines for each bucket, and all of them for a limited time (I-11).
create table door_events (
    id         text        not null,
    -- A keyed hash of the address that was tried.
    bucket     bytea       not null,
    user_id    text,
    event_type text        not null,
    ip_address text        not null,
    user_agent text        not null,
    metadata   jsonb       not null,
    created_at timestamptz not null,
    constraint door_events_pkey primary key (id)
);
create index door_events_bucket_idx on door_events (bucket, created_at desc);
create index door_events_user_id_idx on door_events (user_id, created_at desc, id desc);
create index door_events_created_at_idx on door_events (created_at desc, id desc);
