import { parseVerifier, type Verifier } from './audit/checkpoint.ts';
import { type Gap, planStep } from './audit/sequencing.ts';
import { verifyAudit } from './audit/verify.ts';
import { codeOf } from './base/errors.ts';
import type { Config } from './config.ts';
import { compareHeads, signerOf } from './main-common.ts';
import { type Detail, finding, ok, skipped, type Verdict } from './main-doctor-verdict.ts';
import { sequencerStore } from './store/audit.ts';
import { exportAudit } from './store/audit-log.ts';
import type { Sql } from './store/sql.ts';

/** The checks of `doctor` on the audit log itself: is it whole, and is it at least as long as what left. */

export async function logIsWhole(config: Config, sql: Sql): Promise<Verdict> {
  const verifiers = await verifiersOf(config);
  const report = await verifyAudit([{ name: 'database', bytes: linesOf(sql) }], { verifiers });
  const gaps = await gapsBeforeTheIndex(sql);
  const empty = report.entries === 0 && report.origin === null;
  const details: Detail[] = [
    ...(empty ? [] : report.findings).map(({ code, index, says }) => ({
      code,
      id: index === null ? null : String(index),
      says,
    })),
    ...gaps.map(({ reason, writer, n, entries }) => ({
      code: reason,
      id: writer,
      says: `${entries === 1 ? `Entry ${n}` : `${entries} entries from ${n} on`} of writer ${writer}: ${reason}, before they had an index.`,
    })),
  ];
  if (details.length > 0) {
    const remedy =
      'Keep an export (strongroom audit export) and the heads, and find out who could write to the database.';
    return finding('the log is not whole', remedy, details);
  }
  const key =
    verifiers.length > 0 ? '' : '; its key was taken from the database, since the signing key cannot be read here';
  return ok(`${report.entries} entries, whole and signed${key}`);
}

async function verifiersOf(config: Config): Promise<Verifier[]> {
  const signer = await signerOf(config).catch((error: unknown) => {
    if (codeOf(error) === 'SECRET_UNREADABLE') return null;
    throw error;
  });
  const verifier = signer === null ? null : parseVerifier(signer.vkey);
  return verifier === null ? [] : [verifier];
}

async function* linesOf(sql: Sql): AsyncIterable<Uint8Array> {
  for await (const line of exportAudit(sql)) yield Buffer.from(`${line}\n`, 'latin1');
}

const GROUPS_AT_ONCE = 64;
const MOST_GAPS = 100;

/** The sequencer's own judgement of what it has not placed yet; also where none runs. */
async function gapsBeforeTheIndex(sql: Sql): Promise<Gap[]> {
  const store = sequencerStore(sql);
  const gaps: Gap[] = [];
  let waiting = await store.positions(0, []);
  while (waiting.length > 0 && gaps.length < MOST_GAPS) {
    const groups = await store.pending(waiting, GROUPS_AT_ONCE);
    const plan = planStep(0, new Map(waiting.map((position) => [position.key, position])), groups);
    gaps.push(...plan.gaps);
    waiting = [...plan.positions];
  }
  return gaps;
}

export async function headsAreBehind(config: Config, sql: Sql): Promise<Verdict> {
  const files = config.audit.heads.filter(({ file }) => file !== undefined);
  if (files.length === 0) return skipped('no file in audit.heads: nothing outside to compare with');
  if ((await verifiersOf(config)).length === 0) return skipped('the signing key cannot be read here');
  const compared = await compareHeads(config, sql);
  const details = compared.flatMap(({ file, compared: { state, ...sizes } }): Detail[] => {
    if (state === 'no_head') {
      const { unreadable } = sizes as { unreadable: number };
      return unreadable === 0
        ? []
        : [{ code: state, id: file, says: `${file} has ${unreadable} lines, and no head of this log.` }];
    }
    const { exported, stored } = sizes as { exported: number; stored: number };
    return state === 'consistent'
      ? []
      : [
          {
            code: state,
            id: file,
            says: `The database has ${stored} entries; ${file} has a head of ${exported} (${state}).`,
          },
        ];
  });
  if (details.length > 0) {
    const remedy =
      'The database was put back to an older state, or rewritten. Do not start on it: rotations since then would be undone.';
    return finding('the database is not what it was when a signed head left it', remedy, details);
  }
  if (compared.length === 0) return ok('none has left yet');
  return ok(`the database contains every head in ${compared.map(({ file }) => file).join(', ')}`);
}
