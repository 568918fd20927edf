import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { StrongroomError } from '../../src/base/errors.ts';
import { MOST_SECRET_BYTES, type SecretStore } from '../../src/secrets/store.ts';

/** What a test of one adapter can do to its place. */
export interface SecretPlace {
  readonly store: SecretStore;
  /** Keeps these bytes and says under which place they can be read. */
  keep(bytes: Uint8Array): Promise<string>;
  /** A place where nothing is kept. */
  readonly nowhere: string;
}

const CANARY = ['canary', 'f3a9c1', 'never-print-me'].join('-');
const signal = new AbortController().signal;

/** Every adapter of the SecretStore port passes this suite. */
export function secretStoreContract(name: string, make: () => Promise<SecretPlace>): void {
  const reading = async (bytes: Uint8Array | string): Promise<string> => {
    const place = await make();
    const secret = await place.store.read(await place.keep(Buffer.from(bytes)), signal);
    return secret.reveal();
  };
  const refusal = async (bytes: Uint8Array | string): Promise<StrongroomError> => {
    const outcome = await reading(bytes).then(
      () => assert.fail('was read'),
      (error: unknown) => error,
    );
    assert.ok(outcome instanceof StrongroomError);
    assert.equal(outcome.code, 'SECRET_UNREADABLE');
    return outcome;
  };

  test(`${name}: a secret comes back as it was kept`, async () => {
    assert.equal(await reading(CANARY), CANARY);
    assert.equal(await reading('päßwörd 鍵 🔑'), 'päßwörd 鍵 🔑');
  });

  test(`${name}: one line end is taken off, and nothing else`, async () => {
    assert.equal(await reading(`${CANARY}\n`), CANARY);
    assert.equal(await reading(`${CANARY}\r\n`), CANARY);
    assert.equal(await reading(`${CANARY}\n\n`), `${CANARY}\n`);
    assert.equal(await reading(` ${CANARY} \n`), ` ${CANARY} `);
    assert.equal(await reading(`\ufeff${CANARY}`), `\ufeff${CANARY}`);
  });

  test(`${name}: the largest secret is read, one byte more is not`, async () => {
    assert.equal((await reading('x'.repeat(MOST_SECRET_BYTES))).length, MOST_SECRET_BYTES);
    await refusal('x'.repeat(MOST_SECRET_BYTES + 1));
  });

  for (const [what, bytes] of [
    ['nothing', ''],
    ['a line end alone', '\n'],
    ['a NUL', `${CANARY}\0`],
    ['what is not UTF-8', Buffer.concat([Buffer.from(CANARY), Buffer.from([0xff])])],
  ] as const) {
    test(`${name}: ${what} is refused, and the refusal shows nothing of it`, async () => {
      const error = await refusal(bytes);
      assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(CANARY));
    });
  }

  test(`${name}: a place where nothing is kept is named`, async () => {
    const { store, nowhere } = await make();
    await assert.rejects(store.read(nowhere, signal), (error: StrongroomError) => {
      assert.equal(error.code, 'SECRET_UNREADABLE');
      return error.message.includes(nowhere);
    });
  });

  test(`${name}: a reading that was given up is not begun`, async () => {
    const { store, nowhere } = await make();
    await assert.rejects(store.read(nowhere, AbortSignal.abort()), { name: 'AbortError' });
  });
}
