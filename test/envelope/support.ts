import { createHash, createSecretKey, randomBytes, randomUUID } from 'node:crypto';
import { type Admission, admit } from '../../src/access/admission.ts';
import { compilePolicy, decide } from '../../src/access/decide.ts';
import { parsePolicy } from '../../src/access/policy.ts';
import type { Clock, Random } from '../../src/base/clock.ts';
import type { ApplicationId, RecordId } from '../../src/base/ids.ts';
import type { DataKey, KeyPurpose } from '../../src/envelope/data-key.ts';
import type { RecordBinding } from '../../src/envelope/envelope.ts';
import type { DataKeyRows, KeyState, StoredDataKey } from '../../src/envelope/keyring.ts';

/** Shared by the tests of this room. */

const APPLICATION = '5f0c0b0a0f0e0d0c0b0a0908' as ApplicationId;

/** A genuine admission, by the same way as in production: a policy says yes and an entry is recorded. */
export function admissionFor(recordId: RecordId): Promise<Admission> {
  const policy = parsePolicy({
    classes: ['item'],
    endpoints: [],
    denied: [],
    shares: [],
    sourceCidrs: ['127.0.0.1/32'],
    rate: { perSecond: 1, burst: 1 },
    dayQuota: 1,
    budgets: { distinctItemsPerHour: 1, removalsPerDay: 0, rotationsPerDay: 0 },
    releases: [],
  });
  const call = {
    application: APPLICATION,
    endpoint: { path: '/accounts/get', class: 'item' as const, listsAll: false, releases: [] },
    source: '127.0.0.1',
    records: [{ id: recordId, owner: APPLICATION }],
    subjectOwners: [],
    subjectMissing: false,
    frozen: new Set<string>(),
    requestId: null,
  };
  return admit(call, decide(compilePolicy(policy), call), {
    append: async () => ({ writer: 'test', counter: 0 }),
  });
}

export function someKey(purpose: KeyPurpose = 'record'): DataKey {
  return { id: randomUUID(), purpose, key: createSecretKey(randomBytes(32)) };
}

export function someBinding(change: Partial<RecordBinding> = {}): RecordBinding {
  return {
    deploymentId: '0d5b2c52-8d8a-4c58-9d2f-3a1f64a8b0aa',
    plaidEnvironment: 'sandbox',
    plaidClientId: '5f0c0b0a0f0e0d0c0b0a0908',
    recordId: '7b0c9f7e-5a3e-4b7b-9a54-0d8a0d6f1c11' as RecordId,
    kind: 'access',
    version: 3,
    ...change,
  };
}

/** Looks like a token to nobody: the shape of Plaid's tokens stays out of the repository. */
export const TOKEN = 'token-for-tests-3c8f5b1e-2f0e-4a94-9f6e-7f1b6f2a9d10-and-more';

/** The same bytes for ever, for frozen vectors. */
export function fixedRandom(seed: string): Random {
  let counter = 0;
  const bytes = (length: number) => {
    const blocks: Buffer[] = [];
    for (let have = 0; have < length; have += 32) {
      blocks.push(createHash('sha256').update(`${seed}/${counter++}`).digest());
    }
    return Buffer.concat(blocks).subarray(0, length);
  };
  const uuid = () => {
    const hex = bytes(16).toString('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  };
  return { bytes, uuid };
}

/** A clock that stands still until it is moved. */
export function testClock(): Clock & { move(ms: number): void } {
  let time = 1_000;
  return {
    now: () => time,
    monotonic: () => time,
    move: (ms) => {
      time += ms;
    },
  };
}

/** Rows in memory, with the database's law: one active key per purpose. */
export class MemoryRows implements DataKeyRows {
  readonly rows = new Map<string, StoredDataKey>();
  loads = 0;

  async loadActive(purpose: KeyPurpose) {
    await turn();
    return [...this.rows.values()].find((row) => row.purpose === purpose && row.state === 'active') ?? null;
  }

  async load(id: string) {
    this.loads++;
    await turn();
    return this.rows.get(id) ?? null;
  }

  async insertActive(key: Omit<StoredDataKey, 'state' | 'wrapped'> & { readonly wrapped: Uint8Array }) {
    await turn();
    if ([...this.rows.values()].some((row) => row.purpose === key.purpose && row.state === 'active')) return false;
    this.rows.set(key.id, { ...key, state: 'active' });
    return true;
  }

  change(id: string, change: Partial<StoredDataKey> & { state?: KeyState }): void {
    this.rows.set(id, { ...(this.rows.get(id) as StoredDataKey), ...change });
  }
}

/** Lets everything else that is ready run first, as a database would. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
