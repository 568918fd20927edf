-- Applications: the calling systems, their keys and their policies.

create table applications (
  id              text primary key check (id ~ '^[0-9a-f]{24}$'),
  name            text not null unique check (length(name) between 1 and 64),
  plaid_client_id text not null check (length(plaid_client_id) between 1 and 64),
  policy          jsonb not null check (jsonb_typeof(policy) = 'object'),
  -- Grows with every change of policy, keys, freezes or disabling (the triggers
  -- below see to it), so that a gateway asks for one number at every request and
  -- reads the rest only when it has changed.
  version         integer not null default 1,
  created_at      timestamptz not null default now(),
  disabled_at     timestamptz
);

-- Two slots: an application cannot have a third key.
create table application_keys (
  application_id text not null references applications (id),
  slot           smallint not null check (slot in (0, 1)),
  key_id         uuid not null unique,
  key_sha256     bytea not null check (octet_length(key_sha256) = 32),
  created_at     timestamptz not null default now(),
  -- Null: until it is replaced.
  expires_at     timestamptz,
  primary key (application_id, slot)
);

create table application_freezes (
  application_id text not null references applications (id),
  -- An endpoint class, or 'removal', or 'rotation'.
  class          text not null check (class ~ '^[a-z]{1,20}$'),
  since          timestamptz not null default now(),
  reason         text not null check (length(reason) between 1 and 200),
  primary key (application_id, class)
);

-- A definer's function because whoever changes a key or a freeze may not be
-- allowed to write to applications.version.
create function touch_application() returns trigger
  language plpgsql security definer set search_path = strongroom, pg_temp
as $$
begin
  update applications set version = version + 1
   where id = coalesce(new.application_id, old.application_id);
  return null;
end $$;
revoke all on function touch_application() from public;

create trigger application_keys_touch after insert or update or delete on application_keys
  for each row execute function touch_application();
create trigger application_freezes_touch after insert or update or delete on application_freezes
  for each row execute function touch_application();

create function grow_application_version() returns trigger
  language plpgsql set search_path = strongroom, pg_temp
as $$
begin
  -- Disabled is for good: an old key must not come back to life.
  new.disabled_at := coalesce(old.disabled_at, new.disabled_at);
  if (new.policy, new.disabled_at, new.plaid_client_id) is distinct from (old.policy, old.disabled_at, old.plaid_client_id) then
    new.version := old.version + 1;
  end if;
  return new;
end $$;
revoke all on function grow_application_version() from public;

create trigger applications_version before update on applications
  for each row execute function grow_application_version();

-- The gateway freezes an application that went past a budget. It cannot lift a
-- freeze, nor write anything else here. True when the freeze is new.
create function freeze_application(p_application text, p_class text, p_reason text) returns boolean
  language plpgsql security definer set search_path = strongroom, pg_temp
as $$
begin
  insert into application_freezes (application_id, class, reason)
  values (p_application, p_class, p_reason)
  on conflict do nothing;
  return found;
end $$;
revoke all on function freeze_application(text, text, text) from public;
grant execute on function freeze_application(text, text, text) to strongroom_gateway;

-- Key hashes are read by the gateway alone: the admin role writes what it never reads.
grant select on applications, application_keys, application_freezes to strongroom_gateway;
grant select on applications, application_freezes to strongroom_admin, strongroom_worker, strongroom_auditor;
grant select (application_id, slot, key_id, created_at, expires_at) on application_keys
  to strongroom_admin, strongroom_auditor;
-- To hold keys against the audit log, which says the same of every key that was issued.
create view application_key_checks as
  select application_id, key_id, expires_at, encode(sha256(key_sha256), 'hex') as key_check from application_keys;
grant select on application_key_checks to strongroom_admin, strongroom_auditor;

grant insert (id, name, plaid_client_id, policy) on applications to strongroom_admin;
grant update (policy, disabled_at) on applications to strongroom_admin;
grant insert (application_id, slot, key_id, key_sha256, expires_at) on application_keys to strongroom_admin;
grant update (expires_at) on application_keys to strongroom_admin;
grant delete on application_keys, application_freezes to strongroom_admin;
