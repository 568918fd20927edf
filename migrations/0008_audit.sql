-- The audit log. Processes insert groups of entries; one sequencer gives them an
-- index and signs the tree over them. Nothing here is ever updated or deleted,
-- except audit_tree (one row: where the tree stands) and what audit_archive drops
-- after it was exported. docs/formats/audit.md describes the bytes.

-- Every process that writes. The short id keeps the groups small.
create table audit_writers (
  id         integer generated always as identity primary key,
  writer     uuid not null unique,
  deployment text not null check (deployment ~ '^[A-Za-z0-9._-]{1,64}$'),
  role       text not null check (role ~ '^[a-z][a-z0-9_.:-]{0,63}$'),
  -- Only this login may write under this id, so that one role cannot speak for another.
  login      name not null default session_user,
  started_at timestamptz not null default now()
);
create index audit_writers_by_role on audit_writers (deployment, role, id);

-- Consecutive entries of one writer that became durable together. The place
-- (writer, first_n) can be taken once: that is what makes a repeated insert safe.
create table audit_groups (
  first_n bigint not null check (first_n >= 0),
  writer  integer not null,
  count   integer not null check (count between 1 and 4096),
  -- Hash of the writer's entry before the group.
  prev    bytea not null check (octet_length(prev) = 32),
  -- 32 bytes for each entry: its hash, which is its leaf in the tree.
  hashes  bytea not null check (octet_length(hashes) = 32 * count),
  -- One line for each entry: time, kind and fields. The rest of the entry follows from the columns.
  entries text not null,
  primary key (writer, first_n)
);
-- Hashes do not compress; trying costs time.
alter table audit_groups alter column hashes set storage external;

-- What the sequencer decided: `count` entries of a writer stand in the log from `first_index` on.
create table audit_runs (
  first_index bigint primary key check (first_index >= 0),
  writer      integer not null,
  first_n     bigint not null check (first_n >= 0),
  count       integer not null check (count >= 1),
  unique (writer, first_n)
);

-- Where the tree stands. `frontier`: 32 bytes for each one-bit of the size, largest subtree first.
create table audit_tree (
  one      boolean primary key default true check (one),
  size     bigint not null check (size >= 0),
  frontier bytea not null
);
insert into audit_tree (size, frontier) values (0, '');

create table audit_keys (
  vkey       text primary key,
  -- The first checkpoint that this key may have signed.
  first_size bigint not null,
  added_at   timestamptz not null default now()
);

create table audit_checkpoints (
  size      bigint primary key check (size >= 1),
  root      bytea not null check (octet_length(root) = 32),
  -- The signed note, as it is exported.
  note      text not null,
  signed_at timestamptz not null default now()
);

-- Heads that left the database: evidence counts from here.
create table audit_heads (
  id          bigint generated always as identity primary key,
  size        bigint not null,
  destination text not null,
  exported_at timestamptz not null default now()
);

-- Where the log begins after old entries were archived and dropped.
create table audit_archives (
  first_index bigint primary key,
  frontier    bytea not null,
  archived_at timestamptz not null default now()
);

-- Registers a writer and tells it the last entry of the one before it in its role.
-- Asking twice is harmless: an answer may get lost.
create function audit_register(p_writer uuid, p_deployment text, p_role text)
  returns table (id integer, previous uuid, previous_n bigint, previous_hash bytea)
  language plpgsql security definer set search_path = strongroom, pg_temp as $$
declare
  mine integer;
begin
  insert into audit_writers (writer, deployment, role) values (p_writer, p_deployment, p_role)
    on conflict (writer) do nothing;
  select w.id into strict mine from audit_writers w where w.writer = p_writer and w.login = session_user;
  return query
    select mine, before.writer, before.last_n, before.last_hash
      from (select 1) as always
      left join lateral (
        select w.writer, g.first_n + g.count - 1 as last_n, substr(g.hashes, 32 * g.count - 31, 32) as last_hash
          from audit_writers w
          cross join lateral (
            select * from audit_groups g where g.writer = w.id order by g.first_n desc limit 1
          ) g
         where w.deployment = p_deployment and w.role = p_role and w.id < mine
         order by w.id desc limit 1
      ) before on true;
end $$;

-- What stands at a place: for a writer whose answer got lost. Its own places only.
create function audit_hashes_at(p_writer integer, p_first_n bigint) returns bytea
  language sql stable security definer set search_path = strongroom, pg_temp as $$
  select g.hashes
    from audit_groups g join audit_writers w on w.id = g.writer
   where g.writer = p_writer and g.first_n = p_first_n and w.login = session_user
$$;

create function audit_check_writer() returns trigger
  language plpgsql security definer set search_path = strongroom, pg_temp as $$
begin
  if not exists (select from audit_writers w where w.id = new.writer and w.login = session_user) then
    raise exception 'writer % belongs to another login', new.writer using errcode = 'insufficient_privilege';
  end if;
  return new;
end $$;
create trigger audit_groups_writer before insert on audit_groups
  for each row execute function audit_check_writer();

