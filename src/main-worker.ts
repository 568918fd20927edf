import { fileDestination, type HeadDestination, httpDestination, startHeadExport } from './audit/heads.ts';
import { startSequencer } from './audit/sequencer-loop.ts';
import { systemClock } from './base/clock.ts';
import { codeOf } from './base/errors.ts';
import { sweep, tidy } from './custody/sweep.ts';
import { dataKeyIdOf, isSealedFor } from './envelope/envelope.ts';
import { type Common, keyringOf, type Part, signerOf, stampOf } from './main-common.ts';
import { leaseSequencer } from './store/audit.ts';
import { newestCheckpoint, recordHead } from './store/audit-log.ts';
import { readStamp, requireSameStamp, stampOnce } from './store/deployment.ts';
import { type RecordDigest, recordById } from './store/records.ts';

/** The worker: makes keys and stamp at first start, sequences the audit log, exports heads, names what was left open. */

const SWEEP_MS = 5_000;
const TIDY_MS = 3_600_000;

export async function startWorker(common: Common): Promise<Part> {
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
    const { uncertain, orphans } = await sweep({ database, audit, isGenuine });
    if (uncertain + orphans > 0) log.error({ component: 'sweep', count: uncertain + orphans }, 'unsettled operations');
  });
  async function isGenuine({ recordId }: RecordDigest): Promise<boolean> {
    const record = await recordById(database.sql, recordId);
    if (record === null || record.sealed === null) return record !== null;
    const { plaidClientId, kind, version, sealed } = record;
    try {
      const dataKey = await keyring.get(dataKeyIdOf(sealed));
      const { deploymentId, plaidEnvironment } = stamp;
      return isSealedFor(dataKey, { deploymentId, plaidEnvironment, plaidClientId, recordId, kind, version }, sealed);
    } catch (error) {
      if (codeOf(error) === 'SEAL_BROKEN') return false; // not even an envelope, or under a key that never was
      throw error;
    }
  }
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
