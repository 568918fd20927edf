-- Calls to Plaid that change a token and cannot be asked again: intent first,
-- outcome later, and whatever stays open in between is named.

create table operations (
  operation_id   uuid primary key,
  kind           text not null check (kind in ('rotation', 'removal')),
  record_id      uuid not null references secrets (record_id),
  application_id text not null references applications (id),
  from_version   integer not null,
  state          text not null default 'open' check (state in ('open', 'done', 'refused', 'uncertain')),
  reason         text,
  opened_at      timestamptz not null default now(),
  -- Database clock. Longer than Plaid's slowest answer; when it has run out, the
  -- holder is taken for dead and the outcome for unknown (never for a success).
  lease_until    timestamptz not null,
  settled_at     timestamptz
);
-- One open operation per record in the whole deployment.
create unique index operations_one_open on operations (record_id) where state = 'open';
create index operations_unsettled on operations (state, opened_at) where state in ('open', 'uncertain');

create table exchanges (
  -- HMAC over application and public token: the same caller gets the same handle.
  public_token_mac bytea primary key,
  application_id   text not null references applications (id),
  state            text not null default 'open' check (state in ('open', 'done', 'uncertain')),
  attempts         integer not null default 1,
  record_id        uuid references secrets (record_id),
  item_id          text,
  opened_at        timestamptz not null default now(),
  lease_until      timestamptz not null,
  settled_at       timestamptz,
  check ((state = 'done') = (record_id is not null))
);
create index exchanges_unsettled on exchanges (state, opened_at) where state <> 'done';

grant select on operations, exchanges to strongroom_gateway, strongroom_worker, strongroom_admin;
grant select on operations to strongroom_auditor;
grant select (public_token_mac, application_id, state, record_id, opened_at, lease_until) on exchanges to strongroom_auditor;
grant insert, update, delete on exchanges to strongroom_gateway, strongroom_worker;

-- Claims a record for one operation. The update is the lock: of two callers that
-- saw the same version, one gets true. A removal may also take a record whose
-- earlier operation ended uncertain: Plaid answers ITEM_NOT_FOUND if it was done.
create function begin_operation(p_operation uuid, p_kind text, p_record uuid, p_version integer, p_lease interval)
  returns boolean
  language plpgsql security definer set search_path = strongroom, pg_temp
as $$
declare owner_id text;
begin
  update secrets
     set state = case p_kind when 'rotation' then 'rotating' else 'removing' end, changed_at = now()
   where record_id = p_record and version = p_version
     and (state = 'active' or (p_kind = 'removal' and state = 'uncertain'))
  returning application_id into owner_id;
  if not found then return false; end if;
  insert into operations (operation_id, kind, record_id, application_id, from_version, lease_until)
  values (p_operation, p_kind, p_record, owner_id, p_version, now() + p_lease);
  return true;
end $$;

-- Records a new token. Compare-and-set on the version and not on the lease: also
-- a holder that was given up may still save the only good token. Idempotent for
-- the same ciphertext, so a commit whose answer was lost can be repeated.
create function complete_rotation(p_operation uuid, p_record uuid, p_version integer, p_sealed bytea,
                                  p_fingerprint bytea, p_data_key uuid) returns boolean
  language plpgsql security definer set search_path = strongroom, pg_temp
as $$
begin
  if not exists (select from operations where operation_id = p_operation and record_id = p_record
                    and kind = 'rotation' and from_version = p_version) then
    return false;
  end if;
  update secrets
     set sealed = p_sealed, fingerprint = p_fingerprint, data_key_id = p_data_key,
         version = p_version + 1, state = 'active', changed_at = now(), unwitnessed = true
   where record_id = p_record and version = p_version and state in ('rotating', 'uncertain');
  if not found then
    return exists (select from secrets where record_id = p_record and version = p_version + 1 and sealed = p_sealed);
  end if;
  update operations set state = 'done', settled_at = now() where operation_id = p_operation;
  return true;
end $$;

-- Ends an operation in any other way. `p_record_state` is what the record becomes.
create function settle_operation(p_operation uuid, p_state text, p_record_state text, p_reason text) returns boolean
  language plpgsql security definer set search_path = strongroom, pg_temp
as $$
declare op operations%rowtype;
begin
  if p_state not in ('done', 'refused', 'uncertain')
     or p_record_state not in ('active', 'uncertain', 'external', 'removed') then
    raise exception 'settle_operation: state not allowed' using errcode = 'check_violation';
  end if;
  select * into op from operations where operation_id = p_operation and state in ('open', 'uncertain') for update;
  if not found then return false; end if;
  if p_record_state = 'removed' and op.kind <> 'removal' then
    raise exception 'settle_operation: only a removal shreds' using errcode = 'check_violation';
  end if;
  update operations set state = p_state, reason = p_reason, settled_at = now() where operation_id = p_operation;
  update secrets
     set state = p_record_state, changed_at = now(),
         sealed = case when p_record_state = 'removed' then null else sealed end,
         unwitnessed = unwitnessed or p_record_state = 'removed'
   where record_id = op.record_id and version = op.from_version and state in ('rotating', 'removing', 'uncertain');
  return true;
end $$;

revoke all on function begin_operation(uuid, text, uuid, integer, interval) from public;
revoke all on function complete_rotation(uuid, uuid, integer, bytea, bytea, uuid) from public;
revoke all on function settle_operation(uuid, text, text, text) from public;
grant execute on function begin_operation(uuid, text, uuid, integer, interval) to strongroom_gateway, strongroom_worker;
grant execute on function complete_rotation(uuid, uuid, integer, bytea, bytea, uuid) to strongroom_gateway, strongroom_worker;
grant execute on function settle_operation(uuid, text, text, text) to strongroom_gateway, strongroom_worker;
