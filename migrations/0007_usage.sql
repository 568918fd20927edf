-- Usage: exact counters over all replicas, for day quotas and budgets.
-- Hours and days are UTC, by the database's clock.

create table usage_days (
  application_id text not null references applications (id),
  day            date not null,
  calls          bigint not null default 0,
  removals       integer not null default 0,
  rotations      integer not null default 0,
  primary key (application_id, day)
) with (fillfactor = 50); -- one hot row per application: room for its new versions on the same page

create table usage_hours (
  application_id text not null references applications (id),
  hour           timestamptz not null,
  items          integer not null default 0,
  primary key (application_id, hour)
) with (fillfactor = 50);

create table usage_hour_items (
  application_id text not null,
  hour           timestamptz not null,
  record_id      uuid not null,
  primary key (application_id, hour, record_id)
);

-- Counts a group of calls, each as a whole or not at all, and answers for each
-- what it does not fit ('calls', 'items', 'removals', 'rotations'; null: it fits).
--
-- p_hour (hours since 1970) is the hour for which the caller has left out records
-- that it knows to be counted. When that is not the current hour nothing is
-- counted and `exceeded` is null as a whole: the caller forgets what it knew and
-- asks again.
--
-- The arrays run in parallel, one element per call, but for p_record: all records
-- one after the other, of which call i has the p_records[i] that start at
-- p_first_record[i] (from 1), each once.
--
-- Race-free: the day row of each application is locked first, in the order of
-- ids, so that two groups queue and never deadlock; everything else of that
-- application is only written under that lock.
--
-- Commits without waiting for the disk: whoever calls this makes a durable audit
-- entry next, and that commit flushes this one, which is earlier in the same log.
-- Lost in a crash is then only the counting of calls that were never admitted.
-- Therefore: a statement of its own, never part of a larger transaction.
create function reserve_usage(
  p_hour integer,
  p_application text[], p_removals integer[], p_rotations integer[],
  p_max_calls bigint[], p_max_items integer[], p_max_removals integer[], p_max_rotations integer[],
  p_first_record integer[], p_records integer[], p_record uuid[],
  out current_hour integer, out exceeded text[])
  language plpgsql security definer set search_path = strongroom, pg_temp
  -- Look-ups by primary key, always: plans are kept per connection, and one made
  -- while these tables were small would read them whole for ever after.
  set enable_seqscan = off
as $$
declare
  v_day          date := (now() at time zone 'UTC')::date;
  v_hour         timestamptz := date_trunc('hour', now(), 'UTC');
  v_application  text;
  v_call         integer;
  v_calls        bigint;
  v_removals     integer;
  v_rotations    integer;
  v_items        integer;
  v_items_before integer;
  v_fresh        uuid[];
  v_at           integer;
begin
  perform set_config('synchronous_commit', 'off', true);
  current_hour := (extract(epoch from v_hour) / 3600)::integer;
  if p_hour is distinct from current_hour then
    return;
  end if;
  exceeded := array_fill(null::text, array[cardinality(p_application)]);

  for v_application in select distinct a from unnest(p_application) a order by a loop
    select d.calls, d.removals, d.rotations into v_calls, v_removals, v_rotations
      from usage_days d where d.application_id = v_application and d.day = v_day for update;
    if not found then
      -- Waits for a concurrent first call of the day, then takes over its row.
      insert into usage_days (application_id, day) values (v_application, v_day) on conflict do nothing;
      select d.calls, d.removals, d.rotations into strict v_calls, v_removals, v_rotations
        from usage_days d where d.application_id = v_application and d.day = v_day for update;
    end if;
    v_items_before := null; -- read when the first uncounted record comes up

    for v_call in select i from generate_subscripts(p_application, 1) i where p_application[i] = v_application order by i loop
      if v_calls + 1 > p_max_calls[v_call] then
        exceeded[v_call] := 'calls';
        continue;
      end if;
      if p_removals[v_call] > 0 and v_removals + p_removals[v_call] > p_max_removals[v_call] then
        exceeded[v_call] := 'removals';
        continue;
      end if;
      if p_rotations[v_call] > 0 and v_rotations + p_rotations[v_call] > p_max_rotations[v_call] then
        exceeded[v_call] := 'rotations';
        continue;
      end if;

      if p_records[v_call] > 0 then
        if v_items_before is null then
          select coalesce((select h.items from usage_hours h where h.application_id = v_application and h.hour = v_hour), 0)
            into v_items_before;
          v_items := v_items_before;
        end if;
        v_fresh := '{}';
        -- One by one: a join would leave the planner a choice, and without statistics
        -- it chose to read the whole hour.
        for v_at in p_first_record[v_call] .. p_first_record[v_call] + p_records[v_call] - 1 loop
          if not exists (select from usage_hour_items u
                          where u.application_id = v_application and u.hour = v_hour and u.record_id = p_record[v_at]) then
            v_fresh := v_fresh || p_record[v_at];
          end if;
        end loop;
        if cardinality(v_fresh) > 0 then
          if v_items + cardinality(v_fresh) > p_max_items[v_call] then
            exceeded[v_call] := 'items';
            continue;
          end if;
          insert into usage_hour_items (application_id, hour, record_id)
            select v_application, v_hour, unnest(v_fresh);
          v_items := v_items + cardinality(v_fresh);
        end if;
      end if;

      v_calls := v_calls + 1;
      v_removals := v_removals + p_removals[v_call];
      v_rotations := v_rotations + p_rotations[v_call];
    end loop;

    update usage_days d set calls = v_calls, removals = v_removals, rotations = v_rotations
     where d.application_id = v_application and d.day = v_day;
    if v_items_before is not null and v_items > v_items_before then
      insert into usage_hours as h (application_id, hour, items) values (v_application, v_hour, v_items)
        on conflict (application_id, hour) do update set items = excluded.items;
    end if;
  end loop;
end $$;
revoke all on function reserve_usage from public;
grant execute on function reserve_usage to strongroom_gateway;

-- Which record was used in which hour is kept for two hours, the counts for 400 days.
create function prune_usage() returns void
  language sql security definer set search_path = strongroom, pg_temp
as $$
  delete from usage_hour_items where hour < now() - interval '2 hours';
  delete from usage_hours where hour < now() - interval '400 days';
  delete from usage_days where day < (now() - interval '400 days')::date;
$$;
revoke all on function prune_usage() from public;
grant execute on function prune_usage() to strongroom_worker;

grant select on usage_days, usage_hours to strongroom_admin, strongroom_worker, strongroom_auditor;
