import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAuditWriter } from './audit/writer.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import { codeOf, ERRORS, StrongroomError } from './base/errors.ts';
import type { Config } from './config.ts';
import { type Reconciliation, reconcileApplications, reconcileRecords } from './custody/reconcile.ts';
import type { Kms } from './envelope/kms.ts';
import { fileKms } from './envelope/kms-file.ts';
import { identityDifferences, keyringOf, stampOf } from './main-common.ts';
import { headsAreBehind, logIsWhole } from './main-doctor-log.ts';
import {
  CHECK_NAMES,
  type Check,
  type CheckName,
  type Detail,
  finding,
  ok,
  skipped,
  type Verdict,
} from './main-doctor-verdict.ts';
import { auditWriterStore } from './store/audit.ts';
import type { ConnectionOptions, DatabaseRole } from './store/connection.ts';
import { compareStamp, readStamp, type StampDifference, type StoredStamp } from './store/deployment.ts';
import { dataKeySummaries } from './store/keys.ts';
import { MIGRATIONS_FOLDER, requireCurrentSchema } from './store/migrate.ts';
import { unsettledOperations } from './store/operations.ts';
import { dumpSchema } from './store/schema-dump.ts';
import { checkServer, loginFindings, serverVersion } from './store/server-checks.ts';
import { openSession, type Session } from './store/session.ts';
import type { Sql } from './store/sql.ts';

/**
 * Looks an installation over, whether it runs or not: the server, who may do what,
 * whose database this is, keys, and whether the tables are what the audit log
 * says. Changes nothing; with the worker's login it unwraps the data keys to see
 * that the KEK is the right one, and the audit log gets an entry for each.
 */

export interface ExamineOptions {
  readonly config: Config;
  /** How a login reaches the database; null when there is no such login here. */
  readonly connection: (login: DatabaseRole) => Promise<ConnectionOptions | null>;
  /** Between two looks at what may have been under way. Default 2000 ms. */
  readonly settleMs?: number;
}

/** Reading a long log is one statement a page; a page with nothing in it may read much. */
const STATEMENT_MS = 600_000;

/**
 * Every check, each as soon as it is done.
 *
 * @throws StrongroomError `DATABASE_UNAVAILABLE`, `CONFIG_INVALID` when no login can
 *   read, and whatever keeps a check from being made at all.
 */
export async function* examine(options: ExamineOptions): AsyncIterable<Check> {
  const { config, settleMs = 2_000 } = options;
  const reader = await openReader(options);
  try {
    const { sql } = reader.session;
    const check = async (name: CheckName, work: () => Promise<Verdict>): Promise<Check> => ({
      name,
      ...(await findingInstead(work)),
    });
    yield await check('server', () => serverIsDurable(sql, config));
    yield await check('logins', () => loginsAreNarrow(options));
    const schema = await check('schema', () => schemaIsOurs(sql));
    yield schema;
    if (schema.details.some(({ code }) => code === 'SCHEMA_OLDER' || code === 'SCHEMA_NEWER')) {
      for (const name of CHECK_NAMES.slice(3)) yield { name, ...skipped('the schema comes first') };
      return;
    }

    const kms = await fileKms(config.kms.file?.path ?? '').catch((error: unknown) => error as StrongroomError);
    const stamped = await readStamp(sql);
    const stamp = await check('stamp', async () => stampFits(config, kms, stamped));
    yield stamp;
    if (stamp.details.some(({ id }) => id !== 'kms')) {
      for (const name of CHECK_NAMES.slice(4)) yield { name, ...skipped('the stamp comes first') };
      return;
    }
    const heads = await check('heads', () => headsAreBehind(config, sql));
    // An entry of ours has no place in a database that is somebody else's, or that a person has to look at first.
    const mayWrite = stamp.outcome === 'ok' && stamped !== null && heads.outcome !== 'finding';
    yield await check('keys', () => keysUnwrap(options, sql, kms, stamped, mayWrite));
    yield await check('records', () => recordsAreAsSealed(sql, settleMs));
    yield await check('applications', () => applicationsAreAsSet(sql, reader.role, settleMs));
    yield await check('audit log', () => logIsWhole(config, sql));
    yield heads;
    yield await check('operations', () => nothingIsUnsettled(sql));
  } finally {
    await reader.session.close();
  }
}

