-- A sign-in costs little more than its hash: fewer statements, and updates that touch no index.

-- Every try and every counted request moves these times, and with an index over them no such update can stay on its
-- page. They are only asked for when what is over is forgotten, now and then.
drop index attempts_checking_since_idx;
drop index rate_limits_allowed_at_idx;
alter table attempts set (fillfactor = 50);
alter table rate_limits set (fillfactor = 50);

-- As before, in one statement for each budget where none refuses.
create or replace function take_attempt(
    p_keys          bytea[],
    p_limits        integer[],
    p_window_secs   double precision,
    p_checking_secs double precision,
    p_now           timestamptz,
    out admitted    boolean,
    out refused_by  integer,
    out wait_secs   double precision
) language plpgsql as $$
declare
    moment       timestamptz := coalesce(p_now, clock_timestamp());
    window_start timestamptz := moment - make_interval(secs => p_window_secs);
    died_before  timestamptz := moment - make_interval(secs => p_checking_secs);
    n            integer;
    locked_until timestamptz;
    taken        bytea[] := '{}';
begin
    -- Nobody waits for the disk: what a power cut takes back is a few tries of the last moment.
    perform set_config('synchronous_commit', 'off', true);
    admitted := true;
    for n in select k.n from unnest(p_keys) with ordinality k (key, n) order by k.key loop
        insert into attempts as a (key, failed_at, checking, checking_since, locks)
        values (p_keys[n], '{}', 1, moment, 0)
        on conflict (key) do update set
            checking = case when a.checking_since > died_before then a.checking else 0 end + 1,
            checking_since = moment
        where (a.locked_until > moment) is not true
          and (select count(*) from unnest(a.failed_at) f where f > window_start)
              + case when a.checking_since > died_before then a.checking else 0 end < p_limits[n];
        if found then
            taken := taken || p_keys[n];
            continue;
        end if;
        admitted := false;
        -- The refused row is locked by now, so it is still as it was.
        select a.locked_until into locked_until from attempts a where a.key = p_keys[n];
        if locked_until > moment then
            refused_by := n;
            wait_secs := greatest(wait_secs, extract(epoch from locked_until - moment));
        else
            refused_by := coalesce(refused_by, n);
        end if;
    end loop;
    if not admitted then
        update attempts set checking = checking - 1 where key = any (taken);
    end if;
end $$;

-- As before, in one statement for each budget of a try that did not fail.
create or replace function settle_attempt(
    p_keys        bytea[],
    p_limits      integer[],
    p_window_secs double precision,
    p_lock_secs   double precision[],
    p_quiet_secs  double precision,
    p_outcome     text,
    p_cleared     boolean[],
    p_now         timestamptz,
    out locked    timestamptz[]
) language plpgsql as $$
declare
    moment timestamptz := coalesce(p_now, clock_timestamp());
    n      integer;
    budget attempts;
    fresh  boolean;
begin
    perform set_config('synchronous_commit', 'off', true);
    locked := array_fill(null::timestamptz, array[cardinality(p_keys)]);
    for n in select k.n from unnest(p_keys) with ordinality k (key, n) order by k.key loop
        if p_outcome <> 'failed' then
            fresh := p_outcome = 'good' and p_cleared[n];
            update attempts set
                checking = greatest(checking - 1, 0),
                failed_at = case when fresh then '{}' else failed_at end,
                locked_until = case when fresh then null else locked_until end,
                locks = case when fresh then 0 else locks end
            where key = p_keys[n];
            continue;
        end if;
        select * into budget from attempts where key = p_keys[n] for update;
        continue when not found;
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
        update attempts set (failed_at, checking, locked_until, locks)
                          = (budget.failed_at, greatest(budget.checking - 1, 0), budget.locked_until, budget.locks)
        where key = p_keys[n];
    end loop;
end $$;

-- As before, but for the calls of the read models.
create or replace function append(
    -- One entry per command, in order.
    p_stream_type text[],
    p_stream_id   text[],
    p_expected    bigint[],   -- version of the stream that the command has seen
    p_version     bigint[],   -- version that it leaves
    p_subject     text[],     -- whose data key sealed its personal data; null: none was sealed
    -- One entry per event; p_command points into the arrays above (from 1).
    p_command       integer[],
    p_sequence      bigint[],
    p_event_type    text[],
    p_event_version text[],
    p_payload       text[],
    p_metadata      text[],
    p_event_id      uuid[],
    -- One entry per read model: its name, and an object of `put`, `patch` and `delete`, each an array of
    -- rows with `command`.
    p_model text[],
    p_rows  text[],
    -- What few commands have: arrays of objects by name, each with `command`.
    p_more jsonb,
    -- Where the log ended before; who lost, and why.
    out head    bigint,
    out losers  integer[],
    out reasons text[]
) language plpgsql as $$
declare
    winners integer[];
    work    jsonb;
    puts    jsonb;
    patches jsonb;
    deletes jsonb;
