-- How passkeys and API keys were used: no event stands for a use. Ephemeral: neither log nor read model, never rebuilt.
-- Without these, passkeys are compared with the count of their registration, and nobody knows when they were last used.

-- The count that a passkey showed last; always 0 where its authenticator does not count (WebAuthn section 6.1.1).
create table passkey_uses (
    passkey_id text        not null,
    user_id    text        not null,
    counter    bigint      not null,
    used_at    timestamptz not null,
    constraint passkey_uses_pkey primary key (passkey_id)
);
create index passkey_uses_user_id_idx on passkey_uses (user_id);

create table api_key_uses (
    key_id  text        not null,
    user_id text        not null,
    used_at timestamptz not null,
    constraint api_key_uses_pkey primary key (key_id)
);
create index api_key_uses_user_id_idx on api_key_uses (user_id);
