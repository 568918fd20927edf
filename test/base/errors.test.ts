import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOf, ERRORS, StrongroomError } from '../../src/base/errors.ts';
import { Secret } from '../../src/base/secret.ts';

test('every code says what happened and what to do, in whole sentences', () => {
  for (const [code, { status, says, remedy }] of Object.entries(ERRORS)) {
    assert.match(code, /^[A-Z]+(_[A-Z]+)*$/);
    assert.ok(Number.isInteger(status) && status >= 400 && status <= 599, code);
    for (const sentence of [says, remedy]) assert.match(sentence, /^[A-Z`'].*\.$/, `${code}: ${sentence}`);
    assert.ok(says.length <= 120, code);
  }
});

test('waiting is advised only where it can help: never for what the caller sent', () => {
  for (const [code, { status, retryable }] of Object.entries(ERRORS)) {
    if (retryable) assert.ok([408, 409, 429, 502, 503].includes(status), code);
    if (status === 400 || status === 401 || status === 403 || status === 404) assert.equal(retryable, false, code);
  }
});

test('the caller sees the sentence and the detail, the log the facts, and nobody the cause', () => {
  const error = new StrongroomError(
    'HANDLE_UNKNOWN',
    { detail: 'Field access_token.', record: 'r-1' },
    new Error('inner'),
  );
  assert.equal(error.message, `${ERRORS.HANDLE_UNKNOWN.says} Field access_token.`);
  assert.deepEqual(error.facts, { record: 'r-1' });
  assert.deepEqual([error.status, error.retryable, error.detail], [404, false, 'Field access_token.']);
  assert.ok(!error.message.includes('inner'));
});

test('what is not ours is INTERNAL', () => {
  for (const thrown of [new Error('x'), 'x', null, undefined, { code: 'HANDLE_UNKNOWN' }]) {
    assert.equal(codeOf(thrown), 'INTERNAL');
  }
  assert.equal(codeOf(new StrongroomError('OVERLOADED')), 'OVERLOADED');
});

test('a Secret prints a placeholder, whichever way', () => {
  const secret = new Secret('hunter2');
  for (const text of [`${secret}`, String(secret), JSON.stringify({ secret }), `${[secret]}`])
    assert.ok(!text.includes('hunter2'), text);
  assert.deepEqual(Object.keys(secret), []);
  assert.deepEqual(structuredClone(secret), {});
  assert.equal(secret.reveal(), 'hunter2');
});