begin
    perform pg_advisory_xact_lock(7165746300);
    select coalesce(max(e.position), 0) into head from events e;

    -- Preconditions, set-wise; most commands have none but the version of their stream. The first that is
    -- lost is the one that is told.
    losers := '{}';
    reasons := '{}';
    if array_remove(p_subject, null) <> '{}' then
        select losers || array_agg(c.n::integer), reasons || array_agg('data_key'::text) into losers, reasons
        from unnest(p_subject) with ordinality c (subject, n)
        where c.subject is not null
          -- Nothing is added about somebody whose account is closed, while their key waits for its destruction.
          and (exists (select from read.erasures r where r.id = c.subject)
               or not exists (select from custody k where k.kind = 'data_key' and k.owner = c.subject)
              and not exists (select from jsonb_to_recordset(p_more -> 'custody_put') as t (command integer, kind text, owner text)
                              where t.command = c.n and t.kind = 'data_key' and t.owner = c.subject));
    end if;
    if p_more ?| '{claims_take,custody_seen,idempotency,tokens_use,admin_leaves}' then
        select losers || array_agg(lost.n), reasons || array_agg(lost.reason) into losers, reasons
        from (
            select distinct on (n) n, reason from (
                select t.command as n, 1 as rank, 'claim:' || t.scope as reason
                from jsonb_to_recordset(p_more -> 'claims_take') as t (command integer, scope text, key_hash text, owner text)
                join claims c on c.scope = t.scope and c.key_hash = decode(t.key_hash, 'hex')
                where c.owner <> t.owner
                union all
                select t.command, 2, 'custody'
                from jsonb_to_recordset(p_more -> 'custody_seen') as t (command integer, kind text, owner text, id text, version bigint)
                left join custody k on k.kind = t.kind and k.owner = t.owner and k.id = t.id
                where k.version is distinct from t.version
                union all
                select t.command, 3, 'idempotency_key'
                from jsonb_to_recordset(p_more -> 'idempotency') as t (command integer, key_hash text)
                join idempotency_keys i on i.key_hash = decode(t.key_hash, 'hex')
                union all
                select t.command, 4, 'token'
                from jsonb_to_recordset(p_more -> 'tokens_use') as t (command integer, hash text, user_id text, at timestamptz)
                where not exists (select from tokens k where k.hash = decode(t.hash, 'hex') and k.user_id = t.user_id and k.expires_at > t.at)
                union all
                select t.command, 5, 'last_admin'
                from jsonb_to_recordset(p_more -> 'admin_leaves') as t (command integer, user_id text)
                where exists (select from read.users u
                              where 'admin' = any (string_to_array(u.role, ',')) and not u.banned and u.id = t.user_id)
                  and not exists (select from read.users u
                                  where 'admin' = any (string_to_array(u.role, ',')) and not u.banned and u.id <> t.user_id)
            ) found where n <> all (losers) order by n, rank
        ) lost;
    end if;
    if losers <> '{}' then
        -- Who has not seen the stream as it is may be wrong about everything else.
        select array_agg(l.n), array_agg(case when coalesce(s.version, 0) = p_expected[l.n] then l.reason else 'stream_version' end)
        into losers, reasons
        from unnest(losers, reasons) l (n, reason)
        left join streams s on s.type = p_stream_type[l.n] and s.id = p_stream_id[l.n];
    end if;

    -- The version of a stream is compared and set at once.
    with longer as (
        update streams s set version = c.version
        from unnest(p_stream_type, p_stream_id, p_expected, p_version) with ordinality c (type, id, expected, version, n)
        where s.type = c.type and s.id = c.id and s.version = c.expected and c.n <> all (losers)
        returning c.n::integer as n
    )
    select coalesce(array_agg(n), '{}') into winners from longer;
    if 0 = any (p_expected) then
        with longer as (
            insert into streams as s (type, id, version)
            select c.type, c.id, c.version
            from unnest(p_stream_type, p_stream_id, p_expected, p_version) with ordinality c (type, id, expected, version, n)
            where c.expected = 0 and c.n <> all (losers)
            on conflict do nothing
            returning type, id
        )
        select winners || array_agg(c.n::integer) into winners
        from unnest(p_stream_type, p_stream_id) with ordinality c (type, id, n) join longer l on l.type = c.type and l.id = c.id;
    end if;
    if cardinality(winners) + cardinality(losers) < cardinality(p_expected) then
        select losers || array_agg(n), reasons || array_agg('stream_version'::text) into losers, reasons
        from generate_subscripts(p_expected, 1) n
        where n <> all (winners || losers);
    end if;

    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
    select head + row_number() over (order by e.n), p_stream_type[e.command], p_stream_id[e.command], e.sequence,
           e.event_type, e.event_version, e.payload::jsonb, e.metadata::jsonb, e.event_id
    from unnest(p_command, p_sequence, p_event_type, p_event_version, p_payload, p_metadata, p_event_id)
         with ordinality e (command, sequence, event_type, event_version, payload, metadata, event_id, n)
    where e.command <> all (losers);

    for i in 1 .. cardinality(p_model) loop
        work := p_rows[i]::jsonb;
        if losers <> '{}' then
            work := (select jsonb_object_agg(o.key, (select jsonb_agg(r) from jsonb_array_elements(o.value) r
                                                     where (r ->> 'command')::integer <> all (losers)))
                     from jsonb_each(work) o);
        end if;
        -- Each model has one function of its own. Those that every sign-in writes are called by name: what is called
        -- by a text is parsed and planned anew each time.
        puts := nullif(work -> 'put', 'null');
        patches := nullif(work -> 'patch', 'null');
        deletes := nullif(work -> 'delete', 'null');
        case p_model[i]
            when 'sessions' then perform read.apply_sessions(puts, patches, deletes);
            when 'devices' then perform read.apply_devices(puts, patches, deletes);
            when 'security_events' then perform read.apply_security_events(puts, patches, deletes);
            else execute format('select read.%I($1, $2, $3)', 'apply_' || p_model[i]) using puts, patches, deletes;
        end case;
    end loop;
    if p_more <> '{}' then
        perform append_more(head, losers, p_command, p_more);
    end if;
end $$;
