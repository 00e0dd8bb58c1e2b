-- The vaults: one row for each person who has one, with the key that encrypts what they keep in the apps. The service
-- holds it wrapped by a key-encryption key, or as the person's recovery code wraps it, or both (mana-v1.md section 5).
-- A vault is custody, not a read model: no event holds a wrap. Names and rules of the columns that the original has are
-- the original's.

create table encryption_vaults (
    user_id                 text        not null,
    -- AES-256-GCM, base64: ciphertext with its tag, and nonce.
    wrapped_mk              text,
    wrap_iv                 text,
    format_version          smallint    not null default 1,
    kek_id                  text        not null default 'env-v1',
    -- As the client made them.
    recovery_wrapped_mk     text,
    recovery_iv             text,
    recovery_format_version smallint    not null default 1,
    recovery_set_at         timestamptz,
    zero_knowledge          boolean     not null default false,
    created_at              timestamptz not null default clock_timestamp(),
    rotated_at              timestamptz,
    -- Ours. 0: without associated data, as the original wraps; 1: bound to owner, version and key-encryption key
    -- (S-70).
    wrap_format             smallint    not null default 0,
    -- Raised with every wrap.
    wrap_version            bigint      not null default 0,
    -- What the key is known by without being there (S-77): of the key, and of the one that the recovery wrap holds.
    key_check               bytea,
    recovery_key_check      bytea,
    event_position          bigint      not null default 0,
    constraint encryption_vaults_pkey primary key (user_id),
    constraint encryption_vaults_has_wrap check (wrapped_mk is not null or recovery_wrapped_mk is not null),
    constraint encryption_vaults_wrap_iv_pair check (
        (wrapped_mk is null) = (wrap_iv is null) and (recovery_wrapped_mk is null) = (recovery_iv is null)),
    constraint encryption_vaults_zk_consistency check (
        not zero_knowledge or (wrapped_mk is null and recovery_wrapped_mk is not null))
);

-- Whoever reads or writes a row says whose it is, in the same transaction, and reaches no other. Also the owner of the
-- table is held to it; only a superuser is not.
alter table encryption_vaults enable row level security;
alter table encryption_vaults force row level security;
create policy encryption_vaults_own on encryption_vaults
    using (user_id = current_setting('app.current_user_id', true))
    with check (user_id = current_setting('app.current_user_id', true));

-- Vaults as they stand, each with the version of its stream: both as of one moment, so that what is decided from a row
-- is decided from the events up to that version. Reading none of them, it takes no longer for a vault that was used
-- often.
create function vaults_of(p_owners text[])
returns table (owner text, version bigint, "row" jsonb) language plpgsql as $$
begin
    foreach owner in array p_owners loop
        perform set_config('app.current_user_id', owner, true);
        select coalesce(s.version, 0), to_jsonb(v) into version, "row"
        from (select) one
        left join streams s on s.type = 'vault' and s.id = owner
        left join encryption_vaults v on v.user_id = owner;
        return next;
    end loop;
end $$;

-- Writes the whole row of a vault: its stream's version says that no other command has changed it. But a key may have
-- been wrapped anew meanwhile, which is no event of the vault; so a wrap that the command leaves alone stays as it is
-- now.
create function put_vault(p_row jsonb, p_keeps_wrap boolean) returns void language plpgsql as $$
declare
    wrap jsonb := '{}';
begin
    perform set_config('app.current_user_id', p_row ->> 'user_id', true);
    if p_keeps_wrap then
        select to_jsonb(w) into wrap
        from (
            select wrapped_mk, wrap_iv, kek_id, wrap_format, wrap_version, key_check
            from encryption_vaults where user_id = p_row ->> 'user_id' for update
        ) w;
    end if;
    delete from encryption_vaults where user_id = p_row ->> 'user_id';
    insert into encryption_vaults
    select new.* from jsonb_populate_record(null::encryption_vaults, p_row || coalesce(wrap, '{}')) new;
end $$;

-- Puts another wrap of the same key in the place of one, unless it is there no longer; says whether it has.
create function rewrap_vault(p_row jsonb, p_seen text) returns boolean language plpgsql as $$
begin
    perform set_config('app.current_user_id', p_row ->> 'user_id', true);
    update encryption_vaults v
    set (wrapped_mk, wrap_iv, kek_id, wrap_format, wrap_version, key_check, recovery_key_check)
        = (new.wrapped_mk, new.wrap_iv, new.kek_id, new.wrap_format, new.wrap_version, new.key_check,
           new.recovery_key_check)
    from jsonb_populate_record(null::encryption_vaults, p_row) new
    where v.user_id = new.user_id and v.wrapped_mk = p_seen;
    return found;
end $$;