-- Holds for everybody, the owner included; audit_archive lifts it for itself.
create function audit_refuse() returns trigger
  language plpgsql set search_path = strongroom, pg_temp as $$
begin
  if tg_op = 'DELETE' and tg_table_name = 'audit_groups'
     and current_setting('strongroom.audit_archiving', true) = 'on' then
    return null;
  end if;
  raise exception 'the audit log only grows: % on % refused', tg_op, tg_table_name
    using errcode = 'insufficient_privilege';
end $$;

create trigger audit_writers_grow before update or delete or truncate on audit_writers
  for each statement execute function audit_refuse();
create trigger audit_groups_grow before update or delete or truncate on audit_groups
  for each statement execute function audit_refuse();
create trigger audit_runs_grow before update or delete or truncate on audit_runs
  for each statement execute function audit_refuse();
create trigger audit_tree_stays before delete or truncate on audit_tree
  for each statement execute function audit_refuse();
create trigger audit_keys_grow before update or delete or truncate on audit_keys
  for each statement execute function audit_refuse();
create trigger audit_checkpoints_grow before update or delete or truncate on audit_checkpoints
  for each statement execute function audit_refuse();
create trigger audit_heads_grow before update or delete or truncate on audit_heads
  for each statement execute function audit_refuse();
create trigger audit_archives_grow before update or delete or truncate on audit_archives
  for each statement execute function audit_refuse();

-- Drops the entries before a checkpoint whose head has left the database. The
-- caller brings the frontier at that size (from a verified export); it must give
-- the checkpoint's root, so that what stays can still be proven. For the owner.
create function audit_archive(p_size bigint, p_frontier bytea) returns bigint
  language plpgsql set search_path = strongroom, pg_temp as $$
declare
  node    bytea;
  at      integer := octet_length(p_frontier) - 32;
  dropped bigint;
begin
  if not exists (select from audit_heads h where h.size >= p_size) then
    raise exception 'no head of size % or more has left the database', p_size;
  end if;
  if exists (select from audit_runs r where r.first_index < p_size and r.first_index + r.count > p_size) then
    raise exception 'no run ends at %', p_size;
  end if;
  node := substr(p_frontier, at + 1, 32);
  while at > 0 loop
    at := at - 32;
    node := sha256('\x01'::bytea || substr(p_frontier, at + 1, 32) || node);
  end loop;
  if not exists (select from audit_checkpoints c where c.size = p_size and c.root = node) then
    raise exception 'the frontier does not give the root of a checkpoint of size %', p_size;
  end if;
  perform set_config('strongroom.audit_archiving', 'on', true);
  delete from audit_groups g using audit_runs r
   where r.first_index + r.count <= p_size
     and g.writer = r.writer and g.first_n >= r.first_n and g.first_n < r.first_n + r.count;
  get diagnostics dropped = row_count;
  perform set_config('strongroom.audit_archiving', 'off', true);
  insert into audit_archives (first_index, frontier) values (p_size, p_frontier);
  return dropped;
end $$;

-- The log as a reader sees it. `entry` holds time, kind and fields as JSON text.
create view audit_log as
  select r.first_index + (g.first_n - r.first_n) + line.ord - 1 as index,
         w.writer, w.role, g.first_n + line.ord - 1 as n,
         substring(line.rest from '^"at":"([^"]*)"') as at,
         substring(line.rest from '^"at":"[^"]*","kind":"([^"]*)"') as kind,
         '{' || line.rest as entry
    from audit_runs r
    join audit_writers w on w.id = r.writer
    join audit_groups g on g.writer = r.writer and g.first_n >= r.first_n and g.first_n < r.first_n + r.count
   cross join lateral string_to_table(g.entries, E'\n') with ordinality as line (rest, ord);

revoke all on function audit_register(uuid, text, text), audit_hashes_at(integer, bigint),
  audit_check_writer(), audit_refuse(), audit_archive(bigint, bytea) from public;

-- Writers: insert, and nothing else. Reading back goes through a function.
grant insert on audit_groups to strongroom_gateway, strongroom_webhooks, strongroom_admin, strongroom_worker;
grant execute on function audit_register(uuid, text, text), audit_hashes_at(integer, bigint)
  to strongroom_gateway, strongroom_webhooks, strongroom_admin, strongroom_worker;
-- Sizes and roots only: to compare with a head outside before serving.
grant select on audit_checkpoints to strongroom_gateway, strongroom_webhooks;

-- The sequencer.
grant select on audit_writers, audit_groups, audit_runs, audit_tree, audit_keys, audit_checkpoints, audit_heads,
  audit_archives to strongroom_worker;
grant insert on audit_runs, audit_keys, audit_checkpoints, audit_heads to strongroom_worker;
grant update (size, frontier) on audit_tree to strongroom_worker;

-- Readers. There is no secret in the log.
grant select on audit_writers, audit_groups, audit_runs, audit_tree, audit_keys, audit_checkpoints, audit_heads,
  audit_archives, audit_log to strongroom_admin, strongroom_auditor;
