-- When the person last showed which factor in a session: what a step-up asks for (S-60). Sessions that exist get what a
-- rebuild would give them: the factors that they began with.

alter table read.sessions
    add column first_factor_at  timestamptz,
    add column second_factor_at timestamptz;

update read.sessions s set
    first_factor_at  = s.created_at,
    second_factor_at = case when (e.payload -> 'started' ->> 'second_factor')::boolean then s.created_at end
from events e
where e.aggregate_type = 'session' and e.aggregate_id = s.id and e.event_type = 'session.started'
  -- Whoever came by their password has no method there.
  and coalesce(e.payload -> 'started' ->> 'method', 'password') not in ('session', 'impersonation');

create or replace function read.apply_sessions(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.sessions where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.sessions s using jsonb_array_elements(deletes) d
        where s.user_id = d ->> 'owner' and s.id is distinct from d ->> 'except';
    end if;
    if puts is not null then
        insert into read.sessions (id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
                                   active_organization_id, active_team_id, impersonated_by, first_factor_at, second_factor_at)
        select id, token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
               active_organization_id, active_team_id, impersonated_by, first_factor_at, second_factor_at
        from jsonb_populate_recordset(null::read.sessions, puts)
        on conflict (id) do update set
            (token_hash, user_id, remembered, ip_address, user_agent, created_at, updated_at, expires_at,
             active_organization_id, active_team_id, impersonated_by, first_factor_at, second_factor_at)
            = (excluded.token_hash, excluded.user_id, excluded.remembered, excluded.ip_address,
               excluded.user_agent, excluded.created_at, excluded.updated_at, excluded.expires_at,
               excluded.active_organization_id, excluded.active_team_id, excluded.impersonated_by,
               excluded.first_factor_at, excluded.second_factor_at);
    end if;
    if patches is not null then
        -- Only what an event can change: a session keeps its token, person and client for life.
        update read.sessions old set
            updated_at             = coalesce((patch ->> 'updated_at')::timestamptz, old.updated_at),
            expires_at             = coalesce((patch ->> 'expires_at')::timestamptz, old.expires_at),
            active_organization_id = case when patch ? 'active_organization_id' then patch ->> 'active_organization_id'
                                          else old.active_organization_id end,
            active_team_id         = case when patch ? 'active_team_id' then patch ->> 'active_team_id'
                                          else old.active_team_id end,
            first_factor_at        = coalesce((patch ->> 'first_factor_at')::timestamptz, old.first_factor_at),
            second_factor_at       = coalesce((patch ->> 'second_factor_at')::timestamptz, old.second_factor_at)
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;
