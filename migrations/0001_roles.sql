-- What a process may be: five group roles without a login. An operator's logins
-- are each a member of exactly one; the schema belongs to whoever runs this.

-- Roles belong to the whole server, so several databases may make them at the
-- same moment, and an administrator may have made them beforehand (then the login
-- that migrates needs no CREATEROLE).
do $$
declare
  wanted text;
begin
  foreach wanted in array array['strongroom_gateway', 'strongroom_webhooks', 'strongroom_admin',
                                'strongroom_worker', 'strongroom_auditor']
  loop
    if not exists (select from pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin', wanted);
      exception when duplicate_object or unique_violation then
        null; -- another database was faster
      end;
    end if;
    if exists (select from pg_roles
                where rolname = wanted
                  and (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication or rolcanlogin)) then
      raise exception 'role % exists and may do more than a group role should', wanted
        using errcode = 'invalid_role_specification';
    end if;
  end loop;
end $$;

-- Nothing is for everybody. The first two hold for what later migrations make.
alter default privileges revoke execute on functions from public;
alter default privileges revoke usage on types from public;
revoke all on schema public from public;
-- Temporary tables are a place to put things and to shadow names; nobody needs one.
do $$
begin
  execute format('revoke create, temporary on database %I from public', current_database());
end $$;

grant usage on schema strongroom to
  strongroom_gateway, strongroom_webhooks, strongroom_admin, strongroom_worker, strongroom_auditor;

-- Made by the migration runner. Every process compares it with its own files at start.
grant select on migrations to
  strongroom_gateway, strongroom_webhooks, strongroom_admin, strongroom_worker, strongroom_auditor;
