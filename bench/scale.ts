/**
 * What a million items cost: the look-up of a handle against a table of a
 * thousand, and bytes on disk. On the embedded PostgreSQL, rows as the gateway
 * writes them but for the ciphertext, which is random bytes of a token's length.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ENVELOPE_OVERHEAD } from '../src/envelope/envelope.ts';
import { startEmbedded } from '../src/store/embedded.ts';
import { lookUp } from '../src/store/lookup.ts';
import { migrate } from '../src/store/migrate.ts';
import { type Database, openDatabase } from '../src/store/sql.ts';
import type { BenchResult } from './run.ts';

export const name = 'scale';

const SMALL = 1_000;
const LARGE = 1_000_000;
const LOOKUPS = 4_000;
/** Rounds of each size in turn; the median counts. */
const ROUNDS = 5;
const TOKEN_BYTES = 'access-production-'.length + 36;
const APPLICATION = 'a'.repeat(24);

export async function run(): Promise<BenchResult> {
  const home = mkdtempSync(join(tmpdir(), 'strongroom-bench-'));
  const server = await startEmbedded({ home: join(home, 'postgres') });
  try {
    await migrate(server.connection('owner'));
    const owner = await openDatabase({ ...server.connection('owner'), role: 'owner', statementTimeoutMs: 600_000 });
    const gateway = await openDatabase({ ...server.connection('gateway'), role: 'gateway' });
    await owner.sql.query(
      `insert into applications (id, name, plaid_client_id, policy) values ($1, 'bench', 'client', '{}')`,
      [APPLICATION],
    );
    const [key] = (
      await owner.sql.query<{ id: string }>(
        `insert into data_keys (id, purpose, state, wrapped, kek_id, key_check, activated_at)
         values (gen_random_uuid(), 'record', 'active', $1, 'bench', $2, now()) returning id`,
        [randomBytes(61), randomBytes(32)],
      )
    ).rows;

    await fill(owner, 0, SMALL, key?.id as string);
    const small: number[] = [];
    for (let round = 0; round < ROUNDS; round++) small.push(await median(gateway, SMALL));
    await fill(owner, SMALL, LARGE, key?.id as string);
    await owner.sql.query('vacuum analyze secrets');
    await median(gateway, LARGE); // warm: what a running deployment has in memory
    const large: number[] = [];
    for (let round = 0; round < ROUNDS; round++) large.push(await median(gateway, LARGE));

    const { rows } = await owner.sql.query<{ bytes: number }>(
      `select pg_total_relation_size('secrets')::float8 as bytes`,
    );
    const middle = (list: number[]) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] as number;
    await gateway.close();
    await owner.close();
    return {
      goals: [
        {
          name: 'handle look-up, p50 at 1,000,000 items against 1,000',
          measured: middle(large) / middle(small),
          unit: 'x',
          bound: 1.3,
          direction: 'at_most',
        },
      ],
      figures: {
        p50MsAt1000: middle(small),
        p50MsAt1000000: middle(large),
        bytesOnDiskPerItem: Math.round((rows[0]?.bytes ?? 0) / LARGE),
      },
    };
  } finally {
    await server.stop();
    rmSync(home, { recursive: true, force: true });
  }
}

/** The hash of the n-th handle: made from n, so that it can be asked for later. */
function hashOf(n: number): Buffer {
  return createHash('sha256').update(String(n)).digest().subarray(0, 16);
}

async function fill(owner: Database, from: number, to: number, dataKeyId: string): Promise<void> {
  await owner.sql.query(
    `insert into secrets (record_id, handle_hash, kind, application_id, plaid_client_id, item_id, fingerprint,
                          data_key_id, sealed)
     select gen_random_uuid(), substr(sha256(convert_to(n::text, 'UTF8')), 1, 16), 'access', $3, 'client',
            left(encode(sha256(convert_to('item ' || n, 'UTF8')), 'hex'), 37), sha256(convert_to('print ' || n, 'UTF8')),
            $4, substr(sha512(convert_to(n::text, 'UTF8')) || sha512(convert_to('b' || n, 'UTF8')) || sha512(convert_to('c' || n, 'UTF8')), 1, $5)
       from generate_series($1::int, $2::int - 1) as n`,
    [from, to, APPLICATION, dataKeyId, TOKEN_BYTES + ENVELOPE_OVERHEAD],
  );
}

/** Median of single look-ups of random handles, in milliseconds, by the gateway's own statement. */
async function median(gateway: Database, items: number): Promise<number> {
  const times = new Float64Array(LOOKUPS);
  for (let i = 0; i < LOOKUPS; i++) {
    const handleHash = hashOf(Math.floor(Math.random() * items));
    const begun = performance.now();
    const [found] = await lookUp(gateway.reads, [{ applicationId: APPLICATION, handleHash }]);
    times[i] = performance.now() - begun;
    if (found?.record === null || found === undefined) throw new Error('a handle was not found');
  }
  return times.sort()[LOOKUPS / 2] as number;
}
