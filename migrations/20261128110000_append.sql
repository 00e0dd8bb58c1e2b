-- What a batch costs however small it is: a fifth of a batch of one is less, a twelfth of one of seventeen. One statement asks
-- for data keys, sessions and vaults; nothing is gathered about winners; positions are counted only where somebody lost.

create or replace function append(
    -- One entry per command, in order.
    p_stream_type text[],
    p_stream_id   text[],
    p_expected    bigint[],   -- version of the stream that the command has seen
    p_version     bigint[],   -- version that it leaves
    -- The same, or no entry at all where no command has one.
    p_subject     text[],     -- whose data key sealed its personal data; null: none was sealed
    p_session     text[],     -- session of somebody who is not banned that must not have ended; null: none
    p_session_of  text[],     -- whose it is
    p_vault       text[],     -- owner of the vault whose row must be as it was seen; null: none
    p_written_by  bigint[],   -- transaction that wrote the row; null: there was none
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
    out reasons text[],
    -- Of all that was written.
    out recorded_at timestamptz
) language plpgsql as $$
declare
    -- Who lost, as `command reason`, in the order in which it was asked.
    lost    text[] := '{}';
    -- Data keys that come with a command, as `command owner`.
    brought text[] := '{}';
    -- Streams that are longer now.
    longer  bigint := 0;
    changed bigint;
    work    jsonb;
    puts    jsonb;
    patches jsonb;
    deletes jsonb;
    called  boolean;
    -- What is only asked, above.
    asked   constant text[] := '{custody_seen,admin_leaves}';
