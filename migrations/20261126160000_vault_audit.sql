-- Read models that follow the log by themselves: up to where each of them is, written together with its rows.
create table followers.models (
    name     text   not null,
    position bigint not null,
    constraint models_pkey primary key (name)
);

-- Streams that a model cannot follow: one of their events, the first of them at this position, does not open or is not
-- known. They wait for it; the model follows all others.
create table followers.parked (
    model       text        not null,
    stream_type text        not null,
    stream_id   text        not null,
    position    bigint      not null,
    error       text        not null,
    since       timestamptz not null default clock_timestamp(),
    constraint parked_pkey primary key (model, stream_type, stream_id)
);

-- The audit log of the vaults (mana-v1.md section 5.4): a line for each call, in the columns of the original.
create table read.vault_audit (
    -- Of the event.
    id         text        not null,
    position   bigint      not null,
    user_id    text        not null,
    action     text        not null,
    status     integer     not null,
    context    text,
    -- Null if unknown, and when its owner is erased.
    ip_address text,
    user_agent text,
    session_id text,
    request_id text,
    created_at timestamptz not null,
    constraint vault_audit_pkey primary key (id),
    constraint vault_audit_position_key unique (position)
);
-- Pages go along positions, whatever they are of.
create index vault_audit_user_idx on read.vault_audit (user_id, position);
create index vault_audit_action_idx on read.vault_audit (action, status, position);
create index vault_audit_status_idx on read.vault_audit (status, position);
create index vault_audit_address_idx on read.vault_audit (ip_address, position) where ip_address is not null;
create index vault_audit_time_idx on read.vault_audit (created_at, position);
insert into followers.models (name, position) values ('vault_audit', 0);
