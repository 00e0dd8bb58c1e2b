-- What follows the log by itself and is never part of a write: the Merkle tree over all events, its signed checkpoints,
-- and who makes them. In a schema of its own, because it changes without anybody asking for anything.
create schema followers;

-- Who does something that one node does at a time. A lease that is not renewed is over; whoever takes it then has a
-- higher fence, and what the former holder still sends is not written.
create table followers.leases (
    name       text        not null,
    holder     text        not null,
    fence      bigint      not null,
    expires_at timestamptz not null,
    constraint leases_pkey primary key (name)
);

-- The tree in tiles (C2SP tlog-tiles): up to 256 hashes of one level, 32 bytes each. Only the last tile of a level is
-- not full, and only it grows.
create table followers.tiles (
    level  smallint not null,
    number bigint   not null,
    hashes bytea    not null,
    constraint tiles_pkey primary key (level, number),
    constraint tiles_hashes_check check (octet_length(hashes) between 32 and 8192 and octet_length(hashes) % 32 = 0)
);
-- Hashes cannot be compressed.
alter table followers.tiles alter column hashes set storage external;

-- What was signed, as it was signed (C2SP tlog-checkpoint). Never changed: others hold us to it.
create table followers.checkpoints (
    size      bigint      not null,
    epoch     uuid        not null,
    root      bytea       not null,
    note      text        not null,
    signed_at timestamptz not null default clock_timestamp(),
    constraint checkpoints_pkey primary key (size)
);
create trigger checkpoints_no_change before update or delete on followers.checkpoints
    for each row execute function refuse_change();
create trigger checkpoints_no_truncate before truncate on followers.checkpoints
    for each statement execute function refuse_change();
