-- Pages of the audit log along positions whatever they are narrowed by: each read costs what it gives, not what it skips.

-- Clocks of several nodes differ and may step back, so times do not grow along positions. For each 16,384 positions this
-- one says which times there are: one look at each of them tells where a range of time can begin and end.
create index vault_audit_block_idx on read.vault_audit ((position >> 14), created_at);
drop index read.vault_audit_time_idx;
-- Pages of a status are merged from those of its pairs with an action, which vault_audit_action_idx has.
drop index read.vault_audit_status_idx;