-- The rest of an append as before, and the rows of vaults: one by one, each as its owner.
create or replace function append_more(head bigint, losers integer[], p_command integer[], p_more jsonb) returns void
language plpgsql as $$
declare
    entry record;
begin
    -- Releases before takes, both in key order.
    if p_more ? 'claims_release' then
        delete from claims c
        using jsonb_to_recordset(p_more -> 'claims_release') as t (command integer, scope text, key_hash text, owner text)
        where c.scope = t.scope and c.key_hash = decode(t.key_hash, 'hex') and c.owner = t.owner
          and t.command <> all (losers);
    end if;
    if p_more ? 'claims_release_all' then
        delete from claims c
        using jsonb_to_recordset(p_more -> 'claims_release_all') as t (command integer, owner text)
        where c.owner = t.owner and t.command <> all (losers);
    end if;
    if p_more ? 'claims_take' then
        insert into claims (scope, key_hash, owner, pepper_id, event_position)
        select t.scope, decode(t.key_hash, 'hex'), t.owner, t.pepper_id, p.position
        from jsonb_to_recordset(p_more -> 'claims_take')
             as t (command integer, scope text, key_hash text, owner text, pepper_id text)
        join append_positions(head, losers, p_command) p on p.command = t.command
        order by t.scope, t.key_hash
        on conflict (scope, key_hash) do update set event_position = excluded.event_position;
    end if;
    if p_more ? 'custody_delete' then
        delete from custody k
        using jsonb_to_recordset(p_more -> 'custody_delete') as t (command integer, kind text, owner text, id text)
        where k.kind = t.kind and k.owner = t.owner and k.id = t.id and t.command <> all (losers);
    end if;
    if p_more ? 'custody_put' then
        insert into custody as k (kind, owner, id, kek_id, format, nonce, ciphertext, event_position)
        select t.kind, t.owner, t.id, t.kek_id, t.format, decode(t.nonce, 'hex'), decode(t.ciphertext, 'hex'), p.position
        from jsonb_to_recordset(p_more -> 'custody_put')
             as t (command integer, kind text, owner text, id text, kek_id text, format smallint, nonce text, ciphertext text)
        join append_positions(head, losers, p_command) p on p.command = t.command
        on conflict (kind, owner, id) do update set
            version = k.version + 1, kek_id = excluded.kek_id, format = excluded.format, nonce = excluded.nonce,
            ciphertext = excluded.ciphertext, event_position = excluded.event_position,
            created_at = excluded.created_at;
    end if;
    if p_more ? 'vault_put' then
        for entry in
            select t."row" || jsonb_build_object('event_position', p.position) as "row", t.keeps_wrap
            from jsonb_to_recordset(p_more -> 'vault_put') as t (command integer, "row" jsonb, keeps_wrap boolean)
            join append_positions(head, losers, p_command) p on p.command = t.command
        loop
            perform put_vault(entry."row", entry.keeps_wrap);
        end loop;
    end if;
    -- Withdrawn and used up before new ones are made.
    if p_more ? 'tokens_withdraw' then
        delete from tokens k
        using jsonb_to_recordset(p_more -> 'tokens_withdraw') as t (command integer, user_id text, kind text)
        where k.user_id = t.user_id and k.kind = t.kind and t.command <> all (losers);
    end if;
    if p_more ? 'tokens_use' then
        delete from tokens k
        using jsonb_to_recordset(p_more -> 'tokens_use') as t (command integer, hash text)
        where k.hash = decode(t.hash, 'hex') and t.command <> all (losers);
    end if;
    if p_more ? 'tokens_put' then
        insert into tokens (hash, kind, user_id, sealed, expires_at)
        select decode(t.hash, 'hex'), t.kind, t.user_id, decode(t.sealed, 'hex'), t.expires_at
        from jsonb_to_recordset(p_more -> 'tokens_put')
             as t (command integer, hash text, kind text, user_id text, sealed text, expires_at timestamptz)
        where t.command <> all (losers);
    end if;
    if p_more ? 'effects' then
        insert into effects (event_id, kind, subject, sealed, position)
        select t.event_id, t.kind, t.subject, decode(t.sealed, 'hex'), p.position
        from jsonb_to_recordset(p_more -> 'effects') as t (command integer, event_id uuid, kind text, subject text, sealed text)
        join append_positions(head, losers, p_command) p on p.command = t.command;
    end if;
    if p_more ? 'idempotency' then
        insert into idempotency_keys (key_hash, body_hash, subject, status, sealed, position)
        select decode(t.key_hash, 'hex'), decode(t.body_hash, 'hex'), t.subject, t.status, decode(t.sealed, 'hex'), p.position
        from jsonb_to_recordset(p_more -> 'idempotency')
             as t (command integer, key_hash text, body_hash text, subject text, status smallint, sealed text)
        join append_positions(head, losers, p_command) p on p.command = t.command;
    end if;
end $$;
