-- Read model `sessions`: live sessions by the hash of their token. Inline, disposable.

create table read.sessions (
    id         text        not null,
    token_hash text        not null,
    user_id    text        not null,
    remembered boolean     not null,
    ip_address text        not null,
    user_agent text        not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    expires_at timestamptz not null,
    constraint sessions_pkey primary key (id)
);
create unique index sessions_token_hash_key on read.sessions (token_hash);
create index sessions_user_id_idx on read.sessions (user_id);

create function read.apply_sessions(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.sessions where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
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
