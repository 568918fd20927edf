import { isIP } from 'node:net';
import pg from 'pg';
import { StrongroomError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';

/**
 * How one connection to PostgreSQL is made: where, as whom, over what, and with
 * which session settings. Nothing here comes from the environment or from
 * ~/.pgpass: every parameter that the driver would look up there is set.
 */

/** What a process connects as. Each is a group role `strongroom_<name>` made by migration 0001. */
export const DATABASE_ROLES = ['gateway', 'webhooks', 'admin', 'worker', 'auditor'] as const;
export type DatabaseRole = (typeof DATABASE_ROLES)[number];

/** Server certificate and host name are always verified; these only say against what. */
export interface DatabaseTls {
  /** PEM of the authorities to trust in place of the system's. */
  readonly authorities?: string;
  /** PEM of a client certificate and its key. */
  readonly certificate?: string;
  readonly key?: Secret<string>;
}

export interface ConnectionOptions {
  /** Name or address, or the absolute folder of a unix socket. */
  readonly host: string;
  /** Default 5432. */
  readonly port?: number;
  readonly database: string;
  readonly user: string;
  readonly password: Secret<string>;
  /**
   * Default: none needed over a unix socket, else verified TLS with the system's
   * authorities. `off` is taken for loopback addresses only (a proxy that speaks
   * TLS for us), else `DATABASE_UNFIT`.
   */
  readonly tls?: DatabaseTls | 'off';
  /** Shown in pg_stat_activity. Default `strongroom`. */
  readonly applicationName?: string;
  /** Milliseconds a statement may run before the server cancels it; 0: no limit. Default 10,000. */
  readonly statementTimeoutMs?: number;
  /** Milliseconds to wait for a connection, new or of the pool. Default 5,000. */
  readonly connectTimeoutMs?: number;
}

const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 10_000;
/** How much longer than the server we wait for its answer before we give up the connection. */
const ANSWER_GRACE_MS = 3_000;

/**
 * Session settings as start-up options, which beat whatever ALTER ROLE or ALTER
 * DATABASE has set. `pg_temp` stands last, so that nothing temporary can shadow
 * a table; pg_catalog comes first by itself.
 */
const SESSION = {
  search_path: 'strongroom,pg_temp',
  synchronous_commit: 'on',
  client_encoding: 'UTF8',
  datestyle: 'ISO',
  timezone: 'UTC',
  bytea_output: 'hex',
  standard_conforming_strings: 'on',
  idle_in_transaction_session_timeout: '15000',
};

/**
 * The driver's configuration. Numbers: int8 becomes a JavaScript number, and a
 * value beyond 2^53 fails the query (`INTERNAL`) rather than being rounded;
 * numeric stays text; bytea is a Buffer; timestamptz a Date (milliseconds); date
 * and timestamp stay text, since reading them needs a time zone.
 */
export function driverConfig(
  options: ConnectionOptions,
  settings: Readonly<Record<string, string>> = {},
): pg.ClientConfig {
  const statementTimeout = options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS;
  const session = { ...SESSION, statement_timeout: String(statementTimeout), ...settings };
  return {
    host: options.host,
    port: options.port ?? 5432,
    database: options.database,
    user: options.user,
    password: () => options.password.reveal(),
    ssl: tlsFor(options),
    application_name: options.applicationName ?? 'strongroom',
    options: Object.entries(session)
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' '),
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    // Against a network that swallows packets: the server's own limit never reaches us then.
    ...(statementTimeout > 0 ? { query_timeout: statementTimeout + ANSWER_GRACE_MS } : {}),
    types: { getTypeParser: parserFor as typeof pg.types.getTypeParser },
  };
}

function tlsFor({ host, tls }: ConnectionOptions): pg.ClientConfig['ssl'] {
  if (host.startsWith('/')) return false;
  if (tls === 'off') {
    if (isLoopback(host)) return false;
    throw new StrongroomError('DATABASE_UNFIT', {
      detail: 'TLS can be off only for a loopback address or a unix socket.',
    });
  }
  return {
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    ...(tls?.authorities === undefined ? {} : { ca: tls.authorities }),
    ...(tls?.certificate === undefined ? {} : { cert: tls.certificate }),
    ...(tls?.key === undefined ? {} : { key: tls.key.reveal() }),
  };
}

function isLoopback(host: string): boolean {
  if (host === 'localhost' || host === '::1') return true;
  return isIP(host) === 4 && host.startsWith('127.');
}

const { builtins } = pg.types;
const asText = (value: string) => value;

function parserFor(oid: number, format?: 'text' | 'binary'): unknown {
  if (oid === builtins.INT8) return exactInteger;
  if (oid === builtins.DATE || oid === builtins.TIMESTAMP) return asText;
  return pg.types.getTypeParser(oid, format as 'text');
}

function exactInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError('int8 beyond 2^53');
  return value;
}

export interface DatabaseAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** Null when the address names none. */
  readonly user: string | null;
  readonly password: Secret<string> | null;
}

/**
 * Reads `postgresql://[user[:password]@]host[:port]/database` or, for a unix
 * socket, `postgresql://[user@]/database?host=/folder[&port=5432]`.
 *
 * @throws StrongroomError `CONFIG_INVALID` for anything else, also for options
 *   in the query: TLS is configured beside the address. Never quotes the text,
 *   which may hold a password.
 */
export function parseDatabaseUrl(text: string): DatabaseAddress {
  // The URL parser takes user info only together with a host.
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^@/?#]*)\/([^/?#]+)(?:\?([^#]*))?$/.exec(text);
  if (match === null) throw invalidUrl('write postgresql://host:5432/database');
  const [, userInfo = '', authority = '', database = '', query = ''] = match;
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (name !== 'host' && name !== 'port') throw invalidUrl('the query takes only host and port');
  }
  const [, named = '', namedPort] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(authority) ?? [];
  const host = parameters.get('host') ?? decode(named).replace(/^\[|\]$/g, '');
  const port = Number(parameters.get('port') ?? namedPort ?? 5432);
  if (host === '') throw invalidUrl('it names no host');
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalidUrl('the port is a number from 1 to 65535');
  const colon = userInfo.indexOf(':');
  const user = decode(colon < 0 ? userInfo : userInfo.slice(0, colon));
  const password = colon < 0 ? null : new Secret(decode(userInfo.slice(colon + 1)));
  return { host, port, database: decode(database), user: user === '' ? null : user, password };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalidUrl('a % stands alone');
  }
}

function invalidUrl(why: string): StrongroomError {
  return new StrongroomError('CONFIG_INVALID', { detail: `The database URL is not understood: ${why}.` });
}
