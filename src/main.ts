import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import { digestOf } from './access/credentials.ts';
import { Refusals, TokenBuckets } from './access/rate.ts';
import { AddressSet, clientAddress } from './access/source.ts';
import { createSigner, logOrigin, parseVerifier } from './audit/checkpoint.ts';
import {
  compareWithExportedHead,
  fileDestination,
  type HeadDestination,
  httpDestination,
  readHeads,
  startHeadExport,
} from './audit/heads.ts';
import { startSequencer } from './audit/sequencer-loop.ts';
import { type AuditWriter, startAuditWriter } from './audit/writer.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import { codeOf, StrongroomError } from './base/errors.ts';
import type { Config } from './config.ts';
import { Answers } from './custody/answers.ts';
import { Applications } from './custody/applications.ts';
import { Authentication } from './custody/authentication.ts';
import { Exchange } from './custody/exchange.ts';
import { Forward } from './custody/forward.ts';
import { Gateway } from './custody/gateway.ts';
import { Lookup } from './custody/lookup.ts';
import { OPERATION_LEASE_MS } from './custody/operation.ts';
import { PlaidClients } from './custody/plaid-clients.ts';
import { Removal } from './custody/removal.ts';
import { Rotation } from './custody/rotation.ts';
import { sweep, tidy } from './custody/sweep.ts';
import { Vault } from './custody/vault.ts';
import { Keyring } from './envelope/keyring.ts';
import type { Kms } from './envelope/kms.ts';
import { fileKms } from './envelope/kms-file.ts';
import { fingerprint } from './envelope/macs.ts';
import { ADMIN_SERVER, adminDoor } from './http/admin.ts';
import { auditRoutes } from './http/admin-audit.ts';
import { itemRoutes } from './http/admin-items.ts';
import { gatewayListener } from './http/gateway.ts';
import { declareEndpoint, ENDPOINTS } from './plaid/endpoints.ts';
import { createUpstream } from './plaid/upstream.ts';
import type { Log } from './redaction/logger.ts';
import { readSecret } from './secrets/read.ts';
import { loadApplication, versionsOf } from './store/applications.ts';
import { auditWriterStore, leaseSequencer } from './store/audit.ts';
import { newestCheckpoint, recordHead, storedHeads } from './store/audit-log.ts';
import type { ConnectionOptions } from './store/connection.ts';
import { readStamp, requireSameStamp, type Stamp, stampOnce } from './store/deployment.ts';
import { dataKeyRows } from './store/keys.ts';
import { requireCurrentSchema } from './store/migrate.ts';
import { checkLogin, checkServer } from './store/server-checks.ts';
import { type Database, openDatabase } from './store/sql.ts';
import { UsageReservations } from './store/usage.ts';

/**
 * The composition root: takes a checked configuration, builds the parts of each
 * role, starts listeners and workers, and stops them in order. It decides nothing.
 */

export type Role = 'gateway' | 'admin' | 'worker';
export const ROLES: readonly Role[] = ['gateway', 'admin', 'worker'];

export interface StartOptions {
  readonly config: Config;
  readonly roles: readonly Role[];
  /** How each role reaches the database. */
  readonly connection: (role: Role) => ConnectionOptions;
  readonly log: Log;
}

export interface Strongroom {
  /** Base URL of the gateway, null when the role does not run here. */
  readonly gatewayUrl: string | null;
  readonly adminUrl: string | null;
  /** Stops listening, finishes what is under way (at most limits.shutdownMs), closes. May be called twice. */
  stop(): Promise<void>;
}

/** What every role has: its own database login and its own writer in the audit log. */
interface Common {
  readonly config: Config;
  readonly log: Log;
  readonly role: Role;
  readonly database: Database;
  readonly audit: AuditWriter;
  readonly kms: Kms;
}

interface Part {
  readonly url?: string;
  stop(): Promise<void>;
}

/**
 * Starts the given roles in this process.
 *
 * @throws StrongroomError with everything that was started stopped again:
 *   DATABASE_UNFIT, DATABASE_ROLE_UNFIT, SCHEMA_OLDER, SCHEMA_NEWER, STAMP_MISMATCH,
 *   KEK_MISSING, KEK_WRONG, AUDIT_BROKEN (the database is behind an exported head),
 *   SECRET_UNREADABLE, LISTEN_FAILED, DATABASE_UNAVAILABLE, AUDIT_UNAVAILABLE.
 */