/** The narrowest login that is there. */
async function openReader({ connection }: ExamineOptions): Promise<{ role: DatabaseRole; session: Session }> {
  for (const role of ['auditor', 'admin', 'worker'] as const) {
    const place = await connection(role);
    if (place === null) continue;
    const session = await openSession({
      ...place,
      statementTimeoutMs: STATEMENT_MS,
      applicationName: 'strongroom doctor',
    });
    return { role, session };
  }
  throw new StrongroomError('CONFIG_INVALID', { detail: 'database.logins names none of auditor, admin and worker.' });
}

/** What an operator can mend is a finding; what keeps us from looking is a failure. */
async function findingInstead(work: () => Promise<Verdict>): Promise<Verdict> {
  try {
    return await work();
  } catch (error) {
    const code = codeOf(error);
    if (!(error instanceof StrongroomError) || code === 'INTERNAL' || code === 'DATABASE_UNAVAILABLE') throw error;
    return finding(error.message, ERRORS[code].remedy, [{ code, id: null, says: error.message }]);
  }
}

async function serverIsDurable(sql: Sql, config: Config): Promise<Verdict> {
  const production = config.deployment.environment === 'production';
  await checkServer(sql, { production, topology: config.database.topology });
  return ok(`PostgreSQL ${await serverVersion(sql)}, and a commit is durable`);
}

async function loginsAreNarrow({ connection }: ExamineOptions): Promise<Verdict> {
  const details: Detail[] = [];
  const looked: string[] = [];
  for (const role of ['gateway', 'admin', 'worker', 'auditor'] as const) {
    const place = await connection(role);
    if (place === null) continue;
    looked.push(role);
    const session = await openSession(place);
    try {
      const found = await loginFindings(session.sql, role);
      details.push(...found.map((says) => ({ code: 'DATABASE_ROLE_UNFIT', id: place.user, says })));
    } finally {
      await session.close();
    }
  }
  if (details.length > 0)
    return finding('a login may do more than its role needs', ERRORS.DATABASE_ROLE_UNFIT.remedy, details);
  return ok(`${looked.join(', ')}: each has its role and nothing else`);
}

async function schemaIsOurs(sql: Sql): Promise<Verdict> {
  await requireCurrentSchema(sql);
  const [is, should] = await Promise.all([dumpSchema(sql), readFile(join(MIGRATIONS_FOLDER, 'schema.txt'), 'utf8')]);
  const [is_, should_] = [is.split('\n'), should.split('\n')];
  const details = [
    ...onlyIn(should_, is_).map((says) => ({ code: 'missing', id: null, says })),
    ...onlyIn(is_, should_).map((says) => ({ code: 'unexpected', id: null, says })),
  ];
  if (is === should) return ok('current, with the tables, triggers and grants of the migrations');
  return finding(
    `${details.length} lines differ from migrations/schema.txt: somebody changed tables, triggers or grants by hand`,
    'Find out who did it. Put it back as migrations/schema.txt says, and look at what was possible meanwhile.',
    details,
  );
}

function onlyIn(these: readonly string[], those: readonly string[]): string[] {
  const known = new Set(those);
  return these.filter((line) => line.trim() !== '' && !known.has(line)).map((line) => line.trim());
}

function stampFits(config: Config, kms: Kms | StrongroomError, stamped: StoredStamp | null): Verdict {
  if (stamped === null) return ok('none yet: no worker has started on this database');
  // Without a KEK its name is not compared; the check of the keys says what is wrong with it.
  const differences = identityDifferences(config, kms instanceof Error ? { keyId: stamped.kekId } : kms, stamped);
  if (differences.length > 0) return stampDiffers(differences);
  return ok(`deployment ${stamped.deploymentId}, ${stamped.environment}, Plaid ${stamped.plaidEnvironment}`);
}

function stampDiffers(differences: readonly StampDifference[]): Verdict {
  const details = differences.map(({ field, stamped, configured }) => ({
    code: 'STAMP_MISMATCH',
    id: field,
    says: `${field} is ${configured}, the database has ${stamped}`,
  }));
  return finding('this is not the database of this configuration', ERRORS.STAMP_MISMATCH.remedy, details);
}

