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

alter table read.users
    add column banned             boolean not null default false,
    add column ban_reason         text,
    add column ban_expires        timestamptz,
    add column two_factor_enabled boolean not null default false;

create or replace function read.apply_users(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.users where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.users (id, email, email_verified, name, image, locale, role, tier,
                                banned, ban_reason, ban_expires, two_factor_enabled, created_at, updated_at)
        select id, email, email_verified, name, image, locale, role, tier,
               banned, ban_reason, ban_expires, two_factor_enabled, created_at, updated_at
        from jsonb_populate_recordset(null::read.users, puts)
        on conflict (id) do update set
            (email, email_verified, name, image, locale, role, tier,
             banned, ban_reason, ban_expires, two_factor_enabled, created_at, updated_at)
            = (excluded.email, excluded.email_verified, excluded.name, excluded.image, excluded.locale,
               excluded.role, excluded.tier, excluded.banned, excluded.ban_reason, excluded.ban_expires,
               excluded.two_factor_enabled, excluded.created_at, excluded.updated_at);
    end if;
    if patches is not null then
        -- A patch names only the columns that change: the record keeps the rest.
        update read.users old set
            email              = coalesce(patch ->> 'email', old.email),
            email_verified     = coalesce((patch ->> 'email_verified')::boolean, old.email_verified),
            name               = coalesce(patch ->> 'name', old.name),
            image              = case when patch ? 'image' then patch ->> 'image' else old.image end,
            locale             = case when patch ? 'locale' then patch ->> 'locale' else old.locale end,
            role               = coalesce(patch ->> 'role', old.role),
            tier               = coalesce(patch ->> 'tier', old.tier),
            banned             = coalesce((patch ->> 'banned')::boolean, old.banned),
            ban_reason         = case when patch ? 'ban_reason' then patch ->> 'ban_reason' else old.ban_reason end,
            ban_expires        = case when patch ? 'ban_expires' then (patch ->> 'ban_expires')::timestamptz
                                      else old.ban_expires end,
            two_factor_enabled = coalesce((patch ->> 'two_factor_enabled')::boolean, old.two_factor_enabled),
            updated_at         = coalesce((patch ->> 'updated_at')::timestamptz, old.updated_at)
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;

create table read.accounts (
    id          text        not null,
    user_id     text        not null,
    provider_id text        not null,
    account_id  text        not null,
    scopes      text[]      not null,
    created_at  timestamptz not null,
    updated_at  timestamptz not null,
    constraint accounts_pkey primary key (id)
);
create index accounts_user_id_idx on read.accounts (user_id);

create function read.apply_accounts(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.accounts where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.accounts where user_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.accounts (id, user_id, provider_id, account_id, scopes, created_at, updated_at)
        select id, user_id, provider_id, account_id, scopes, created_at, updated_at
        from jsonb_populate_recordset(null::read.accounts, puts)
        on conflict (id) do update set
            (user_id, provider_id, account_id, scopes, created_at, updated_at)
            = (excluded.user_id, excluded.provider_id, excluded.account_id, excluded.scopes,
               excluded.created_at, excluded.updated_at);
    end if;
    if patches is not null then
        update read.accounts old set
            scopes     = coalesce(patch.scopes, old.scopes),
            updated_at = coalesce(patch.updated_at, old.updated_at)
        from jsonb_to_recordset(patches) as patch (id text, scopes text[], updated_at timestamptz)
        where old.id = patch.id;
    end if;
end $$;

-- Everybody so far has a password. The id is made as the service makes it: from SHA-256 of the person's.
insert into read.accounts (id, user_id, provider_id, account_id, scopes, created_at, updated_at)
select (select string_agg(substr('0123456789abcdefghijklmnopqrstuvwxyz', get_byte(h.hash, n) % 36 + 1, 1), '' order by n)
        from generate_series(0, 31) n),
       u.id, 'credential', u.id, '{}', p.created_at, p.updated_at
from (
    select e.aggregate_id,
           max((e.payload -> 'password_set' ->> 'at')::timestamptz)
               filter (where not e.payload -> 'password_set' ? 'cause') as created_at,
           (array_agg((e.payload -> 'password_set' ->> 'at')::timestamptz order by e.sequence desc))[1] as updated_at
    from events e
    where e.aggregate_type = 'user' and e.event_type = 'user.password_set'
    group by e.aggregate_id
) p
join read.users u on u.id = p.aggregate_id
cross join lateral (select sha256(convert_to(E'credential\n' || u.id, 'UTF8')) as hash) h;

create table read.passkeys (
    id            text        not null,
    user_id       text        not null,
    credential_id text        not null,
    credential    text        not null,
    name          text,
    created_at    timestamptz not null,
    constraint passkeys_pkey primary key (id)
);
create unique index passkeys_credential_id_key on read.passkeys (credential_id);
create index passkeys_user_id_idx on read.passkeys (user_id);

create function read.apply_passkeys(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.passkeys where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.passkeys where user_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.passkeys (id, user_id, credential_id, credential, name, created_at)
        select id, user_id, credential_id, credential, name, created_at
        from jsonb_populate_recordset(null::read.passkeys, puts)
        on conflict (id) do update set
            (user_id, credential_id, credential, name, created_at)
            = (excluded.user_id, excluded.credential_id, excluded.credential, excluded.name, excluded.created_at);
    end if;
    if patches is not null then
        update read.passkeys old set name = patch.name
        from jsonb_to_recordset(patches) as patch (id text, name text)
        where old.id = patch.id;
    end if;
end $$;

create table read.api_keys (
    id         text        not null,
    user_id    text        not null,
    name       text        not null,
    prefix     text        not null,
    key_hash   text        not null,
    scopes     text[]      not null,
    expires_at timestamptz,
    created_at timestamptz not null,
    revoked_at timestamptz,
    constraint api_keys_pkey primary key (id)
);
create unique index api_keys_key_hash_key on read.api_keys (key_hash);
create index api_keys_user_id_idx on read.api_keys (user_id);

create function read.apply_api_keys(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.api_keys where user_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.api_keys (id, user_id, name, prefix, key_hash, scopes, expires_at, created_at, revoked_at)
        select id, user_id, name, prefix, key_hash, scopes, expires_at, created_at, revoked_at
        from jsonb_populate_recordset(null::read.api_keys, puts)
        on conflict (id) do update set
            (user_id, name, prefix, key_hash, scopes, expires_at, created_at, revoked_at)
            = (excluded.user_id, excluded.name, excluded.prefix, excluded.key_hash, excluded.scopes,
               excluded.expires_at, excluded.created_at, excluded.revoked_at);
    end if;
    if patches is not null then
        update read.api_keys old set revoked_at = patch.revoked_at
        from jsonb_to_recordset(patches) as patch (id text, revoked_at timestamptz)
        where old.id = patch.id;
    end if;
end $$;
