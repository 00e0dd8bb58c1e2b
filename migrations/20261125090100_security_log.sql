-- Read models of the security log, of the devices that people sign in from, and of closed accounts; and the ways
-- in which all sessions of somebody can end at once. Inline, disposable.

create table read.security_events (
    id         text        not null,
    user_id    text        not null,
    event_type text        not null,
    ip_address text        not null,
    user_agent text        not null,
    metadata   jsonb       not null,
    created_at timestamptz not null,
    constraint security_events_pkey primary key (id)
);
create index security_events_user_id_idx on read.security_events (user_id, created_at desc, id desc);
create index security_events_created_at_idx on read.security_events (created_at desc, id desc);

create function read.apply_security_events(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.security_events where user_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.security_events (id, user_id, event_type, ip_address, user_agent, metadata, created_at)
        select id, user_id, event_type, ip_address, user_agent, metadata, created_at
        from jsonb_populate_recordset(null::read.security_events, puts);
    end if;
end $$;

create table read.devices (
    id              text        not null,
    user_id         text        not null,
    last_sign_in_at timestamptz not null,
    constraint devices_pkey primary key (id)
);
create index devices_user_id_idx on read.devices (user_id);

create function read.apply_devices(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.devices where user_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.devices (id, user_id, last_sign_in_at)
        select id, user_id, last_sign_in_at from jsonb_populate_recordset(null::read.devices, puts)
        on conflict (id) do update set last_sign_in_at = excluded.last_sign_in_at;
    end if;
end $$;

create table read.erasures (
    id           text        not null,
    reason       text        not null,
    requested_at timestamptz not null,
    constraint erasures_pkey primary key (id)
);

create function read.apply_erasures(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if puts is not null then
        insert into read.erasures (id, reason, requested_at)
        select id, reason, requested_at from jsonb_populate_recordset(null::read.erasures, puts)
        on conflict (id) do nothing;
    end if;
end $$;

-- As before, and a delete may name an owner: then all of their sessions end, but the one excepted.
create or replace function read.apply_sessions(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.sessions where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.sessions s using jsonb_array_elements(deletes) d
        where s.user_id = d ->> 'owner' and s.id is distinct from d ->> 'except';
    end if;
    if puts is not null then
        insert into read.sessions (id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at)
        select id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at
        from jsonb_populate_recordset(null::read.sessions, puts)
        on conflict (id) do update set
            (token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at)
            = (excluded.token_hash, excluded.user_id, excluded.remembered, excluded.ip_address,
               excluded.user_agent, excluded.created_at, excluded.updated_at, excluded.expires_at);
    end if;
    if patches is not null then
        -- Only what an event can change: a session keeps its token, person and client for life.
        update read.sessions old set
            updated_at = coalesce(patch.updated_at, old.updated_at),
            expires_at = coalesce(patch.expires_at, old.expires_at)
        from jsonb_to_recordset(patches) as patch (id text, updated_at timestamptz, expires_at timestamptz)
        where old.id = patch.id;
    end if;
end $$;
