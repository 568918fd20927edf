/**
 * What opening a sealed record costs beside plain AES-256-GCM, and which ways of
 * deriving the record key were tried (docs/decisions/0003-record-keys.md).
 *
 * The peer is the least that a backend could do by itself: one KeyObject for all
 * rows, no associated data, no commitment, the nonce and tag beside the ciphertext.
 * All cases take turns in short rounds, and a ratio is the median over the rounds,
 * so that a machine that slows down slows both sides.
 */

import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hash,
  hkdfSync,
  type KeyObject,
  randomBytes,
  randomUUID,
  timingSafeEqual,
} from 'node:crypto';
import type { RecordId } from '../src/base/ids.ts';
import { Secret } from '../src/base/secret.ts';
import { type DataKey, open, type RecordBinding, seal } from '../src/envelope/envelope.ts';
import { fingerprint, indexMac } from '../src/envelope/macs.ts';
import { admissionFor } from '../test/envelope/support.ts';
// The type alone: run.ts waits for this file, so this file must not wait for run.ts.
import type { BenchResult } from './run.ts';

export const name = 'envelope';
export const goals = { 'open, against AES-256-GCM under one fixed key': 0.28 };

const ROUNDS = 60;
const CALLS = 1_500; // per case and round

// 60 bytes, like a Plaid token, without being shaped like one.
const TEXT = `bench-token-${randomUUID()}-0123456789a`;

const dataKey: DataKey = { id: randomUUID(), purpose: 'record', key: createSecretKey(randomBytes(32)) };
const binding: RecordBinding = {
  deploymentId: randomUUID(),
  plaidEnvironment: 'sandbox',
  plaidClientId: randomBytes(12).toString('hex'),
  recordId: randomUUID() as RecordId,
  kind: 'access',
  version: 1,
};

