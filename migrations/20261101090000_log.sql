-- The log: the one place where facts are kept. Everything else in the database can be made again
-- from it, or is a secret (custody) that it deliberately does not hold.
-- Partitioned by position from the start, so that closed ranges can be archived one by one.

create table events (
    position       bigint      not null,
    aggregate_type text        not null,
    aggregate_id   text        not null,
    sequence       bigint      not null,
    event_type     text        not null,
    event_version  text        not null,
    payload        jsonb       not null,
    metadata       jsonb       not null,
    event_id       uuid        not null,
    recorded_at    timestamptz not null default clock_timestamp(),
    constraint events_pkey primary key (position)
) partition by range (position);

-- Nobody edits history, not even the owner of the table by accident.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only: % on % is refused', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end $$;

create trigger events_no_change before update or delete on events
    for each row execute function refuse_change();
create trigger events_no_truncate before truncate on events
    for each statement execute function refuse_change();

-- Makes partitions of 10 million positions each until two whole ones lie ahead of the head.
-- Runs with the rights of the migration role: the service itself may not create tables here.
create function ensure_event_partitions() returns integer
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    size    constant bigint := 10000000;
    head    bigint := coalesce((select max(position) from events), 0);
    number  bigint;
    name    text;
    made    integer := 0;
begin
    perform pg_advisory_xact_lock(7165746301);
    for number in (head / size) .. (head / size) + 2 loop
        name := format('events_%s', lpad(number::text, 6, '0'));
        if to_regclass('public.' || name) is null then
            execute format('create table %I partition of events for values from (%s) to (%s)',
                           name, greatest(number * size, 1), (number + 1) * size);
            execute format('alter table %I add constraint %I unique (aggregate_type, aggregate_id, sequence)',
                           name, name || '_stream_key');
            execute format('alter table %I add constraint %I unique (event_id)', name, name || '_event_id_key');
            -- Row triggers reach partitions by themselves, statement triggers for TRUNCATE do not.
            execute format('create trigger events_no_truncate before truncate on %I
                            for each statement execute function refuse_change()', name);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;
select ensure_event_partitions();

-- How long each stream is. Compared and set under the append lock: two writers of one stream cannot both win.
create table streams (
    type    text   not null,
    id      text   not null,
    version bigint not null,
    constraint streams_pkey primary key (type, id)
);

-- Every life of the log has an epoch. A restore from a backup ends one and starts the next.
create table log_epochs (
    number        integer     not null,
    epoch         uuid        not null,
    from_position bigint      not null,
    started_at    timestamptz not null default clock_timestamp(),
    constraint log_epochs_pkey primary key (number),
    constraint log_epochs_epoch_key unique (epoch)
);
insert into log_epochs (number, epoch, from_position) values (1, gen_random_uuid(), 1);

-- What only one stream may hold, such as a mail address. The value itself is never stored:
-- key_hash is HMAC-SHA-256 of the normalised value under the pepper named by pepper_id.
create table claims (
    scope          text   not null,
    key_hash       bytea  not null,
    owner          text   not null,
    pepper_id      text   not null,
    event_position bigint not null,
    constraint claims_pkey primary key (scope, key_hash)
);
create index claims_owner_idx on claims (owner);

-- Secrets, one row each, wrapped by a key-encryption key. The one table whose bytes really go away.
-- `version` is raised by every replacement, so that a change can insist on what it has seen.
create table custody (
    kind           text        not null,
    owner          text        not null,
    id             text        not null,
    version        bigint      not null default 1,
    kek_id         text        not null,
    format         smallint    not null,
    nonce          bytea       not null,
    ciphertext     bytea       not null,
    event_position bigint      not null,
    created_at     timestamptz not null default clock_timestamp(),
    constraint custody_pkey primary key (kind, owner, id)
);
create index custody_owner_idx on custody (owner);
create index custody_kek_id_idx on custody (kek_id);

-- Work that follows from an event: mails and calls to other services. Sealed under the subject's
-- data key, deleted on delivery.
create table effects (
    event_id    uuid        not null,
    kind        text        not null,
    subject     text        not null,
    sealed      bytea       not null,
    position    bigint      not null,
    attempts    integer     not null default 0,
    due_at      timestamptz not null default clock_timestamp(),
    last_error  text,
    queued_at   timestamptz not null default clock_timestamp(),
    constraint effects_pkey primary key (event_id, kind)
);
create index effects_due_at_idx on effects (due_at);
create index effects_subject_idx on effects (subject);

-- Outcomes of requests that carried an Idempotency-Key, kept for 24 hours. `sealed` is empty where the
-- answer held a secret.
create table idempotency_keys (
    key_hash   bytea       not null,
    body_hash  bytea       not null,
    subject    text        not null,
    status     smallint    not null,
    sealed     bytea,
    position   bigint      not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint idempotency_keys_pkey primary key (key_hash)
);
create index idempotency_keys_created_at_idx on idempotency_keys (created_at);
create index idempotency_keys_subject_idx on idempotency_keys (subject);

-- Read models live apart: the service's role owns this schema, because a rebuild needs to create tables.
create schema read;
-- Which version of each read model stands.
create table read.models (
    name       text        not null,
    version    integer     not null,
    rebuilt_at timestamptz,
    constraint models_pkey primary key (name)
);
