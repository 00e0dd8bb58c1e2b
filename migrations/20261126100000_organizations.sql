-- Read models of organizations: what they show, who belongs to them, who was asked in, their roles and teams.
-- Inline: written by the append that holds the event, because every request of a member is decided by them.
-- Disposable: `mana-auth rebuild NAME` makes each again. Rows of one organization end together when it is closed.
--
-- `event_id` (UUID v7) tells the order of rows of the same moment.

create table read.organizations (
    id         text        not null,
    name       text        not null,
    slug       text        not null,
    logo       text,
    metadata   text,
    created_at timestamptz not null,
    constraint organizations_pkey primary key (id)
);

create function read.apply_organizations(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.organizations where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.organizations (id, name, slug, logo, metadata, created_at)
        select id, name, slug, logo, metadata, created_at from jsonb_populate_recordset(null::read.organizations, puts)
        on conflict (id) do update set
            (name, slug, logo, metadata, created_at)
            = (excluded.name, excluded.slug, excluded.logo, excluded.metadata, excluded.created_at);
    end if;
    if patches is not null then
        update read.organizations old set
            name     = coalesce(patch ->> 'name', old.name),
            slug     = coalesce(patch ->> 'slug', old.slug),
            logo     = case when patch ? 'logo' then patch ->> 'logo' else old.logo end,
            metadata = case when patch ? 'metadata' then patch ->> 'metadata' else old.metadata end
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;

create table read.members (
    id              text        not null,
    organization_id text        not null,
    user_id         text        not null,
    role            text        not null,
    created_at      timestamptz not null,
    event_id        text        not null,
    constraint members_pkey primary key (id)
);
create index members_organization_id_idx on read.members (organization_id);
create index members_user_id_idx on read.members (user_id, organization_id);

create function read.apply_members(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.members where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.members where organization_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.members (id, organization_id, user_id, role, created_at, event_id)
        select id, organization_id, user_id, role, created_at, event_id
        from jsonb_populate_recordset(null::read.members, puts)
        on conflict (id) do update set
            (organization_id, user_id, role, created_at, event_id)
            = (excluded.organization_id, excluded.user_id, excluded.role, excluded.created_at, excluded.event_id);
    end if;
    if patches is not null then
        update read.members old set role = patch ->> 'role'
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;

create table read.invitations (
    id              text        not null,
    organization_id text        not null,
    email           text        not null,
    role            text        not null,
    team_ids        text,
    status          text        not null,
    inviter_id      text        not null,
    expires_at      timestamptz not null,
    created_at      timestamptz not null,
    event_id        text        not null,
    constraint invitations_pkey primary key (id)
);
create index invitations_organization_id_idx on read.invitations (organization_id);
create index invitations_email_idx on read.invitations (email);

create function read.apply_invitations(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.invitations where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.invitations where organization_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.invitations
            (id, organization_id, email, role, team_ids, status, inviter_id, expires_at, created_at, event_id)
        select id, organization_id, email, role, team_ids, status, inviter_id, expires_at, created_at, event_id
        from jsonb_populate_recordset(null::read.invitations, puts)
        on conflict (id) do update set
            (organization_id, email, role, team_ids, status, inviter_id, expires_at, created_at, event_id)
            = (excluded.organization_id, excluded.email, excluded.role, excluded.team_ids, excluded.status,
               excluded.inviter_id, excluded.expires_at, excluded.created_at, excluded.event_id);
    end if;
    if patches is not null then
        update read.invitations old set
            status     = coalesce(patch ->> 'status', old.status),
            expires_at = coalesce((patch ->> 'expires_at')::timestamptz, old.expires_at)
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;

create table read.organization_roles (
    id              text        not null,
    organization_id text        not null,
    name            text        not null,
    permission      jsonb       not null,
    created_at      timestamptz not null,
    updated_at      timestamptz,
    event_id        text        not null,
    constraint organization_roles_pkey primary key (id)
);
create index organization_roles_organization_id_idx on read.organization_roles (organization_id);

create function read.apply_organization_roles(puts jsonb, patches jsonb, deletes jsonb) returns void
language plpgsql as $$
begin
    if deletes is not null then
        delete from read.organization_roles where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.organization_roles
        where organization_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.organization_roles (id, organization_id, name, permission, created_at, updated_at, event_id)
        select id, organization_id, name, permission, created_at, updated_at, event_id
        from jsonb_populate_recordset(null::read.organization_roles, puts)
        on conflict (id) do update set
            (organization_id, name, permission, created_at, updated_at, event_id)
            = (excluded.organization_id, excluded.name, excluded.permission, excluded.created_at,
               excluded.updated_at, excluded.event_id);
    end if;
    if patches is not null then
        update read.organization_roles old set
            name       = coalesce(patch ->> 'name', old.name),
            permission = coalesce(patch -> 'permission', old.permission),
            updated_at = coalesce((patch ->> 'updated_at')::timestamptz, old.updated_at)
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;

create table read.teams (
    id              text        not null,
    organization_id text        not null,
    name            text        not null,
    created_at      timestamptz not null,
    updated_at      timestamptz,
    event_id        text        not null,
    constraint teams_pkey primary key (id)
);
create index teams_organization_id_idx on read.teams (organization_id);

create function read.apply_teams(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.teams where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.teams where organization_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.teams (id, organization_id, name, created_at, updated_at, event_id)
        select id, organization_id, name, created_at, updated_at, event_id
        from jsonb_populate_recordset(null::read.teams, puts)
        on conflict (id) do update set
            (organization_id, name, created_at, updated_at, event_id)
            = (excluded.organization_id, excluded.name, excluded.created_at, excluded.updated_at, excluded.event_id);
    end if;
    if patches is not null then
        update read.teams old set
            name       = coalesce(patch ->> 'name', old.name),
            updated_at = coalesce((patch ->> 'updated_at')::timestamptz, old.updated_at)
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;

create table read.team_members (
    id              text        not null,
    organization_id text        not null,
    team_id         text        not null,
    user_id         text        not null,
    created_at      timestamptz not null,
    event_id        text        not null,
    constraint team_members_pkey primary key (id)
);
create index team_members_organization_id_idx on read.team_members (organization_id);
create index team_members_team_id_idx on read.team_members (team_id);
create index team_members_user_id_idx on read.team_members (user_id);

create function read.apply_team_members(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.team_members where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
        delete from read.team_members
        where organization_id in (select d ->> 'owner' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.team_members (id, organization_id, team_id, user_id, created_at, event_id)
        select id, organization_id, team_id, user_id, created_at, event_id
        from jsonb_populate_recordset(null::read.team_members, puts)
        on conflict (id) do nothing;
    end if;
end $$;
