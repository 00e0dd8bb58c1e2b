-- Read model `users`: what sign-in, the session answer and the admin list know of a person.
-- Inline: written by the append that holds the event. Disposable: `mana-auth rebuild users` makes it again.

create table read.users (
    id                 text        not null,
    email              text        not null,
    email_verified     boolean     not null,
    name               text        not null,
    image              text,
    locale             text,
    role               text        not null,
    tier               text        not null,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    constraint users_pkey primary key (id)
);
create index users_created_at_idx on read.users (created_at desc, id);

create function read.apply_users(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.users where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.users (id, email, email_verified, name, image, locale, role, tier, created_at, updated_at)
        select id, email, email_verified, name, image, locale, role, tier, created_at, updated_at
        from jsonb_populate_recordset(null::read.users, puts)
        on conflict (id) do update set
            (email, email_verified, name, image, locale, role, tier, created_at, updated_at)
            = (excluded.email, excluded.email_verified, excluded.name, excluded.image, excluded.locale,
               excluded.role, excluded.tier, excluded.created_at, excluded.updated_at);
    end if;
    if patches is not null then
        -- A patch names only the columns that change: the record keeps the rest.
        update read.users old set
            email          = coalesce(patch ->> 'email', old.email),
            email_verified = coalesce((patch ->> 'email_verified')::boolean, old.email_verified),
            name           = coalesce(patch ->> 'name', old.name),
            image          = case when patch ? 'image' then patch ->> 'image' else old.image end,
            locale         = case when patch ? 'locale' then patch ->> 'locale' else old.locale end,
            role           = coalesce(patch ->> 'role', old.role),
            tier           = coalesce(patch ->> 'tier', old.tier),
            updated_at     = coalesce((patch ->> 'updated_at')::timestamptz, old.updated_at)
        from jsonb_array_elements(patches) patch
        where old.id = patch ->> 'id';
    end if;
end $$;
