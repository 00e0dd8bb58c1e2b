-- no-transaction: each table is locked for itself, so that nodes at work and this never wait for each other in a circle.

-- The planner keeps samples of each column, up to a hundred values as they stand, until the table is analysed again: of an
-- address that was erased, and of the wrap of a data key that was destroyed. It keeps none of what is personal or secret
-- from now on; what is looked up there is found by unique indexes or together with an id.

-- A type that is set, if only to what it is, drops the samples that were kept, which only a superuser could do otherwise.
-- No row is written anew by it, but no view and no trigger may stand on the column meanwhile. All of it can be done again.
do $$
declare
    held    record;
    readers text[];
    reader  text;
begin
    for held in
        select k.name, string_agg(format('alter column %1$I type %2$s, alter column %1$I set statistics 0',
                                         a.attname, format_type(a.atttypid, a.atttypmod)), ', ') as changes
        from (values
            ('public.custody', '{nonce,ciphertext}'::text[]),
            ('public.encryption_vaults', '{wrapped_mk,wrap_iv,recovery_wrapped_mk,recovery_iv,key_check,recovery_key_check}'),
            ('public.claims', '{key_hash}'),
            ('public.effects', '{sealed}'),
            ('public.idempotency_keys', '{key_hash,body_hash,sealed}'),
            ('public.tokens', '{hash,sealed}'),
            ('public.attempts', '{key}'),
            ('public.rate_limits', '{key}'),
            ('public.door_events', '{bucket,ip_address,user_agent,metadata}'),
            ('read.accounts', '{account_id}'),
            ('read.api_keys', '{name,prefix,key_hash}'),
            ('read.invitations', '{email}'),
            ('read.organizations', '{name,slug,logo,metadata}'),
            ('read.passkeys', '{credential_id,credential,name}'),
            ('read.security_events', '{ip_address,user_agent,metadata}'),
            ('read.sessions', '{token_hash,ip_address,user_agent}'),
            ('read.teams', '{name}'),
            ('read.users', '{email,name,image,locale,ban_reason}'),
            ('read.vault_audit', '{ip_address,user_agent,request_id}')
        ) k (name, columns)
        join pg_attribute a on a.attrelid = k.name::regclass and a.attname = any (k.columns)
        group by k.name
    loop
        if held.name = 'public.custody' then
            readers := (select array_agg(grantee::text) from information_schema.role_table_grants
                        where table_schema = 'public' and table_name = 'custody_read' and privilege_type = 'SELECT'
                          and grantee <> current_user);
            drop view custody_read;
        elsif held.name = 'public.encryption_vaults' then
            drop trigger encryption_vaults_retired_kek on encryption_vaults;
        end if;
        execute format('alter table %s %s', held.name, held.changes);
        if held.name = 'public.custody' then
            create view custody_read as
            select k.*, exists (select from custody_positions p
                                where p.kind = k.kind and p.owner = k.owner and p.id = k.id
                                  and p."position" > k.event_position) as older_than_log
            from custody k;
            foreach reader in array coalesce(readers, '{}') loop
                execute format('grant select on custody_read to %I', reader);
            end loop;
        elsif held.name = 'public.encryption_vaults' then
            create trigger encryption_vaults_retired_kek before insert or update of kek_id, wrapped_mk on encryption_vaults
                for each row when (new.wrapped_mk is not null) execute function refuse_retired_kek();
        end if;
        commit;
    end loop;
end $$;
