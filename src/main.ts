import { startAuditWriter } from './audit/writer.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import { codeOf, StrongroomError } from './base/errors.ts';
import type { Config } from './config.ts';
import type { Kms } from './envelope/kms.ts';
import { fileKms } from './envelope/kms-file.ts';
import { type Common, compareHeads, identityDifferences, type Part, ROLES, type Role } from './main-common.ts';
import type { Log } from './redaction/logger.ts';
import { auditWriterStore } from './store/audit.ts';
import type { ConnectionOptions } from './store/connection.ts';
import { readStamp, stampMismatch } from './store/deployment.ts';
import { requireCurrentSchema } from './store/migrate.ts';
import { checkLogin, checkServer } from './store/server-checks.ts';
import { openDatabase, type Sql } from './store/sql.ts';

/**
 * The composition root: takes a checked configuration, builds the parts of each
 * role, starts listeners and workers, and stops them in order. It decides nothing.
 */

export { type ExamineOptions, examine } from './main-doctor.ts';
export type { Check } from './main-doctor-verdict.ts';
export { ROLES, type Role };

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
  await checkServer(database.sql, { production, topology: config.database.topology });
  const strict = config.deployment.environment !== 'development';
  for (const finding of await checkLogin(database.sql, role, strict))
    log.warn({ role, reason: finding }, 'database login');
  await requireCurrentSchema(database.sql);
  await requireOurDatabase(config, kms, database.sql);
  if (role !== 'admin') await requireHeads(config, database.sql);

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

/** Before anything is written: whose database this is. Another KEK is named as such. */
async function requireOurDatabase(config: Config, kms: Kms, sql: Sql): Promise<void> {
  const stamped = await readStamp(sql);
  if (stamped === null) return;
  const differences = identityDifferences(config, kms, stamped);
  if (differences.length === 0) return;
  if (differences.every(({ field }) => field === 'kms')) {
    throw new StrongroomError('KEK_WRONG', {
      detail: `The database was stamped with ${stamped.kekId}; configured is ${kms.keyId}.`,
    });
  }
  throw stampMismatch(differences);
}

/**
 * A database that is behind a head which left it was put back to an older state:
 * rotations since then would be undone by using it. A person has to look first.
 */
async function requireHeads(config: Config, sql: Sql): Promise<void> {
  for (const { file, compared } of await compareHeads(config, sql)) {
    if (compared.state === 'behind' || compared.state === 'forked') {
      throw new StrongroomError('AUDIT_BROKEN', {
        file,
        detail: `The database is ${compared.state}: it has ${compared.stored} entries, a head of ${compared.exported} left it earlier (${file}).`,
      });
    }
  }
}

const START: Readonly<Record<Role, (common: Common) => Promise<Part>>> = {
  worker: async (common) => (await import('./main-worker.ts')).startWorker(common),
  gateway: async (common) => (await import('./main-gateway.ts')).startGateway(common),
  admin: async (common) => (await import('./main-admin.ts')).startAdmin(common),
};
