import { parse, stringify } from 'yaml';

/** A configuration that passes: development on an own server, with every section written. */
export const GOOD = `
deployment:
  id: acme-dev
  environment: development
plaid:
  environment: sandbox
  clients:
    - name: default
      clientId: 0123456789abcdef01234567
      secret: file:/secrets/plaid
  upstream: http://127.0.0.1:7102
database:
  url: postgres://db.internal:5432/strongroom
  logins:
    gateway: { user: sr_gateway, password: "file:/secrets/db-gateway" }
    admin: { user: sr_admin, password: "file:/secrets/db-admin" }
    worker: { user: sr_worker, password: "file:/secrets/db-worker" }
kms:
  provider: file
  file:
    path: /secrets/kek
listeners:
  gateway:
    port: 7100
    trustedProxies: [10.0.0.0/8]
  admin:
    port: 7101
    token: file:/secrets/admin-token
audit:
  signingKey: file:/secrets/audit-key
  heads:
    - file: /var/lib/strongroom/heads.log
`.trimStart();

/**
 * The good file with some settings changed: `{'plaid.environment': 'production'}`;
 * undefined takes a setting out.
 */
export function changed(changes: Readonly<Record<string, unknown>>, base = GOOD): string {
  const tree = parse(base) as Record<string, unknown>;
  for (const [path, value] of Object.entries(changes)) {
    const keys = path.split('.');
    const last = keys.pop() as string;
    let at: Record<string, unknown> = tree;
    for (const key of keys) {
      at[key] ??= {};
      at = at[key] as Record<string, unknown>;
    }
    if (value === undefined) delete at[last];
    else at[last] = value;
  }
  return stringify(tree);
}

/** As near to production as this version comes: what remains is refused for want of a key service and a secrets manager. */
export const PRODUCTION = changed({
  'deployment.environment': 'production',
  'plaid.environment': 'production',
  'plaid.upstream': undefined,
});
