import assert from 'node:assert/strict';
import { createSecretKey, type KeyObject, randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import type { DataKey } from '../../src/envelope/data-key.ts';
import { Keyring, type KeyringOptions, type KeyState, type UnwrapEvent } from '../../src/envelope/keyring.ts';
import type { Kms } from '../../src/envelope/kms.ts';
import { MemoryRows, testClock, turn } from './support.ts';

/** A key service that counts its calls, can be told to misbehave, and forgets nothing it wrapped. */
class TestKms implements Kms {
  keyId = 'test:kek';
  readonly calls = { wrap: 0, unwrap: 0 };
  /** Thrown at the next calls, while set. */
  failure: unknown;
  /** What happens before an unwrap answers. */
  before: () => Promise<void> = turn;
  /** Comes back in place of the right key. */
  replaced: KeyObject | undefined;
  readonly contexts: object[] = [];
  readonly #keys = new Map<string, KeyObject>();

  async wrap(key: KeyObject, context: object): Promise<Uint8Array> {
    this.calls.wrap++;
    await turn();
    if (this.failure !== undefined) throw this.failure;
    const wrapped = randomBytes(16);
    this.#keys.set(wrapped.toString('hex') + JSON.stringify(context), key);
    return wrapped;
  }

  async unwrap(wrapped: Uint8Array, context: object): Promise<KeyObject> {
    this.calls.unwrap++;
    this.contexts.push(context);
    await this.before();
    if (this.failure !== undefined) throw this.failure;
    const key = this.#keys.get(Buffer.from(wrapped).toString('hex') + JSON.stringify(context));
    if (key === undefined) throw new StrongroomError('KMS_REFUSED');
    return this.replaced ?? key;
  }
}

/** A replica: a keyring on a database and a key service that several may share. */
function replica(options: Partial<Omit<KeyringOptions, 'rows' | 'kms'>> & { rows?: MemoryRows; kms?: TestKms } = {}) {
  const parts = { rows: new MemoryRows(), kms: new TestKms(), clock: testClock(), ...options };
  const events: UnwrapEvent[] = [];
  const keyring = new Keyring({
    deploymentId: 'a-deployment',
    environment: 'development',
    onUnwrap: (event) => {
      events.push(event);
    },
    ...parts,
  });
  return { keyring, events, ...parts, clock: parts.clock as ReturnType<typeof testClock> };
}

/** A replica whose database holds one key, and which holds nothing in memory. */
async function readyReplica(
  options: Parameters<typeof replica>[0] = {},
): Promise<ReturnType<typeof replica> & { id: string }> {
  const ready = replica(options);
  const { dataKey } = await replica({ rows: ready.rows, kms: ready.kms }).keyring.ensure('record');
  ready.kms.calls.unwrap = 0;
  return { ...ready, id: dataKey.id };
}

test('before the first key is made, there is none to use', async () => {
  await assert.rejects(replica().keyring.current('record'), { code: 'DATA_KEY_MISSING' });
});

test('the first key is made once, wrapped, checked, and is the current one', async () => {
  const { keyring, rows, kms } = replica();
  const first = await keyring.ensure('record');
  assert.equal(first.created, true);
  assert.equal((await keyring.current('record')).id, first.dataKey.id);
  assert.equal((await keyring.get(first.dataKey.id)).key.symmetricKeySize, 32);
  assert.deepEqual(await keyring.ensure('record'), { dataKey: first.dataKey, created: false });
  assert.equal(rows.rows.size, 1);
  assert.equal(kms.calls.wrap, 1);
});

test('the key service is told deployment, environment, purpose and data key, and nothing else', async () => {
  const { keyring, kms } = replica();
  const { dataKey } = await keyring.ensure('index');
  for (const context of kms.contexts) {
    assert.deepEqual(context, {
      deployment: 'a-deployment',
      environment: 'development',
      purpose: 'index',
      dataKey: dataKey.id,
    });
  }
  assert.ok(kms.contexts.length > 0);
});

test('of many replicas that start at once on an empty database, one makes the key and all use it', async () => {
  const rows = new MemoryRows();
  const kms = new TestKms();
  const made = await Promise.all(Array.from({ length: 8 }, () => replica({ rows, kms }).keyring.ensure('record')));
  assert.equal(rows.rows.size, 1);
  assert.deepEqual(made.map(({ created }) => created).filter(Boolean), [true]);
  for (const { dataKey } of made) assert.ok(dataKey.key.equals((made[0] as { dataKey: DataKey }).dataKey.key));
});

test('each purpose has a key of its own', async () => {
  const { keyring } = replica();
  const keys = await Promise.all(
    (['record', 'index', 'fingerprint'] as const).map((purpose) => keyring.ensure(purpose)),
  );
  assert.equal(new Set(keys.map(({ dataKey }) => dataKey.key.export().toString('hex'))).size, 3);
  assert.deepEqual(
    keys.map(({ dataKey }) => dataKey.purpose),
    ['record', 'index', 'fingerprint'],
  );
});

test('a key service that wraps but does not unwrap is found out before a key is kept', async () => {
  const { keyring, rows, kms } = replica();
  kms.before = async () => {
    throw new StrongroomError('KMS_REFUSED');
  };
  await assert.rejects(keyring.ensure('record'), { code: 'KMS_REFUSED' });
  assert.equal(rows.rows.size, 0);
});

test('a thousand callers at once cost one unwrap, and so do a thousand later ones', async () => {
  const { keyring, kms, rows, id } = await readyReplica();
  const before = rows.loads;
  const keys = await Promise.all(Array.from({ length: 1_000 }, () => keyring.get(id)));
  assert.ok(keys.every((key) => key === keys[0]));
  for (let i = 0; i < 1_000; i++) await keyring.current('record');
  assert.deepEqual([kms.calls.unwrap, rows.loads - before], [1, 1]);
});

test('past its time a key is unwrapped again, once, and not a moment before', async () => {
  const { keyring, kms, clock, id } = await readyReplica({ cacheSeconds: 300 });
  await keyring.get(id);
  clock.move(299_999);
  await keyring.get(id);
  assert.equal(kms.calls.unwrap, 1);
  clock.move(1);
  await Promise.all(Array.from({ length: 20 }, () => keyring.get(id)));
  assert.equal(kms.calls.unwrap, 2);
});

test('past its number of uses a key is unwrapped again, also among callers who wait together', async () => {
  const { keyring, kms, id } = await readyReplica({ cacheUses: 10 });
  for (let i = 0; i < 10; i++) await keyring.get(id);
  assert.equal(kms.calls.unwrap, 1);
  await keyring.get(id);
  assert.equal(kms.calls.unwrap, 2);

  const other = await readyReplica({ cacheUses: 10 });
  await Promise.all(Array.from({ length: 95 }, () => other.keyring.get(other.id)));
  assert.equal(other.kms.calls.unwrap, 10);
});

test('when the permission is taken away, access ends within the limit, for every caller', async () => {
  const { keyring, kms, clock, id } = await readyReplica({ cacheSeconds: 60 });
  await keyring.get(id);
  kms.failure = new StrongroomError('KMS_REFUSED');
  clock.move(59_000);
  await keyring.get(id);
  clock.move(1_000);
  await assert.rejects(keyring.get(id), { code: 'KMS_REFUSED' });
  await assert.rejects(keyring.current('record'), { code: 'KMS_REFUSED' });
});

test('the limit counts from before the unwrap, so that a slow key service does not stretch it', async () => {
  const { keyring, kms, clock, id } = await readyReplica({ cacheSeconds: 60 });
  kms.before = async () => clock.move(40_000);
  await keyring.get(id);
  clock.move(20_000);
  kms.before = turn;
  await keyring.get(id);
  assert.equal(kms.calls.unwrap, 2);

  kms.before = async () => clock.move(61_000);
  clock.move(60_000);
  await assert.rejects(keyring.get(id), { code: 'KMS_UNAVAILABLE' });
});

test('a key service that is away is not asked by every caller, and is asked again soon', async () => {
  const { keyring, kms, clock, id } = await readyReplica();
  kms.failure = new Error('connect ECONNREFUSED');
  for (let i = 0; i < 50; i++) await assert.rejects(keyring.get(id), { code: 'KMS_UNAVAILABLE' });
  assert.equal(kms.calls.unwrap, 1);
  kms.failure = undefined;
  clock.move(1_000);
  assert.equal((await keyring.get(id)).id, id);
  assert.equal(kms.calls.unwrap, 2);
});

test('a failure to unwrap one key does not hold up another', async () => {
  const { keyring, kms } = replica();
  const { dataKey } = await keyring.ensure('record');
  const index = await keyring.ensure('index');
  keyring.drop();
  kms.failure = new StrongroomError('KMS_UNAVAILABLE');
  await assert.rejects(keyring.get(dataKey.id), { code: 'KMS_UNAVAILABLE' });
  kms.failure = undefined;
  assert.equal((await keyring.get(index.dataKey.id)).id, index.dataKey.id);
});

test('a key service that never answers is given up on, even when it ignores its signal', async () => {
  const { keyring, kms, id } = await readyReplica({ kmsTimeoutMs: 5 });
  kms.before = () => new Promise(() => {});
  await assert.rejects(keyring.get(id), { code: 'KMS_UNAVAILABLE' });
});

test('a wrong KEK is told by both names, and the key service is not asked', async () => {
  const { keyring, kms, id } = await readyReplica();
  kms.keyId = 'test:another';
  await assert.rejects(keyring.get(id), { code: 'KEK_WRONG', message: /test:kek.*test:another/ });
  assert.equal(kms.calls.unwrap, 0);
});

test('a key service that gives back another key is refused before anything is opened with it', async () => {
  for (const wrong of [createSecretKey(randomBytes(32)), createSecretKey(randomBytes(16))]) {
    const { keyring, kms, id, events } = await readyReplica();
    kms.replaced = wrong;
    await assert.rejects(keyring.get(id), { code: 'KMS_REFUSED' });
    assert.deepEqual(
      events.map(({ code }) => code),
      ['KMS_REFUSED'],
    );
  }
});

test('rows exchanged in the database, in part or in whole, give no key', async () => {
  const { keyring, rows } = replica();
  const one = await keyring.ensure('record');
  const two = await keyring.ensure('index');
  const [rowOne, rowTwo] = [one, two].map(({ dataKey }) => ({ ...rows.rows.get(dataKey.id) }));
  for (const part of [['wrapped'], ['keyCheck'], ['wrapped', 'keyCheck'], ['purpose']] as const) {
    keyring.drop();
    rows.change(one.dataKey.id, { ...rowOne, ...Object.fromEntries(part.map((name) => [name, rowTwo?.[name]])) });
    await assert.rejects(keyring.get(one.dataKey.id), { code: 'KMS_REFUSED' }, part.join());
  }
});

test('a key of an unknown id means a broken seal, and oversized rows never reach the key service', async () => {
  const { keyring, rows, kms, id } = await readyReplica();
  await assert.rejects(keyring.get(randomUUID()), { code: 'SEAL_BROKEN' });
  rows.change(id, { wrapped: Buffer.alloc(8_193) });
  await assert.rejects(keyring.get(id), { code: 'KMS_REFUSED' });
  assert.equal(kms.calls.unwrap, 0);
});

test('what may open in which state', async () => {
  const opens: Record<KeyState, boolean> = {
    'pre-activation': false,
    active: true,
    suspended: false,
    deactivated: true,
    compromised: true,
    destroyed: false,
  };
  for (const [state, may] of Object.entries(opens) as [KeyState, boolean][]) {
    const { keyring, rows, id } = await readyReplica();
    rows.change(id, { state, ...(state === 'destroyed' ? { wrapped: null } : {}) });
    if (may) assert.equal((await keyring.get(id)).id, id, state);
    else await assert.rejects(keyring.get(id), { code: 'DATA_KEY_UNUSABLE' }, state);
  }
});

test('a key that is no longer active stops sealing within ten seconds and goes on opening', async () => {
  const { keyring, rows, clock, id } = await readyReplica();
  assert.equal((await keyring.current('record')).id, id);
  rows.change(id, { state: 'deactivated' });
  clock.move(10_000);
  await assert.rejects(keyring.current('record'), { code: 'DATA_KEY_MISSING' });
  assert.equal((await keyring.get(id)).id, id);
  const { dataKey, created } = await keyring.ensure('record');
  assert.equal(created, true);
  assert.notEqual(dataKey.id, id);
  assert.equal((await keyring.current('record')).id, dataKey.id);
});

test('every unwrap is told, good or bad, and what cannot be recorded is not used', async () => {
  const { keyring, events, kms, clock, id } = await readyReplica();
  await keyring.get(id);
  clock.move(300_000);
  kms.failure = new StrongroomError('KMS_REFUSED');
  await assert.rejects(keyring.get(id));
  const event = { dataKey: id, purpose: 'record', kek: 'test:kek' };
  assert.deepEqual(events, [
    { ...event, code: null },
    { ...event, code: 'KMS_REFUSED' },
  ]);

  const unrecorded = await readyReplica({
    onUnwrap: async () => {
      throw new StrongroomError('AUDIT_UNAVAILABLE');
    },
  });
  await assert.rejects(unrecorded.keyring.get(unrecorded.id), { code: 'AUDIT_UNAVAILABLE' });
  await assert.rejects(unrecorded.keyring.get(unrecorded.id), { code: 'AUDIT_UNAVAILABLE' });
  unrecorded.kms.failure = new StrongroomError('KMS_REFUSED');
  await assert.rejects(unrecorded.keyring.get(unrecorded.id), { code: 'KMS_REFUSED' });
});

test('as many unwraps are told as the key service counted, for the first key too', async () => {
  const { keyring, events, kms } = replica();
  await keyring.ensure('record');
  await keyring.ensure('index');
  keyring.drop();
  await keyring.current('record');
  assert.equal(events.length, kms.calls.unwrap);
});

test('dropping forgets at once, also what was under way', async () => {
  const { keyring, kms, id } = await readyReplica();
  await keyring.get(id);
  keyring.drop();
  assert.equal(keyring.sweep(), 0);
  const underWay = keyring.get(id);
  keyring.drop();
  assert.equal((await underWay).id, id, 'who waited already may finish');
  assert.equal(keyring.sweep(), 0, 'but nothing of it is kept');
  kms.failure = new StrongroomError('KMS_REFUSED');
  await assert.rejects(keyring.get(id), { code: 'KMS_REFUSED' });
});

test('a key that nobody asks for any more is dropped when its time is over', async () => {
  const { keyring, clock, id } = await readyReplica({ cacheSeconds: 60 });
  await keyring.get(id);
  clock.move(59_999);
  assert.equal(keyring.sweep(), 1);
  clock.move(1);
  assert.equal(keyring.sweep(), 0);
});

test('limits that would switch the limits off are refused', () => {
  for (const options of [{ cacheSeconds: 0 }, { cacheSeconds: Number.NaN }, { cacheUses: 0 }, { kmsTimeoutMs: 0 }]) {
    assert.throws(() => replica(options), RangeError);
  }
});
