import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';
import type { Meaning } from './config-schema.ts';
import { parseReference } from './secrets/reference.ts';

/**
 * What a text setting has to be beyond being text. Answers never repeat the
 * value: it may be a secret that stands in the wrong place.
 */

/** `problem` says what is wrong, `write` what to put there instead; both without a full stop. */
export interface Objection {
  readonly problem: string;
  readonly write: string;
}

/** Also for a value that is no text, such as a secret of digits only. */
export const LITERAL_ADVICE =
  'put the secret alone into a file of mode 0600 and write file:/path/to/that/file; ' +
  'if the secret itself stood here, replace it, for it is exposed';

export function objectionTo(meaning: Meaning, value: string): Objection | null {
  switch (meaning) {
    case 'reference': {
      const parsed = parseReference(value);
      return parsed.ok ? null : { problem: parsed.says, write: LITERAL_ADVICE };
    }
    case 'path':
      return pathObjection(value, 'write an absolute path');
    case 'destination':
      if (value === 'stdout' || value === 'stderr') return null;
      return pathObjection(value, 'write stdout, stderr or an absolute path');
    case 'host':
      if (isIP(value) !== 0 || value === 'localhost') return null;
      return { problem: 'this is not an IP address', write: 'write 127.0.0.1, or 0.0.0.0 or :: for every interface' };
    case 'cidr':
      return cidrObjection(value);
    case 'origin':
      return originObjection(value);
    case 'url':
      return urlObjection(value);
    case 'databaseUrl':
      return databaseUrlObjection(value);
  }
}

/** Advice for a setting of this meaning that holds no text at all. */
export function adviceFor(meaning: Meaning): string {
  switch (meaning) {
    case 'reference':
      return 'write file:/path/to/a/file of mode 0600 that holds the secret alone';
    case 'path':
      return 'write an absolute path';
    case 'destination':
      return 'write stdout, stderr or an absolute path';
    case 'host':
      return 'write an IP address, for example 127.0.0.1';
    case 'cidr':
      return 'write a CIDR, for example 10.0.0.0/8';
    case 'origin':
      return 'write an origin, for example https://plaid.example';
    case 'url':
      return 'write a URL, for example https://heads.example/strongroom';
    case 'databaseUrl':
      return 'write postgres://host:5432/strongroom';
  }
}

function pathObjection(value: string, write: string): Objection | null {
  if (value.includes('\0')) return { problem: 'a path holds no NUL', write };
  return isAbsolute(value) ? null : { problem: 'this is not an absolute path', write };
}

function cidrObjection(value: string): Objection | null {
  const [address = '', bits = '', ...rest] = value.split('/');
  const family = isIP(address);
  const write = 'write a CIDR, for example 10.0.0.0/8';
  if (family !== 0 && bits === '') {
    return { problem: 'the prefix length is missing', write: `add ${family === 4 ? '/32' : '/128'} for one address` };
  }
  const most = family === 4 ? 32 : 128;
  if (family === 0 || rest.length > 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > most) {
    return { problem: 'this is not a CIDR', write };
  }
  if (Number(bits) === 0) {
    return {
      problem: 'this trusts every address',
      write: 'name the proxies; whoever is trusted can pretend any address',
    };
  }
  return null;
}

function originObjection(value: string): Objection | null {
  const write = 'write scheme, host and port only, for example https://plaid.example:8443';
  const url = parseUrl(value);
  if (url === null) return { problem: 'this is not a URL', write };
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    return { problem: 'only http and https are spoken', write };
  if (hasCredentials(url)) return { problem: 'a URL in the configuration holds no credentials', write };
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    return { problem: 'an origin has no path and no query', write };
  }
  return null;
}

function urlObjection(value: string): Objection | null {
  const write = 'write an https:// URL without credentials';
  const url = parseUrl(value);
  if (url === null) return { problem: 'this is not a URL', write };
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    return { problem: 'only http and https are spoken', write };
  if (hasCredentials(url)) return { problem: 'a URL in the configuration holds no credentials', write };
  return null;
}

function databaseUrlObjection(value: string): Objection | null {
  const write = 'write postgres://host:5432/strongroom; logins stand in database.logins, by reference';
  const url = parseUrl(value);
  if (url === null) return { problem: 'this is not a URL', write };
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') {
    return { problem: 'only PostgreSQL is supported', write };
  }
  if (hasCredentials(url))
    return { problem: 'a database URL in the configuration holds no user and no password', write };
  // The driver knows `sslmode` and more; they would switch off what database.tls says.
  const parameters = [...url.searchParams.keys()];
  if (parameters.some((name) => name !== 'host') || parameters.length > 1 || url.hash !== '') {
    return { problem: 'only the parameter `host` (a socket folder) is allowed', write };
  }
  const socket = url.searchParams.get('host');
  if (socket === null ? url.hostname === '' : url.hostname !== '' || !isAbsolute(socket)) {
    return {
      problem: 'the URL names no server',
      write: 'write postgres://host:5432/strongroom, or postgres:///strongroom?host=/run/postgresql',
    };
  }
  if (!/^\/[A-Za-z_][A-Za-z0-9_$-]{0,62}$/.test(url.pathname)) return { problem: 'the URL names no database', write };
  return null;
}

function parseUrl(value: string): URL | null {
  try {
    return new URL(value);
  } catch {
    return null;
  }
}

function hasCredentials(url: URL): boolean {
  return url.username !== '' || url.password !== '';
}

/** Whether an address (or a URL's host name) is this machine. A name counts only when it is `localhost`. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}
