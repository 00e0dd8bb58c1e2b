-- Custody is backed up and restored apart from the log. A row of it that came back from an older backup holds what the
-- log has replaced or destroyed since: a password of before, backup codes that are used up, the key of a vault whose
-- owner has taken it away from the service.

-- A part of the log: the position of the last event that has put a row of custody, or destroyed it. The row of a vault
-- is of the kind 'vault'. Data keys are here once they are destroyed: they are made once.
create table custody_positions (
    kind       text   not null,
    owner      text   not null,
    id         text   not null,
    "position" bigint not null,
    constraint custody_positions_pkey primary key (kind, owner, id)
);

insert into custody_positions
select kind, owner, id, event_position from custody where event_position > 0 and kind <> 'data_key';
do $$
declare
    vault_owner text;
begin
    for vault_owner in select s.id from streams s where s.type = 'vault' loop
        perform set_config('app.current_user_id', vault_owner, true);
        insert into custody_positions
        select 'vault', v.user_id, '1', v.event_position from encryption_vaults v
        where v.user_id = vault_owner and v.event_position > 0;
    end loop;
end $$;

-- Custody as it is read: with whether the log knows of something later.
create view custody_read as
select k.*, exists (select from custody_positions p
                    where p.kind = k.kind and p.owner = k.owner and p.id = k.id
                      and p."position" > k.event_position) as older_than_log
from custody k;

-- Vaults as they stand, as before, and whether the log knows of something later than the row.
drop function vaults_of(text[]);
create function vaults_of(p_owners text[])
returns table (owner text, version bigint, written_by bigint, older_than_log boolean, "row" json)
language plpgsql set enable_seqscan to off as $$
begin
    foreach owner in array p_owners loop
        perform set_config('app.current_user_id', owner, true);
        select coalesce(s.version, 0), v.xmin::text::bigint, coalesce(p."position" > v.event_position, false), to_json(v)
        into version, written_by, older_than_log, "row"
        from (select) one
        left join streams s on s.type = 'vault' and s.id = owner
        left join encryption_vaults v on v.user_id = owner
        left join custody_positions p on p.kind = 'vault' and p.owner = v.user_id and p.id = '1';
        return next;
    end loop;
end $$;

-- The rest of an append as before, and what it has put into custody or destroyed there.
alter function append_more(bigint, integer[], integer[], jsonb) rename to append_rows;
create function append_more(head bigint, losers integer[], p_command integer[], p_more jsonb) returns void
language plpgsql as $$
begin
    perform append_rows(head, losers, p_command, p_more);
    if p_more ?| '{custody_put,custody_delete,vault_put}' then
        insert into custody_positions
        select t.kind, t.owner, t.id, max(p.position)
        from (
            select command, kind, owner, id
            from jsonb_to_recordset(p_more -> 'custody_put') as t (command integer, kind text, owner text, id text)
            where kind <> 'data_key'
            union all
            select command, kind, owner, id
            from jsonb_to_recordset(p_more -> 'custody_delete') as t (command integer, kind text, owner text, id text)
            union all
            select command, 'vault', "row" ->> 'user_id', '1'
            from jsonb_to_recordset(p_more -> 'vault_put') as t (command integer, "row" jsonb)
        ) t
        join append_positions(head, losers, p_command) p on p.command = t.command
        group by t.kind, t.owner, t.id
        on conflict (kind, owner, id) do update set "position" = excluded."position";
    end if;
end $$;