begin
    -- In an expression, as `perform` makes a query of each call.
    called := pg_advisory_xact_lock(7165746300) is null;
    select e.position into head from events e order by e.position desc limit 1;
    head := coalesce(head, 0);
    recorded_at := clock_timestamp();

    -- Preconditions, set-wise; most commands have none but the version of their stream.
    losers := '{}';
    reasons := '{}';
    if p_more ? 'custody_put' then
        brought := array(
            select t.command || ' ' || t.owner
            from jsonb_to_recordset(p_more -> 'custody_put') as t (command integer, kind text, owner text)
            where t.kind = 'data_key');
    end if;
    if p_subject <> '{}' or p_session <> '{}' or p_vault <> '{}' then
        lost := array(
            select l.n || l.reason
            from (
                select c.n, case
                    when c.subject is not null
                     and (exists (select from read.erasures r where r.id = c.subject offset 0)
                          or not exists (select from custody k where k.kind = 'data_key' and k.owner = c.subject offset 0)
                         and c.n || ' ' || c.subject <> all (brought))
                    then ' data_key'
                    when c.session is not null
                     and not exists (select from read.sessions s join read.users u on u.id = s.user_id
                                     where s.id = c.session and s.user_id = c.session_of and not u.banned offset 0)
                    then ' session'
                    when c.owner is not null
                     and c.written_by is distinct from (select v.xmin::text::bigint from encryption_vaults v where v.user_id = c.owner)
                    then ' vault'
                end as reason
                from (
                    select *, case when vault is not null then set_config('app.current_user_id', vault, true) end as owner
                    from unnest(p_subject, p_session, p_session_of, p_vault, p_written_by)
                         with ordinality c (subject, session, session_of, vault, written_by, n) offset 0
                ) c offset 0
            ) l where l.reason is not null);
    end if;
    if p_more ?| '{claims_take,idempotency,tokens_use,admin_leaves}' then
        lost := lost || array(
            select l.n || ' ' || l.reason
            from (
                select t.command as n, 1 as rank, 'claim:' || t.scope as reason
                from jsonb_to_recordset(p_more -> 'claims_take') as t (command integer, scope text, key_hash text, owner text)
                join claims c on c.scope = t.scope and c.key_hash = decode(t.key_hash, 'hex')
                where c.owner <> t.owner
                union all
                select t.command, 2, 'idempotency_key'
                from jsonb_to_recordset(p_more -> 'idempotency') as t (command integer, key_hash text)
                join idempotency_keys i on i.key_hash = decode(t.key_hash, 'hex')
                union all
                select t.command, 3, 'token'
                from jsonb_to_recordset(p_more -> 'tokens_use') as t (command integer, hash text, user_id text, at timestamptz)
                where not exists (select from tokens k where k.hash = decode(t.hash, 'hex') and k.user_id = t.user_id and k.expires_at > t.at)
                union all
                select t.command, 4, 'last_admin'
                from jsonb_to_recordset(p_more -> 'admin_leaves') as t (command integer, user_id text)
                where exists (select from read.users u
                              where 'admin' = any (string_to_array(u.role, ',')) and not u.banned and u.id = t.user_id)
                  and not exists (select from read.users u
                                  where 'admin' = any (string_to_array(u.role, ',')) and not u.banned and u.id <> t.user_id)
            ) l order by l.rank);
    end if;
    if p_more ? 'custody_seen' then
        lost := lost || array(
            select t.command || ' custody'
            from jsonb_to_recordset(p_more -> 'custody_seen') as t (command integer, kind text, owner text, id text, version bigint)
            left join custody k on k.kind = t.kind and k.owner = t.owner and k.id = t.id
            where k.version is distinct from t.version);
    end if;
    if lost <> '{}' then
        -- The first that a command has lost is the one that is told; but who has not seen the stream as it is may be
        -- wrong about everything else.
        select array_agg(l.n), array_agg(case when coalesce(s.version, 0) = p_expected[l.n] then l.reason else 'stream_version' end)
        into losers, reasons
        from (
            select distinct on (1) split_part(l, ' ', 1)::integer as n, substr(l, strpos(l, ' ') + 1) as reason
            from unnest(lost) with ordinality t (l, rank)
            order by 1, rank
        ) l
        left join streams s on s.type = p_stream_type[l.n] and s.id = p_stream_id[l.n];
    end if;

    -- The version of a stream is compared and set at once.
    if 0 < any (p_expected) then
        update streams s set version = c.version
        from unnest(p_stream_type, p_stream_id, p_expected, p_version) with ordinality c (type, id, expected, version, n)
        where s.type = c.type and s.id = c.id and s.version = c.expected and c.n <> all (losers);
        get diagnostics longer = row_count;
    end if;
    if 0 = any (p_expected) then
        insert into streams (type, id, version)
        select p_stream_type[n], p_stream_id[n], p_version[n]
        from generate_subscripts(p_expected, 1) n
        where p_expected[n] = 0 and n <> all (losers)
        on conflict do nothing;
        get diagnostics changed = row_count;
        longer := longer + changed;
    end if;
    if longer + cardinality(losers) < cardinality(p_expected) then
        -- The others are those that this transaction has not written.
        select losers || array_agg(n), reasons || array_agg('stream_version'::text) into losers, reasons
        from generate_subscripts(p_expected, 1) n
        where n <> all (losers)
          and not exists (select from streams s where s.type = p_stream_type[n] and s.id = p_stream_id[n]
                          and s.xmin = pg_current_xact_id()::xid);
    end if;
    if losers <> '{}' then
        -- Positions are dense: only events that are written have one.
        select coalesce(array_agg(p_command[e] order by e), '{}'), array_agg(p_sequence[e] order by e),
               array_agg(p_event_type[e] order by e), array_agg(p_event_version[e] order by e),
               array_agg(p_payload[e] order by e), array_agg(p_metadata[e] order by e), array_agg(p_event_id[e] order by e)
        into p_command, p_sequence, p_event_type, p_event_version, p_payload, p_metadata, p_event_id
        from generate_subscripts(p_command, 1) e
        where p_command[e] <> all (losers);
    end if;

    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id,
                        recorded_at)
    select head + e.n, p_stream_type[e.command], p_stream_id[e.command], e.sequence,
           e.event_type, e.event_version, e.payload::jsonb, e.metadata::jsonb, e.event_id, append.recorded_at
    from unnest(p_command, p_sequence, p_event_type, p_event_version, p_payload, p_metadata, p_event_id)
         with ordinality e (command, sequence, event_type, event_version, payload, metadata, event_id, n);

    for i in 1 .. cardinality(p_model) loop
        work := p_rows[i]::jsonb;
        if losers <> '{}' then
            work := (select jsonb_object_agg(o.key, (select jsonb_agg(r) from jsonb_array_elements(o.value) r
                                                     where (r ->> 'command')::integer <> all (losers)))
                     from jsonb_each(work) o);
        end if;
        -- Each model has one function of its own. Those that every sign-in writes are called by name, as a text is
        -- parsed and planned anew each time.
        puts := nullif(work -> 'put', 'null');
        patches := nullif(work -> 'patch', 'null');
        deletes := nullif(work -> 'delete', 'null');
        case p_model[i]
            when 'sessions' then called := read.apply_sessions(puts, patches, deletes) is null;
            when 'devices' then called := read.apply_devices(puts, patches, deletes) is null;
            when 'security_events' then called := read.apply_security_events(puts, patches, deletes) is null;
            else execute format('select read.%I($1, $2, $3)', 'apply_' || p_model[i]) using puts, patches, deletes;
        end case;
    end loop;
    if p_more - asked <> '{}' then
        perform append_more(head, losers, p_command, p_more);
    end if;
end $$;
