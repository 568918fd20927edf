-- Records: every sealed secret, whatever its kind, and who owns what.

create table secrets (
  record_id       uuid primary key,
  -- First 16 bytes of SHA-256 over the handle's 128-bit id. The handle itself is
  -- derived with a key that the database never sees, so a dump holds none.
  handle_hash     bytea not null unique check (octet_length(handle_hash) = 16),
  kind            text not null check (kind ~ '^[a-z_]{1,40}$'),
  application_id  text not null references applications (id),
  plaid_client_id text not null,
  item_id         text,
  -- HMAC of the token: "whose token is this leaked string?" without opening anything.
  fingerprint     bytea not null check (octet_length(fingerprint) between 16 and 32),
  version         integer not null default 1 check (version >= 1),
  state           text not null default 'active' check (state in
                    ('active', 'rotating', 'uncertain', 'lost', 'external', 'frozen', 'removing', 'removed')),
  data_key_id     uuid references data_keys (id),
  sealed          bytea,
  health          text not null default 'healthy' check (health in
                    ('healthy', 'expiring', 'login_required', 'action_at_bank', 'permission_missing',
                     'revoked', 'gone', 'degraded', 'drift')),
  health_code     text,
  health_since    timestamptz not null default now(),
  created_at      timestamptz not null default now(),
  changed_at      timestamptz not null default now(),
  -- Until the audit log says which ciphertext this version has, or that it was
  -- shredded. A crash in between leaves it true, and a worker says it then.
  unwitnessed     boolean not null default true,
  -- A shredded record keeps its row (the audit log refers to it), never its ciphertext.
  check ((state = 'removed') = (sealed is null)),
  unique (application_id, fingerprint)
);
create index secrets_by_item on secrets (item_id) where item_id is not null;
create index secrets_by_data_key on secrets (data_key_id);
create index secrets_unwitnessed on secrets (changed_at) where unwitnessed;

-- Which application may name which of Plaid's ids, learned from the answers that
-- created them. Only HMACs: the ids themselves are customer data.
create table subjects (
  subject_mac     bytea primary key check (octet_length(subject_mac) between 16 and 32),
  kind            text not null,
  application_id  text not null references applications (id),
  -- HMAC of Link's client_user_id, kept with link tokens: answers "which consumers?" later.
  client_user_mac bytea,
  record_id       uuid references secrets (record_id),
  created_at      timestamptz not null default now()
);
create index subjects_by_client_user on subjects (client_user_mac) where client_user_mac is not null;

-- Tokens that were made to leave (processor tokens and their like): registered, not stored.
create table released_tokens (
  released_id    bigint generated always as identity primary key,
  kind           text not null,
  application_id text not null references applications (id),
  record_id      uuid references secrets (record_id),
  fingerprint    bytea not null,
  released_at    timestamptz not null default now()
);

grant select on secrets, subjects to strongroom_gateway, strongroom_worker;
grant insert (record_id, handle_hash, kind, application_id, plaid_client_id, item_id, fingerprint, data_key_id, sealed)
  on secrets to strongroom_gateway, strongroom_worker;
grant insert on subjects, released_tokens to strongroom_gateway, strongroom_worker;
grant update (state, health, health_code, health_since, changed_at) on secrets to strongroom_worker;
grant select (record_id, kind, application_id, plaid_client_id, item_id, fingerprint, version, state, data_key_id,
              health, health_code, health_since, created_at, changed_at)
  on secrets to strongroom_admin;
grant select on released_tokens to strongroom_admin, strongroom_auditor;

-- What an auditor and the reconciliation see: the digest of the ciphertext, not the ciphertext.
create view record_digests as
  select record_id, kind, application_id, plaid_client_id, item_id, version, state, data_key_id,
         encode(sha256(sealed), 'hex') as ciphertext_sha256, health, created_at, changed_at, unwitnessed,
         -- What the ciphertext is not bound to; stands in the audit log as it was when the record was sealed.
         encode(sha256(convert_to(concat_ws(E'\n', kind, application_id, plaid_client_id, coalesce(item_id, ''),
                                            encode(handle_hash, 'hex')), 'UTF8')), 'hex') as row_sha256
    from secrets;
grant select on record_digests to strongroom_auditor, strongroom_admin, strongroom_worker;

-- The gateway has no UPDATE on records. It reports what it saw of Plaid through this.
create function note_health(p_record uuid, p_health text, p_code text) returns void
  language sql security definer set search_path = strongroom, pg_temp
as $$
  update secrets
     set health = p_health, health_code = p_code, changed_at = now(),
         health_since = case when health = p_health then health_since else now() end
   where record_id = p_record and state <> 'removed'
     and (health, coalesce(health_code, '')) is distinct from (p_health, coalesce(p_code, ''));
$$;
revoke all on function note_health(uuid, text, text) from public;
grant execute on function note_health(uuid, text, text) to strongroom_gateway, strongroom_worker;

-- The audit log has an entry about this version, or about its end.
create function record_witnessed(p_record uuid, p_version integer, p_shredded boolean) returns void
  language sql security definer set search_path = strongroom, pg_temp
as $$
  update secrets set unwitnessed = false
   where record_id = p_record and version = p_version and (sealed is null) = p_shredded and unwitnessed;
$$;
revoke all on function record_witnessed(uuid, integer, boolean) from public;
grant execute on function record_witnessed(uuid, integer, boolean) to strongroom_gateway, strongroom_worker;
