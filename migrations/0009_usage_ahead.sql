-- A busy replica may count calls of an application ahead of their coming, and
-- gives back what did not come. It then asks once for many calls.
--
-- p_ahead runs in parallel with the calls: so many more calls are counted behind
-- this one, if sixteen times as many are left of its quota. `ahead` says how many
-- were. All else is as it was in 0007.

drop function reserve_usage(integer, text[], integer[], integer[], bigint[], integer[], integer[], integer[],
                            integer[], integer[], uuid[]);

create function reserve_usage(
  p_hour integer,
  p_application text[], p_removals integer[], p_rotations integer[],
  p_max_calls bigint[], p_max_items integer[], p_max_removals integer[], p_max_rotations integer[],
  p_first_record integer[], p_records integer[], p_record uuid[], p_ahead integer[],
  out current_hour integer, out exceeded text[], out ahead integer[])
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
  ahead := array_fill(0, array[cardinality(p_application)]);

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

      if p_ahead[v_call] > 0 and v_calls + 16 * p_ahead[v_call] <= p_max_calls[v_call] then
        v_calls := v_calls + p_ahead[v_call];
        ahead[v_call] := p_ahead[v_call];
      end if;
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

-- Takes back what was counted ahead in the hour p_hour, and no more than stands there.
create function return_usage(p_hour integer, p_application text, p_calls integer) returns void
  language sql security definer set search_path = strongroom, pg_temp
as $$
  select set_config('synchronous_commit', 'off', true);
  update usage_days set calls = greatest(calls - greatest(p_calls, 0), 0)
   where application_id = p_application and day = (to_timestamp(p_hour * 3600.0) at time zone 'UTC')::date;
$$;
revoke all on function return_usage from public;
grant execute on function return_usage to strongroom_gateway;
