-- What the further doors need: bans, second factors, accounts at other providers, passkeys and API keys. Inline,
-- disposable. Rows that exist get what a rebuild would give them: nothing of this has happened to anybody yet.

alter table read.sessions
    add column active_organization_id text,
    add column active_team_id         text,
    add column impersonated_by        text;

create or replace function read.apply_sessions(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.sessions where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.sessions s using jsonb_array_elements(deletes) d
        where s.user_id = d ->> 'owner' and s.id is distinct from d ->> 'except';
    end if;
    if puts is not null then
        insert into read.sessions (id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
                                   active_organization_id, active_team_id, impersonated_by)
        select id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
               active_organization_id, active_team_id, impersonated_by
        from jsonb_populate_recordset(null::read.sessions, puts)
        on conflict (id) do update set
            (token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
             active_organization_id, active_team_id, impersonated_by)
            = (excluded.token_hash, excluded.user_id, excluded.remembered, excluded.ip_address,
               excluded.user_agent, excluded.created_at, excluded.updated_at, excluded.expires_at,
               excluded.active_organization_id, excluded.active_team_id, excluded.impersonated_by);
    end if;
    if patches is not null then
        -- Only what an event can change: a session keeps its token, person and client for life.
        update read.sessions old set
            updated_at             = coalesce((patch ->> 'updated_at')::timestamptz, old.updated_at),
            expires_at             = coalesce((patch ->> 'expires_at')::timestamptz, old.expires_at),
            active_organization_id = case when patch ? 'active_organization_id' then patch ->> 'active_organization_id'
                                          else old.active_organization_id end,
            active_team_id         = case when patch ? 'active_team_id' then patch ->> 'active_team_id'
                                          else old.active_team_id end
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;
