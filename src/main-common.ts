import { createPrivateKey } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { createSigner, logOrigin, parseVerifier } from './audit/checkpoint.ts';
import { compareWithExportedHead, type HeadComparison, readHeads } from './audit/heads.ts';
import type { AuditWriter } from './audit/writer.ts';
import { StrongroomError } from './base/errors.ts';
import type { Config } from './config.ts';
import { Keyring } from './envelope/keyring.ts';
import type { Kms } from './envelope/kms.ts';
import { fingerprint } from './envelope/macs.ts';
import type { Log } from './redaction/logger.ts';
import { readSecret } from './secrets/read.ts';
import { storedHeads } from './store/audit-log.ts';
import { compareStamp, type Stamp, type StampDifference } from './store/deployment.ts';
import { dataKeyRows } from './store/keys.ts';
import type { Database, Sql } from './store/sql.ts';

/** What the roles share: their database login, their writer in the audit log, keys and the stamp. */

/** What a process can be; any of them together. */
export type Role = 'gateway' | 'admin' | 'worker';
export const ROLES: readonly Role[] = ['gateway', 'admin', 'worker'];

/** What every role has: its own database login and its own writer in the audit log. */
export interface Common {
  readonly config: Config;
  readonly log: Log;
  readonly role: Role;
  readonly database: Database;
  readonly audit: AuditWriter;
  readonly kms: Kms;
}

export interface Part {
  readonly url?: string;
  stop(): Promise<void>;
}

export async function signerOf(config: Config) {
  const pem = await readSecret(config.audit.signingKey);
  return createSigner(logOrigin(config.deployment.id), createPrivateKey(pem.reveal()));
}

export function keyringOf({
  config,
  database,
  audit,
  kms,
}: Pick<Common, 'config' | 'audit' | 'kms'> & { readonly database: Pick<Database, 'sql'> }): Keyring {
  return new Keyring({
    kms,
    rows: dataKeyRows(database.sql),
    deploymentId: config.deployment.id,
    environment: config.deployment.environment,
    cacheSeconds: config.kms.cache.seconds,
    cacheUses: config.kms.cache.uses,
    onUnwrap: async ({ dataKey, purpose, kek, code }) => {
      await audit.append('key.unwrapped', { data_key: dataKey, purpose, kek, code });
    },
  });
}

/**
 * What can be compared of the stamp before anything is unwrapped or written: a
 * database of somebody else must not even get an entry of ours. The Plaid secrets
 * are compared with {@link stampOf}, which needs a key.
 */
export function identityDifferences(
  config: Config,
  kms: Pick<Kms, 'keyId'>,
  stamped: Stamp,
): readonly StampDifference[] {
  return compareStamp(stamped, {
    deploymentId: config.deployment.id,
    environment: config.deployment.environment,
    plaidEnvironment: config.plaid.environment,
    kekId: kms.keyId,
    plaidClients: config.plaid.clients.map(({ clientId }) => {
      const known = stamped.plaidClients.find((client) => client.clientId === clientId);
      return known ?? { clientId, secretFingerprint: Buffer.alloc(0) };
    }),
  });
}

/** What the database knows beside the newest head in each file of `audit.heads`; files that are not there are left out. */
export async function compareHeads(
  config: Config,
  sql: Sql,
): Promise<{ readonly file: string; readonly compared: HeadComparison }[]> {
  const signer = await signerOf(config);
  const verifier = parseVerifier(signer.vkey);
  const all = [];
  for (const { file } of config.audit.heads) {
    if (file === undefined || verifier === null) continue;
    const heads = await readHeads(file, [verifier]).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    if (heads !== null)
      all.push({ file, compared: await compareWithExportedHead(heads, signer.name, storedHeads(sql)) });
  }
  return all;
}

/** What this configuration would stamp a database with. */
export async function stampOf(config: Config, kms: Kms, keyring: Keyring): Promise<Stamp> {
  const { key } = await keyring.current('fingerprint');
  const plaidClients = await Promise.all(
    config.plaid.clients.map(async ({ clientId, secret }) => ({
      clientId,
      secretFingerprint: fingerprint(key, await readSecret(secret)),
    })),
  );
  return {
    deploymentId: config.deployment.id,
    environment: config.deployment.environment,
    plaidEnvironment: config.plaid.environment,
    kekId: kms.keyId,
    plaidClients,
  };
}

export interface Listener {
  /** `http://127.0.0.1:7100`, or `unix:` and a path. */
  readonly url: string;
  /** Takes no connection any more and waits for the requests under way, at most so many milliseconds. */
  close(patienceMs: number): Promise<void>;
}

export async function listen(
  app: FastifyInstance,
  where: { host: string; port: number } | { path: string },
  scheme: 'http' | 'https',
): Promise<Listener> {
  const { server } = app;
  let underWay = 0;
  let closing = false;
  // Clients open connections in advance. To Node one that never had a request is
  // not idle, and the server would wait for it as for a request.
  const settle = () => {
    if (closing && underWay === 0) server.closeAllConnections();
  };
  server.on('request', (_request, response) => {
    underWay++;
    response.once('close', () => {
      underWay--;
      settle();
    });
  });
  try {
    await app.listen(where);
  } catch (error) {
    const place = 'path' in where ? where.path : `${where.host}:${where.port}`;
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new StrongroomError('LISTEN_FAILED', { detail: `${place}: ${reason}.`, reason }, error);
  }
  return {
    url: 'path' in where ? `unix:${where.path}` : originOf(app, where.host, scheme),
    async close(patienceMs) {
      closing = true;
      const closed = app.close();
      settle();
      await within(patienceMs, closed);
      server.closeAllConnections();
    },
  };
}

function originOf(app: FastifyInstance, host: string, scheme: 'http' | 'https'): string {
  const { port } = app.server.address() as AddressInfo;
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

export async function within(ms: number, work: PromiseLike<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, timeout]);
  clearTimeout(timer);
}
