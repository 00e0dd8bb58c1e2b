-- The last step of each person's authenticator app whose code was accepted: a code is good once (S-50). Ephemeral: neither
-- log nor read model, never rebuilt; without it the codes of the last minute could be shown again.
create table totp_steps (
    user_id text   not null,
    step    bigint not null,
    constraint totp_steps_pkey primary key (user_id)
);