/** Nonce, ciphertext, tag. */
function plainSeal(key: KeyObject, nonce: Buffer, aad?: Buffer): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  if (aad !== undefined) cipher.setAAD(aad);
  return Buffer.concat([nonce, cipher.update(TEXT, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

function plainOpen(key: KeyObject, row: Buffer, aad?: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, row.subarray(0, 12));
  if (aad !== undefined) decipher.setAAD(aad);
  decipher.setAuthTag(row.subarray(row.length - 16));
  const plaintext = decipher.update(row.subarray(12, row.length - 16));
  decipher.final();
  return plaintext;
}

type Derive = (bound: Buffer) => { key: Buffer; commitment: Buffer };

/** As many bound bytes as the binding above gives. */
const bound = randomBytes(53 + 5 * 4 + 36 + 7 + 24 + 36 + 6 + 4);
const label = Buffer.from('strongroom/envelope/v1');
const raw = randomBytes(32);
const pads = [0x36, 0x5c].map((pad) => Buffer.from(Buffer.concat([raw, Buffer.alloc(32)]).map((byte) => byte ^ pad)));

/** Ways to the record key and the commitment that were tried, each with what it would cost in an open. */
const DERIVATIONS: Record<string, Derive> = {
  'HKDF-SHA-256: two HMACs': (info) => {
    const key = createHmac('sha256', dataKey.key)
      .update(Buffer.concat([info, Buffer.of(1)]))
      .digest();
    const commitment = createHmac('sha256', dataKey.key)
      .update(Buffer.concat([key, info, Buffer.of(2)]))
      .digest('binary');
    return { key, commitment: Buffer.from(commitment, 'binary') };
  },
  'HKDF-SHA-256 by crypto.hkdfSync': (info) => {
    const bytes = Buffer.from(hkdfSync('sha256', dataKey.key, label, info, 64));
    return { key: bytes.subarray(0, 32), commitment: bytes.subarray(32) };
  },
  'HKDF-SHA-512: one HMAC (chosen)': (info) => {
    const bytes = createHmac('sha512', dataKey.key)
      .update(Buffer.concat([info, Buffer.of(1)]))
      .digest();
    return { key: bytes.subarray(0, 32), commitment: bytes.subarray(32) };
  },
  'HMAC-SHA-256, commitment by SHA-256 of the record key': (info) => {
    const key = createHmac('sha256', dataKey.key)
      .update(Buffer.concat([info, Buffer.of(1)]))
      .digest();
    return { key, commitment: Buffer.from(hash('sha256', Buffer.concat([label, key]), 'binary'), 'binary') };
  },
  'HKDF-SHA-256 by hand over crypto.hash, data key in the heap': (info) => {
    const [inner, outer] = pads as [Buffer, Buffer];
    const hmac = (message: Buffer) => {
      const first = Buffer.from(hash('sha256', Buffer.concat([inner, message]), 'binary'), 'binary');
      return Buffer.from(hash('sha256', Buffer.concat([outer, first]), 'binary'), 'binary');
    };
    const key = hmac(Buffer.concat([info, Buffer.of(1)]));
    return { key, commitment: hmac(Buffer.concat([key, info, Buffer.of(2)])) };
  },
  'HKDF-SHA-256: two HMACs under raw key bytes': (info) => {
    const key = createHmac('sha256', raw)
      .update(Buffer.concat([info, Buffer.of(1)]))
      .digest();
    const commitment = createHmac('sha256', raw)
      .update(Buffer.concat([key, info, Buffer.of(2)]))
      .digest();
    return { key, commitment };
  },
};

function tried(derive: Derive): () => void {
  const { key, commitment } = derive(bound);
  const row = plainSeal(createSecretKey(key), randomBytes(12), bound);
  const expected = Buffer.from(commitment);
  return () => {
    const got = derive(bound);
    if (!timingSafeEqual(got.commitment, expected)) throw new Error('wrong commitment');
    plainOpen(createSecretKey(got.key), row, bound).toString('utf8');
  };
}

export async function run(): Promise<BenchResult> {
  const admission = await admissionFor(binding.recordId);
  const secret = new Secret(TEXT);
  const sealed = seal(dataKey, binding, secret);
  const row = plainSeal(dataKey.key, randomBytes(12));
  const cases: Record<string, () => unknown> = {
    peer: () => plainOpen(dataKey.key, row).toString('utf8'),
    'peer, bytes out': () => plainOpen(dataKey.key, row),
    'peer, raw key bytes': () => {
      const decipher = createDecipheriv('aes-256-gcm', raw, row.subarray(0, 12));
      return decipher.setAuthTag(row.subarray(row.length - 16));
    },
    open: () => open(dataKey, binding, sealed, admission),
    seal: () => seal(dataKey, binding, secret),
    fingerprint: () => fingerprint(dataKey.key, secret),
    indexMac: () => indexMac(dataKey.key, 'handle', binding.recordId),
  };
  for (const [way, derive] of Object.entries(DERIVATIONS)) cases[`tried: ${way}`] = tried(derive);

  const times = measure(cases);
  const micros = Object.fromEntries(Object.entries(times).map(([what, all]) => [what, round(median(all))]));
  const ratio = (what: string) =>
    median((times.peer as number[]).map((peer, i) => peer / (times[what]?.[i] as number)));
  return {
    goals: Object.entries(goals).map(([goal, bound]) => ({
      name: goal,
      measured: ratio('open'),
      unit: 'x',
      bound,
      direction: 'at_least',
    })),
    figures: {
      plaintext_bytes: TEXT.length,
      microseconds_per_call: micros,
      throughput_against_peer: Object.fromEntries(Object.keys(cases).map((what) => [what, round(ratio(what))])),
    },
  };
}

/** Microseconds per call, one figure per round. */
function measure(cases: Record<string, () => unknown>): Record<string, number[]> {
  const times: Record<string, number[]> = {};
  for (const [what, call] of Object.entries(cases)) {
    times[what] = [];
    for (let i = 0; i < 5_000; i++) call(); // until it is compiled
  }
  const order = Object.entries(cases);
  for (let turn = 0; turn < ROUNDS; turn++) {
    for (const [what, call] of order) {
      const started = process.hrtime.bigint();
      for (let i = 0; i < CALLS; i++) call();
      times[what]?.push(Number(process.hrtime.bigint() - started) / CALLS / 1_000);
    }
    // Nobody always runs after the same neighbour, whose garbage it would collect.
    order.push(...order.splice(0, 1 + (turn % 5)));
  }
  return times;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number;
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}

if (import.meta.main) {
  const result = await run();
  console.log(JSON.stringify(result, null, 2));
  process.exitCode = result.goals.every(({ measured, bound }) => measured >= bound) ? 0 : 1;
}
