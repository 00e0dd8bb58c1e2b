-- Key-encryption keys: which there are and which one wraps, for all nodes. The keys themselves are configured on the
-- nodes and never here.

create table keks (
    id           text        not null,
    -- What the key is known by: the same id with another key is refused.
    check_value  bytea       not null,
    -- readable: opens, wraps nothing; retiring: is being asked whether anything needs it; retired: opens nothing.
    state        text        not null,
    added_at     timestamptz not null default clock_timestamp(),
    activated_at timestamptz,
    retired_at   timestamptz,
    constraint keks_pkey primary key (id),
    constraint keks_state_check check (state in ('readable', 'active', 'retiring', 'retired'))
);
create unique index keks_active_idx on keks (state) where state = 'active';

-- How often each has wrapped something, at most (S-74).
create table followers.kek_seals (
    kek_id text   not null,
    seals  bigint not null,
    constraint kek_seals_pkey primary key (kek_id)
);
-- Nobody has counted until now, so this is more than there can have been: what is wrapped comes with an event, and no
-- event with more than two wraps.
insert into followers.kek_seals
select kek_id, sum(version) + 2 * (select coalesce(max(position), 0) from events) from custody group by kek_id;

-- Nodes that run, and what they can open: a key becomes active only when all of them have it.
create table followers.nodes (
    node    text        not null,
    -- With which key it wraps.
    active  text        not null,
    keks    text[]      not null,
    seen_at timestamptz not null,
    constraint nodes_pkey primary key (node)
);

-- A node that was away for a while may still wrap by a key that is retired by now. What it wraps would be lost.
create function refuse_retired_kek() returns trigger language plpgsql as $$
begin
    if exists (select from keks where id = new.kek_id and state in ('retiring', 'retired')) then
        raise exception 'key-encryption key % is retired', new.kek_id using errcode = '55000';
    end if;
    return new;
end $$;
create trigger custody_retired_kek before insert or update of kek_id on custody
    for each row execute function refuse_retired_kek();
create trigger encryption_vaults_retired_kek before insert or update of kek_id on encryption_vaults
    for each row execute function refuse_retired_kek();

-- By which keys the keys of vaults are wrapped, where they are.
create function vault_wraps_of(p_owners text[])
returns table (owner text, kek_id text, wrap_format smallint) language plpgsql set enable_seqscan to off as $$
begin
    foreach owner in array p_owners loop
        perform set_config('app.current_user_id', owner, true);
        select v.kek_id, v.wrap_format into kek_id, wrap_format
        from encryption_vaults v where v.user_id = owner and v.wrapped_mk is not null;
        if found then
            return next;
        end if;
    end loop;
end $$;

-- Puts other wraps of the same keys in the place of those that were seen; gives the owners where that was done. Where
-- somebody is just writing, or has written, nothing is done: a wait for them could be one for each other.
create function rewrap_vaults(p_wraps jsonb) returns setof text language plpgsql set enable_seqscan to off as $$
declare
    entry record;
begin
    for entry in
        select t."row", t."row" ->> 'user_id' as owner, t.seen
        from jsonb_to_recordset(p_wraps) as t ("row" jsonb, seen text)
    loop
        perform set_config('app.current_user_id', entry.owner, true);
        perform from encryption_vaults v where v.user_id = entry.owner and v.wrapped_mk = entry.seen
        for no key update skip locked;
        if found then
            update encryption_vaults v
            set (wrapped_mk, wrap_iv, kek_id, wrap_format, wrap_version, key_check, recovery_key_check)
                = (new.wrapped_mk, new.wrap_iv, new.kek_id, new.wrap_format, new.wrap_version, new.key_check,
                   new.recovery_key_check)
            from jsonb_populate_record(null::encryption_vaults, entry."row") new
            where v.user_id = entry.owner;
            return next entry.owner;
        end if;
    end loop;
end $$;
drop function rewrap_vault(jsonb, text);
