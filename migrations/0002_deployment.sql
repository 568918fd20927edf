-- The stamp: which deployment this database belongs to. Written once, compared at
-- every start, so that no configuration can be pointed at a foreign database.

create table deployment (
  -- At most one row.
  only_one          boolean primary key default true check (only_one),
  deployment_id     text not null check (length(deployment_id) between 1 and 64),
  environment       text not null check (environment in ('development', 'staging', 'production')),
  plaid_environment text not null check (plaid_environment in ('sandbox', 'production')),
  -- Names the key-encryption key, e.g. an ARN. Not secret.
  kek_id            text not null check (length(kek_id) between 1 and 2048),
  stamped_at        timestamptz not null default now(),
  check (environment <> 'production' or plaid_environment = 'production'),
  check (environment <> 'development' or plaid_environment = 'sandbox')
);

create table deployment_plaid_clients (
  plaid_client_id    text primary key check (length(plaid_client_id) between 1 and 64),
  only_one           boolean not null default true references deployment (only_one),
  -- HMAC of the Plaid secret. Plaid's client_id is the same in all its
  -- environments; only this tells them apart.
  secret_fingerprint bytea not null check (octet_length(secret_fingerprint) between 16 and 32),
  stamped_at         timestamptz not null default now()
);

grant select on deployment, deployment_plaid_clients to
  strongroom_gateway, strongroom_webhooks, strongroom_admin, strongroom_worker, strongroom_auditor;
-- No update and no delete for anybody: a stamp stays.
grant insert (deployment_id, environment, plaid_environment, kek_id) on deployment to strongroom_worker;
grant insert (plaid_client_id, secret_fingerprint) on deployment_plaid_clients to strongroom_worker;
