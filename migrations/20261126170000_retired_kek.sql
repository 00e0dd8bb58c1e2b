-- The key-encryption key that a vault's row names made the wrap in it. In zero-knowledge mode there is none: the row goes on
-- naming the key of before, which may be retired, and what else is in it may be written all the same.
drop trigger encryption_vaults_retired_kek on encryption_vaults;
create trigger encryption_vaults_retired_kek before insert or update of kek_id, wrapped_mk on encryption_vaults
    for each row when (new.wrapped_mk is not null) execute function refuse_retired_kek();