async function keysUnwrap(
  options: ExamineOptions,
  sql: Sql,
  kms: Kms | StrongroomError,
  stamped: StoredStamp | null,
  mayWrite: boolean,
): Promise<Verdict> {
  const place = await options.connection('worker');
  if (kms instanceof Error) {
    if (place === null) return skipped("the KEK cannot be read here; unwrapping needs it and the worker's login");
    throw kms;
  }
  const keys = await dataKeySummaries(sql);
  const usable = keys.filter(({ state }) => state === 'active' || state === 'deactivated' || state === 'compromised');
  const foreign = usable.filter(({ kekId }) => kekId !== kms.keyId);
  if (foreign.length > 0) {
    const details = foreign.map(({ id, kekId }) => ({ code: 'KEK_WRONG', id, says: `wrapped under ${kekId}` }));
    return finding(`configured is ${kms.keyId}, and it did not wrap every data key`, ERRORS.KEK_WRONG.remedy, details);
  }
  if (stamped === null) return ok('none yet');
  if (!mayWrite) return skipped('not unwrapped: stamp and heads come first');
  if (place === null) return skipped(`${usable.length} under ${kms.keyId}; unwrapping them needs the worker's login`);

  const session = await openSession(place);
  const audit = await startAuditWriter({
    store: auditWriterStore(session.sql),
    deploymentId: options.config.deployment.id,
    role: 'doctor',
    random: systemRandom,
    clock: systemClock,
  });
  const keyring = keyringOf({ config: options.config, database: { sql: session.sql }, audit, kms });
  try {
    const details: Detail[] = [];
    for (const { id } of usable) {
      await keyring.get(id).catch((error: unknown) => {
        if (!(error instanceof StrongroomError)) throw error;
        details.push({ code: error.code, id, says: error.message });
      });
    }
    if (details.length > 0) return finding('data keys do not unwrap', ERRORS.KMS_REFUSED.remedy, details);
    const differences = compareStamp(stamped, await stampOf(options.config, kms, keyring));
    if (differences.length > 0) return stampDiffers(differences);
    return ok(`${usable.length} unwrap under ${kms.keyId}; the Plaid secrets are those of the stamp`);
  } finally {
    keyring.drop();
    await audit.close();
    await session.close();
  }
}

const DRIFT_REMEDY =
  'Find out who could write to the database. Freeze what is named (strongroom apps disable), and put the rows back ' +
  'from a backup that agrees with the audit log, or link again. What nobody sealed or issued: remove it.';

async function recordsAreAsSealed(sql: Sql, settleMs: number): Promise<Verdict> {
  const told = await lookTwice(() => reconcileRecords(sql), settleMs);
  return driftVerdict(told, 'records', 'are what was sealed last');
}

async function applicationsAreAsSet(sql: Sql, reader: DatabaseRole, settleMs: number): Promise<Verdict> {
  if (reader === 'worker') return skipped("policies and keys need the auditor's or the admin's login");
  const told = await lookTwice(() => reconcileApplications(sql), settleMs);
  return driftVerdict(told, 'applications', 'have the policy and keys that were given last');
}

/** Rows and entries become durable one after the other: only what is still there a moment later is one. */
async function lookTwice(look: () => Promise<Reconciliation>, settleMs: number): Promise<Reconciliation> {
  const first = await look();
  if (first.driftsTotal === 0) return first;
  await sleep(settleMs);
  const second = await look();
  const before = new Set(first.drifts.map(({ code, id }) => `${code} ${id}`));
  const drifts = second.drifts.filter(({ code, id }) => before.has(`${code} ${id}`));
  return { ...second, drifts, driftsTotal: drifts.length };
}

function driftVerdict(
  { compared, drifts, driftsTotal, unproven }: Reconciliation,
  what: string,
  well: string,
): Verdict {
  const note = unproven === 0 ? '' : `; ${unproven} are older than the log that is kept here`;
  if (driftsTotal === 0) return ok(`${compared} ${what} ${well}${note}`);
  return finding(`${driftsTotal} of ${compared} ${what} are not as the audit log says${note}`, DRIFT_REMEDY, drifts);
}

async function nothingIsUnsettled(sql: Sql): Promise<Verdict> {
  const all = await unsettledOperations(sql, 1_000);
  const open = all.filter(({ state, overdue }) => state === 'uncertain' || overdue);
  const underWay = all.length - open.length;
  if (open.length === 0) return ok(underWay === 0 ? 'nothing is unsettled' : `${underWay} under way, none overdue`);
  const details = open.map(({ kind, state, recordId, applicationId, openedAt, reason }) => ({
    code: state,
    id: recordId,
    says: `${kind} of application ${applicationId} since ${openedAt.toISOString()}: ${reason ?? 'its holder is gone'}`,
  }));
  const remedy =
    'strongroom items list --unsettled names them. An uncertain item has to be linked again, or removed again.';
  return finding(`${open.length} outcomes are not known`, remedy, details);
}
