-- Read model `signing_keys`: the public halves of the keys that sign access tokens. Inline, disposable.
-- The private halves are in custody. Which key signs follows from active_from and the clock.

create table read.signing_keys (
    id          text        not null,
    public_key  text        not null,
    active_from timestamptz not null,
    created_at  timestamptz not null,
    revoked_at  timestamptz,
    constraint signing_keys_pkey primary key (id)
);

create function read.apply_signing_keys(puts jsonb, patches jsonb, deletes jsonb) returns void language plpgsql as $$
begin
    if deletes is not null then
        delete from read.signing_keys where id in (select d ->> 'id' from jsonb_array_elements(deletes) d);
    end if;
    if puts is not null then
        insert into read.signing_keys (id, public_key, active_from, created_at, revoked_at)
        select id, public_key, active_from, created_at, revoked_at
        from jsonb_populate_recordset(null::read.signing_keys, puts)
        on conflict (id) do update set
            (public_key, active_from, created_at, revoked_at)
            = (excluded.public_key, excluded.active_from, excluded.created_at, excluded.revoked_at);
    end if;
    if patches is not null then
        update read.signing_keys old set revoked_at = patch.revoked_at
        from jsonb_to_recordset(patches) as patch (id text, revoked_at timestamptz)
        where old.id = patch.id;
    end if;
end $$;
