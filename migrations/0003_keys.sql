-- Data keys: what seals records and makes their MACs. Here they stand wrapped
-- under a key-encryption key (KEK) that the database never sees.

create table data_keys (
  id             uuid primary key,
  purpose        text not null check (purpose in ('record', 'index', 'fingerprint')),
  -- NIST SP 800-57 part 1 rev. 5, section 7. Only an active key seals; active,
  -- deactivated and compromised keys open (what is open can be re-sealed).
  state          text not null check (state in
                   ('pre-activation', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed')),
  wrapped        bytea check (octet_length(wrapped) between 1 and 8192),
  -- Names the KEK, e.g. an ARN. Not secret.
  kek_id         text not null check (length(kek_id) between 1 and 2048),
  -- HMAC of a label under the key: tells a wrong key before a record is touched.
  key_check      bytea not null check (octet_length(key_check) = 32),
  created_at     timestamptz not null default now(),
  activated_at   timestamptz,
  suspended_at   timestamptz,
  deactivated_at timestamptz,
  compromised_at timestamptz,
  destroyed_at   timestamptz,
  -- A destroyed key keeps its row (records and audit entries name it), never its bytes.
  check ((state = 'destroyed') = (wrapped is null)),
  check (state <> 'active' or activated_at is not null),
  check (state <> 'suspended' or suspended_at is not null),
  check (state <> 'deactivated' or deactivated_at is not null),
  check (state <> 'compromised' or compromised_at is not null),
  check (state <> 'destroyed' or destroyed_at is not null)
);

-- Of two replicas that make the first key at once, one does; the other finds it.
create unique index data_keys_one_active on data_keys (purpose) where state = 'active';

-- The worker makes keys; the gateway only uses them. Nobody changes or deletes
-- one: the role that will rotate keys gets its grant with that feature.
grant select on data_keys to strongroom_gateway, strongroom_worker;
grant insert (id, purpose, state, wrapped, kek_id, key_check, activated_at) on data_keys to strongroom_worker;
grant select (id, purpose, state, kek_id, key_check, created_at, activated_at, suspended_at, deactivated_at,
              compromised_at, destroyed_at)
  on data_keys to strongroom_admin, strongroom_auditor;

-- The admin API answers "whose token is this?" and needs the fingerprint key for
-- it: that one and no other, though its role cannot read `wrapped`.
create function fingerprint_keys() returns setof data_keys
  language sql stable security definer set search_path = strongroom, pg_temp
as $$
  select * from data_keys where purpose = 'fingerprint';
$$;
revoke all on function fingerprint_keys() from public;
grant execute on function fingerprint_keys() to strongroom_admin;
