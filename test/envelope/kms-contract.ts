import assert from 'node:assert/strict';
import { createSecretKey, type KeyObject, randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import type { KeyContext, Kms } from '../../src/envelope/kms.ts';
import { WRAPPED_LIMIT } from '../../src/envelope/kms.ts';

/** What the suite needs to know of an adapter. */
export interface KmsUnderTest {
  /** A new adapter object on the same KEK: what one process wraps another unwraps. */
  again(): Promise<Kms>;
  /** An adapter on another KEK. */
  other(): Promise<Kms>;
}

const UNHURRIED = new AbortController().signal;

/**
 * The terms of the port {@link Kms}, as tests. Every adapter runs them.
 *
 * @param name - Stands before each test's sentence.
 */
export function kmsContract(name: string, make: () => Promise<KmsUnderTest>): void {
  const context = (change: Partial<KeyContext> = {}): KeyContext => ({
    deployment: 'a-deployment',
    environment: 'development',
    purpose: 'record',
    dataKey: '5a6f2c4e-0b67-4d61-9f0f-0f3c1e1f7a55',
    ...change,
  });
  const someKey = () => createSecretKey(randomBytes(32));
  const same = (one: KeyObject, two: KeyObject) => one.equals(two);

  test(`${name}: what is wrapped unwraps, also by another process`, async () => {
    const { again } = await make();
    const [one, two] = [await again(), await again()];
    const key = someKey();
    const wrapped = await one.wrap(key, context(), UNHURRIED);
    const back = await two.unwrap(wrapped, context(), UNHURRIED);
    assert.ok(same(back, key));
    assert.deepEqual([back.type, back.symmetricKeySize], ['secret', 32]);
    assert.ok(wrapped.length >= 1 && wrapped.length <= WRAPPED_LIMIT);
    assert.ok(same(await two.unwrap(wrapped, context(), UNHURRIED), key), 'unwrapping can be repeated');
  });

  test(`${name}: the key id is stable, names one KEK only and fits its column`, async () => {
    const { again, other } = await make();
    const { keyId } = await again();
    assert.equal((await again()).keyId, keyId);
    assert.notEqual((await other()).keyId, keyId);
    assert.match(keyId, /^[\x21-\x7e]{1,2048}$/);
  });

  test(`${name}: wrapping one key twice gives unlike bytes, and neither holds the key`, async () => {
    const kms = await (await make()).again();
    const key = someKey();
    const [one, two] = await Promise.all([kms.wrap(key, context(), UNHURRIED), kms.wrap(key, context(), UNHURRIED)]);
    assert.notDeepEqual(one, two);
    for (let at = 0; at + 8 <= 32; at++) {
      assert.equal(Buffer.from(one).indexOf(key.export().subarray(at, at + 8)), -1);
    }
  });

  test(`${name}: under any other context unwrapping is refused`, async () => {
    const kms = await (await make()).again();
    const wrapped = await kms.wrap(someKey(), context(), UNHURRIED);
    const others: Partial<KeyContext>[] = [
      { deployment: 'b-deployment' },
      { environment: 'production' },
      { purpose: 'index' },
      { dataKey: randomUUID() },
      // The same characters with the border elsewhere.
      { deployment: 'a-deploymentd', environment: 'evelopment' as 'development' },
    ];
    for (const change of others) {
      await assert.rejects(
        kms.unwrap(wrapped, context(change), UNHURRIED),
        { code: 'KMS_REFUSED' },
        JSON.stringify(change),
      );
    }
  });

  test(`${name}: another KEK refuses`, async () => {
    const { again, other } = await make();
    const wrapped = await (await again()).wrap(someKey(), context(), UNHURRIED);
    await assert.rejects((await other()).unwrap(wrapped, context(), UNHURRIED), { code: 'KMS_REFUSED' });
  });

  test(`${name}: a change of any byte, a shorter and a longer wrapping are refused alike`, async () => {
    const kms = await (await make()).again();
    const wrapped = Buffer.from(await kms.wrap(someKey(), context(), UNHURRIED));
    const damaged = [Buffer.alloc(0), Buffer.concat([wrapped, Buffer.of(0)]), Buffer.alloc(WRAPPED_LIMIT + 1)];
    for (let at = 0; at < wrapped.length; at++) {
      damaged.push(wrapped.subarray(0, at));
      const altered = Buffer.from(wrapped);
      altered[at] = (altered[at] as number) ^ 1;
      damaged.push(altered);
    }
    const answers = new Set<string>();
    for (const bytes of damaged) {
      const error = await kms.unwrap(bytes, context(), UNHURRIED).then(
        () => assert.fail('unwrapped'),
        (error: Error & { code: string; facts: object }) => error,
      );
      answers.add(`${error.code} ${error.message} ${JSON.stringify(error.facts)}`);
    }
    assert.equal(answers.size, 1);
    assert.match([...answers][0] as string, /^KMS_REFUSED /);
  });

  test(`${name}: many calls at once do not mix`, async () => {
    const kms = await (await make()).again();
    await Promise.all(
      Array.from({ length: 32 }, async () => {
        const key = someKey();
        const mine = context({ dataKey: randomUUID() });
        const wrapped = await kms.wrap(key, mine, UNHURRIED);
        assert.ok(same(await kms.unwrap(wrapped, mine, UNHURRIED), key));
      }),
    );
  });

  test(`${name}: an aborted call is unavailable, not refused`, async () => {
    const kms = await (await make()).again();
    const wrapped = await kms.wrap(someKey(), context(), UNHURRIED);
    const aborted = AbortSignal.abort();
    await assert.rejects(kms.wrap(someKey(), context(), aborted), { code: 'KMS_UNAVAILABLE' });
    await assert.rejects(kms.unwrap(wrapped, context(), aborted), { code: 'KMS_UNAVAILABLE' });
  });

  test(`${name}: the key stands in no error`, async () => {
    const { again, other } = await make();
    const key = someKey();
    const wrapped = await (await again()).wrap(key, context(), UNHURRIED);
    const error = await (await other()).unwrap(wrapped, context(), UNHURRIED).catch((error: unknown) => error);
    const text = inspect(error, { depth: 9, showHidden: true });
    assert.ok(!text.includes(key.export().toString('hex')) && !text.includes(key.export().toString('base64')));
  });
}