export async function startStrongroom(options: StartOptions): Promise<Strongroom> {
  const { config, log } = options;
  const stopped: (() => Promise<void>)[] = [];
  const stop = async () => {
    for (const step of stopped.splice(0).reverse()) {
      await step().catch((error: unknown) =>
        log.error({ code: codeOf(error), err: error }, 'a part did not stop well'),
      );
    }
  };
  try {
    const kms = await fileKms(config.kms.file?.path ?? '');
    const urls = new Map<Role, string>();
    // The worker first: it makes the keys and the stamp that the others look for.
    for (const role of ['worker', 'gateway', 'admin'] as const) {
      if (!options.roles.includes(role)) continue;
      const common = await openCommon(options, role, kms, stopped);
      const part = await START[role](common);
      stopped.push(() => part.stop());
      if (part.url !== undefined) urls.set(role, part.url);
    }
    return { gatewayUrl: urls.get('gateway') ?? null, adminUrl: urls.get('admin') ?? null, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function openCommon(
  { config, log, connection }: StartOptions,
  role: Role,
  kms: Kms,
  stopped: (() => Promise<void>)[],
): Promise<Common> {
  const production = config.deployment.environment === 'production';
  const database = await openDatabase({
    ...connection(role),
    role,
    poolSize: config.database.poolSize,
    applicationName: `strongroom ${role}`,
    statementTimeoutMs: config.database.statementMs,
    onLost: (error) => log.warn({ role, ...error.facts }, 'a database connection was lost'),
  });
  stopped.push(() => database.close());
  await checkServer(database.sql, { production, durability: DURABILITY[config.database.topology] });
  const strict = config.deployment.environment !== 'development';
  for (const finding of await checkLogin(database.sql, role, strict))
    log.warn({ role, reason: finding }, 'database login');
  await requireCurrentSchema(database.sql);
  if (role !== 'admin') await compareHeads(config, database);

  const audit = await startAuditWriter({
    store: auditWriterStore(database.sql),
    deploymentId: config.deployment.id,
    role,
    random: systemRandom,
    clock: systemClock,
    onProblem: (problem) => {
      const { error } = problem as { error?: unknown };
      log[problem.event === 'recovered' ? 'info' : 'error'](
        { role, operation: problem.event, err: error },
        'audit log',
      );
    },
  });
  stopped.push(() => audit.close());
  return { config, log, role, database, audit, kms };
}

const DURABILITY = {
  single: 'single_node',
  replicated: 'synchronous_standbys',
  managed: 'managed_synchronous',
} as const;

/**
 * A database that is behind a head which left it was put back to an older state:
 * rotations since then would be undone by using it. A person has to look first.
 */
async function compareHeads(config: Config, database: Database): Promise<void> {
  const signer = await signerOf(config);
  const verifier = parseVerifier(signer.vkey);
  for (const { file } of config.audit.heads) {
    if (file === undefined || verifier === null) continue;
    const heads = await readHeads(file, [verifier]).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    if (heads === null) continue;
    const compared = await compareWithExportedHead(heads, signer.name, storedHeads(database.sql));
    if (compared.state === 'behind' || compared.state === 'forked') {
      throw new StrongroomError('AUDIT_BROKEN', {
        file,
        detail: `The database is ${compared.state}: it has ${compared.stored} entries, a head of ${compared.exported} left it earlier (${file}).`,
      });
    }
  }
}

async function signerOf(config: Config) {
  const pem = await readSecret(config.audit.signingKey);
  return createSigner(logOrigin(config.deployment.id), createPrivateKey(pem.reveal()));
}

function keyringOf({ config, database, audit, kms }: Common): Keyring {
  return new Keyring({
    kms,
    rows: dataKeyRows(database.sql),
    deploymentId: config.deployment.id,
    environment: config.deployment.environment,
    cacheSeconds: config.kms.cache.seconds,
    cacheUses: config.kms.cache.uses,
    onUnwrap: async ({ dataKey, purpose, kek }) => {
      await audit.append('key.unwrapped', { data_key: dataKey, purpose, kek });
    },
  });
}

/** What this configuration would stamp a database with. */
async function stampOf(config: Config, kms: Kms, keyring: Keyring): Promise<Stamp> {
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

const START: Readonly<Record<Role, (common: Common) => Promise<Part>>> = {
  worker: startWorker,
  gateway: startGateway,
  admin: startAdmin,
};

const SWEEP_MS = 5_000;
const TIDY_MS = 3_600_000;

async function startWorker(common: Common): Promise<Part> {
  const { config, log, database, audit, kms } = common;
  const keyring = keyringOf(common);
  for (const purpose of ['fingerprint', 'index', 'record'] as const) {
    const { dataKey, created } = await keyring.ensure(purpose);
    if (created) await audit.append('key.created', { data_key: dataKey.id, purpose, kek: kms.keyId });
  }
  const stamp = await stampOf(config, kms, keyring);
  const before = await readStamp(database.sql);
  requireSameStamp(before ?? (await stampOnce(database, stamp)), stamp);
  if (before === null) {
    await audit.append('deployment.stamped', {
      environment: stamp.environment,
      plaid_environment: stamp.plaidEnvironment,
      kek: kms.keyId,
    });
  }

  const sequencer = startSequencer({
    lease: () => leaseSequencer(database),
    signer: await signerOf(config),
    onGap: async (gap) => {
      log.error({ component: 'audit', reason: gap.reason, writer: gap.writer }, 'AUDIT_BROKEN: the log has a gap');
      await audit.append('audit.gap', gap);
    },
    intervalMs: Math.min(config.audit.checkpointIntervalMs / 2, 500),
    onProblem: (error) =>
      log.warn({ component: 'sequencer', code: codeOf(error), err: error }, 'the sequencer starts anew'),
  });
  const heads = startHeadExport({
    latest: () => newestCheckpoint(database.sql),
    destinations: config.audit.heads.map(destinationOf),
    record: (size, destination) => recordHead(database.sql, size, destination),
    clock: systemClock,
    intervalMs: config.audit.headIntervalMs,
    onProblem: (destination, error) =>
      log.warn({ component: 'heads', origin: destination, err: error }, 'a signed head could not leave'),
  });
  const sweeping = every(SWEEP_MS, async () => {
    const { uncertain, orphans } = await sweep(database, audit);
    if (uncertain + orphans > 0) log.error({ component: 'sweep', count: uncertain + orphans }, 'unsettled operations');
  });
  const tidying = every(TIDY_MS, () => tidy(database));

  function every(ms: number, work: () => Promise<void>): { stop(): Promise<void> } {
    let running: Promise<void> = Promise.resolve();
    const turn = () => {
      running = running.then(work).catch((error: unknown) => {
        log.warn({ component: 'worker', code: codeOf(error), err: error }, 'a periodic job failed and will run again');
      });
    };
    turn();
    const timer = setInterval(turn, ms).unref();
    return {
      async stop() {
        clearInterval(timer);
        await running;
      },
    };
  }

  return {
    async stop() {
      await Promise.all([sweeping.stop(), tidying.stop()]);
      await sequencer.stop();
      await heads.stop();
      keyring.drop();
    },
  };
}

function destinationOf({ file, url }: { file?: string; url?: string }): HeadDestination {
  return url === undefined ? fileDestination(file ?? '') : httpDestination(url);
}

async function startGateway(common: Common): Promise<Part> {
  const { config, log, database, audit, kms } = common;
  const keyring = keyringOf(common);
  const stamp = await readStamp(database.sql);
  if (stamp === null) {
    throw new StrongroomError('STAMP_MISMATCH', {
      detail: 'The database has no stamp yet: start the worker role first.',
    });
  }
  requireSameStamp(stamp, await stampOf(config, kms, keyring));
  // Fetched now, so that a key service that refuses is found at start and not by the first caller.
  for (const purpose of ['index', 'record'] as const) await keyring.current(purpose);

  const { plaid, limits } = config;
  const vault = new Vault({
    database,
    keyring,
    audit,
    random: systemRandom,
    deploymentId: config.deployment.id,
    plaidEnvironment: plaid.environment,
    alarm: (what, facts) => log.error({ component: 'vault', ...facts }, what),
  });
  const clients = new PlaidClients(
    plaid.clients.map(({ name, clientId, secret }) => ({ name, clientId, fetch: () => readSecret(secret) })),
    audit,
    systemClock,
  );
  const upstream = createUpstream({
    environment: plaid.environment,
    ...(plaid.upstream === undefined ? {} : { origin: plaid.upstream }),
    connections: limits.upstreamConnections,
    totalMs: limits.upstreamMs,
    headersMs: limits.upstreamMs,
    bufferBytes: limits.bufferedAnswerBytes,
    answerBytes: limits.answerBytes,
  });
  const answers = new Answers({ vault, database });
  const forward = new Forward({ vault, upstream, clients, answers, audit, database, clock: systemClock });
  const operations = { database, audit, vault, random: systemRandom };
  const refusals = new Refusals(systemClock);
  const gateway = new Gateway({
    authentication: new Authentication({
      load: (id) => loadApplication(database.reads, id),
      clock: systemClock,
      audit,
      refusals,
    }),
    endpoints: ENDPOINTS.with(config.endpoints.map((endpoint) => declareEndpoint(rowOf(endpoint)))),
    lookup: new Lookup(database.reads, versionsOf),
    vault,
    usage: new UsageReservations(database.sql),
    rates: new TokenBuckets(systemClock),
    audit,
    sql: database.sql,
    clock: systemClock,
    plaidEnvironment: plaid.environment,
    bodyDepth: limits.bodyDepth,
    settleMs: 10_000,
    special: new Map([
      ['/item/public_token/exchange', new Exchange(operations, forward, answers).carry],
      ['/item/access_token/invalidate', new Rotation(operations, forward).carry],
      ['/item/remove', new Removal(operations, forward).carry],
    ]),
    forward: forward.carry,
  });

  const { host, port, tls, trustedProxies } = config.listeners.gateway;
  const proxies = new AddressSet(trustedProxies);
  let stopping = false;
  const app = gatewayListener({
    door: gateway,
    sourceOf: (socket, forwarded) => clientAddress(socket, forwarded, proxies),
    limits: {
      bodyBytes: limits.bodyBytes,
      requestMs: limits.requestMs,
      connections: limits.connections,
      requests: limits.queue,
    },
    tls:
      tls === undefined
        ? null
        : { certificate: readFileSync(tls.certificate), key: Buffer.from((await readSecret(tls.key)).reveal()) },
    ready: async () => {
      if (stopping) return ['stopping'];
      const reasons = await database.reads.query('select 1').then(
        () => [],
        () => ['database'],
      );
      return vault.unsaved > 0 ? [...reasons, 'unsaved_token'] : reasons;
    },
    log: (level, fields, message) => log[level](fields, message),
  });
  const telling = setInterval(() => {
    for (const { source, count } of refusals.drain()) {
      audit.note('access.refused', { source, code: 'CREDENTIALS_REFUSED', count });
    }
  }, 60_000).unref();
  const url = await listen(app, { host, port }, tls === undefined ? 'http' : 'https');
  log.info({ listener: 'gateway', origin: url }, 'listening');

  return {
    url,
    async stop() {
      stopping = true;
      clearInterval(telling);
      await within(limits.shutdownMs, app.close());
      // A token that the database has not taken yet lives here alone. Nothing is worth more than waiting for it.
      const patience = performance.now() + OPERATION_LEASE_MS;
      while (vault.unsaved > 0 && performance.now() < patience)
        await new Promise((resolve) => setTimeout(resolve, 100));
      await upstream.close();
      keyring.drop();
    },
  };
}

/** An endpoint of the configuration as a row of the table. */
function rowOf(endpoint: Config['endpoints'][number]) {
  const map = (spots: readonly { at: string; kind: string }[]) =>
    Object.fromEntries(spots.map(({ at, kind }) => [at, `${kind}?`]));
  const own = endpoint.subject !== undefined || endpoint.request.length > 0;
  return {
    path: endpoint.path,
    class: endpoint.class,
    effect: endpoint.retrySafe ? 'read' : 'change',
    // Without anything that could be owned it may reach across the whole Plaid client.
    reach: own ? 'own' : 'client',
    binary: endpoint.binary,
    tokensIn: map(endpoint.request),
    tokensOut: Object.fromEntries(endpoint.response.map(({ at, kind }) => [at, kind])),
    ...(endpoint.subject === undefined ? {} : { subjects: { [endpoint.subject]: subjectKindOf(endpoint.subject) } }),
  };
}

/** `user_id` names a user. */
function subjectKindOf(field: string): string {
  return (field.split('.').at(-1) ?? field).replace(/_id$/, '').toLowerCase();
}

async function startAdmin({ config, log, database, audit }: Common): Promise<Part> {
  const { host, port, socket, token } = config.listeners.admin;
  const app = Fastify({ ...ADMIN_SERVER, logger: false });
  const applications = new Applications({
    database,
    audit,
    plaidClients: config.plaid.clients,
    random: systemRandom,
  });
  await app.register(
    adminDoor({
      applications,
      audit,
      tokenSha256: digestOf(await readSecret(token)),
      clock: systemClock,
      health: async () => {
        const reasons = await database.reads.query('select 1').then(
          () => [],
          () => ['database'],
        );
        return { ready: reasons.length === 0, reasons };
      },
      routes: [...itemRoutes(database), ...auditRoutes(database, audit)],
      onError: (error, request) =>
        log.error(
          { request_id: request.id, endpoint: request.route, code: error.code, err: error },
          'admin call failed',
        ),
    }),
  );
  const url = await listen(app, socket === undefined ? { host, port } : { path: socket }, 'http');
  log.info({ listener: 'admin', origin: url }, 'listening');
  return { url, stop: () => within(config.limits.shutdownMs, app.close()) };
}

async function listen(
  app: FastifyInstance,
  where: { host: string; port: number } | { path: string },
  scheme: 'http' | 'https',
): Promise<string> {
  try {
    await app.listen(where);
  } catch (error) {
    const place = 'path' in where ? where.path : `${where.host}:${where.port}`;
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new StrongroomError('LISTEN_FAILED', { detail: `${place}: ${reason}.`, reason }, error);
  }
  if ('path' in where) return `unix:${where.path}`;
  const { port } = app.server.address() as AddressInfo;
  return `${scheme}://${where.host.includes(':') ? `[${where.host}]` : where.host}:${port}`;
}

async function within(ms: number, work: PromiseLike<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, timeout]);
  clearTimeout(timer);
}
