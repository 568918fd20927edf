import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PLAID_ERRORS } from '../../src/plaid/error-codes.ts';
import { healthHint, isInvalidAccessToken, parsePlaidError, plaidErrorOf } from '../../src/plaid/errors.ts';

const body = (fields: unknown) => Buffer.from(JSON.stringify(fields));

test('an error body gives type, code, reason and request id', () => {
  const error = parsePlaidError(
    body({
      error_type: 'ITEM_ERROR',
      error_code: 'ITEM_LOGIN_REQUIRED',
      error_code_reason: 'OAUTH_CONSENT_EXPIRED',
      error_message: 'the login details of this item have changed',
      display_message: null,
      request_id: 'HNTDNrA8F1shFEW',
      documentation_url: 'https://plaid.com/docs/',
      causes: [],
    }),
  );
  assert.deepEqual(error, {
    type: 'ITEM_ERROR',
    code: 'ITEM_LOGIN_REQUIRED',
    message: 'the login details of this item have changed',
    reason: 'OAUTH_CONSENT_EXPIRED',
    requestId: 'HNTDNrA8F1shFEW',
  });
  assert.deepEqual(plaidErrorOf({ error_type: 'A', error_code: 'B' }), {
    type: 'A',
    code: 'B',
    message: null,
    reason: null,
    requestId: null,
  });
});

test('what is no error body is none, and nothing in it makes the reader fail', () => {
  for (const text of [
    '',
    '{}',
    '[]',
    'null',
    '7',
    '<html>',
    '{"error_code":7,"error_type":"A"}',
    '{"error_type":"A"}',
    '{"error_type":"","error_code":"B"}',
    '{"error_type":"A","error_code":{}}',
    '{"error_type"',
  ]) {
    assert.equal(parsePlaidError(Buffer.from(text)), null, text);
  }
  assert.equal(parsePlaidError(body({ error_type: 'A', error_code: 'B', x: 'y'.repeat(70_000) })), null);
  assert.equal(
    parsePlaidError(body({ error_type: 'A', error_code: 'B', error_message: 'y'.repeat(50_000) }))?.message?.length,
    2_000,
  );
  fc.assert(fc.property(fc.anything(), (value) => plaidErrorOf(value) !== undefined));
  fc.assert(fc.property(fc.uint8Array(), (bytes) => parsePlaidError(Buffer.from(bytes)) === null));
});

test('a code says what it says about the item, and most say nothing', () => {
  const expected = {
    ITEM_LOGIN_REQUIRED: 'login_required',
    ITEM_LOCKED: 'action_at_bank',
    ACCESS_NOT_GRANTED: 'permission_missing',
    USER_PERMISSION_REVOKED: 'revoked',
    ITEM_NOT_FOUND: 'gone',
    ITEM_CONCURRENTLY_DELETED: 'gone',
    INSTITUTION_DOWN: 'degraded',
    INVALID_ACCESS_TOKEN: 'drift',
    PRODUCT_NOT_READY: null,
    RATE_LIMIT: null,
    INVALID_MFA: null,
    INVALID_API_KEYS: null,
    INTERNAL_SERVER_ERROR: null,
    constructor: null,
    __proto__: null,
  };
  for (const [code, hint] of Object.entries(expected)) assert.equal(healthHint(code), hint, code);
  assert.equal(
    isInvalidAccessToken(parsePlaidError(body({ error_type: 'INVALID_INPUT', error_code: 'INVALID_ACCESS_TOKEN' }))),
    true,
  );
  assert.equal(isInvalidAccessToken(null), false);
});

test('the table of errors has each once, with a status that Plaid uses', () => {
  assert.equal(PLAID_ERRORS.length, 151);
  assert.equal(new Set(PLAID_ERRORS.map(({ type, code }) => `${type}/${code}`)).size, 151);
  for (const { type, code, http } of PLAID_ERRORS) {
    assert.match(`${type} ${code}`, /^[A-Z_]+ [A-Z0-9_]+$/);
    assert.ok([208, 400, 404, 412, 429, 500, 503].includes(http), code);
  }
  const status = (code: string) => PLAID_ERRORS.find((error) => error.code === code)?.http;
  assert.deepEqual(
    [status('INVALID_API_KEYS'), status('ACCOUNTS_LIMIT'), status('PLANNED_MAINTENANCE')],
    [400, 429, 503],
  );
});
