import { readFileSync } from 'node:fs';
import { StrongroomError } from '../base/errors.ts';
import type { Config } from '../config.ts';
import type { Role } from '../main.ts';
import { readSecret } from '../secrets/read.ts';
import type { ConnectionOptions } from '../store/connection.ts';

/**
 * How each role reaches a PostgreSQL server of your own: the place from
 * `database.url`, the login from `database.logins`.
 */

type Login = Role | 'owner' | 'auditor';

/**
 * @throws StrongroomError `CONFIG_INVALID` when a login is missing; `SECRET_UNREADABLE`.
 */
export async function connectionsOf<L extends Login>(
  config: Config,
  logins: readonly L[],
): Promise<(login: L) => ConnectionOptions> {
  const place = placeOf(config);
  const made = new Map<L, ConnectionOptions>();
  for (const name of logins) {
    const login = config.database.logins?.[name];
    if (login === undefined) {
      throw new StrongroomError('CONFIG_INVALID', {
        detail: `database.logins.${name} is missing: ${name === 'owner' ? '`strongroom migrate`' : `the role ${name}`} needs it.`,
      });
    }
    made.set(name, { ...place, user: login.user, password: await readSecret(login.password) });
  }
  return (login) => made.get(login) as ConnectionOptions;
}

function placeOf(config: Config): Pick<ConnectionOptions, 'host' | 'port' | 'database' | 'tls'> {
  const { url, tls, ca } = config.database;
  if (url === undefined) {
    throw new StrongroomError('CONFIG_INVALID', {
      detail:
        'database.url is missing: `strongroom serve` runs on your own PostgreSQL, `strongroom dev` on the embedded one.',
    });
  }
  const parsed = new URL(url);
  const socket = parsed.searchParams.get('host');
  return {
    host: socket ?? parsed.hostname.replace(/^\[|\]$/g, ''),
    port: Number(parsed.searchParams.get('port') ?? (parsed.port === '' ? 5432 : parsed.port)),
    database: decodeURIComponent(parsed.pathname.slice(1)),
    ...(tls === 'off'
      ? { tls: 'off' as const }
      : ca === undefined
        ? {}
        : { tls: { authorities: readFileSync(ca, 'utf8') } }),
  };
}
