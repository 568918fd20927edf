import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

/**
 * What a refusal of ours has to look like, whatever it refuses: the row of
 * docs/errors.md and the five fields that every Plaid SDK parses.
 */

const ROW = /^\| <a id="([A-Z_]+)"><\/a>`\1` \| (\d{3}) \| (yes|no) \| (.+?) \|/gm;

/** Code to status and sentence, as an operator reads them. */
export const DOCUMENTED: ReadonlyMap<string, { readonly status: number; readonly says: string }> = new Map(
  [...readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8').matchAll(ROW)].map(
    ([, code = '', status, , says = '']) => [code, { status: Number(status), says }],
  ),
);

export interface Refused {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

const FIELDS = ['display_message', 'error_code', 'error_message', 'error_type', 'request_id'];

/**
 * Asserts a refusal with one of `codes`: documented, with the documented status,
 * exactly Plaid's five fields, and nothing of ours beside them in the headers.
 */
export function assertRefused(answer: Refused, ...codes: readonly string[]): { code: string; requestId: string } {
  const body = parsed(answer.text);
  assert.deepEqual(Object.keys(body).sort(), FIELDS, answer.text.slice(0, 500));
  const code = String(body.error_code);
  assert.ok(codes.includes(code), `${code} instead of ${codes.join(' or ')}`);
  const row = DOCUMENTED.get(code);
  assert.ok(row !== undefined, `${code} has no row in docs/errors.md`);
  assert.equal(answer.status, row.status, `status of ${code}`);
  assert.equal(body.error_type, 'STRONGROOM_ERROR');
  assert.equal(body.display_message, null);
  assert.ok(String(body.error_message).startsWith(row.says), String(body.error_message));
  assert.match(String(body.request_id), /^[A-Za-z0-9]{15}$/);
  assert.match(String(answer.headers['content-type']), /^application\/json/);
  for (const name of ['server', 'x-powered-by', 'set-cookie']) assert.equal(answer.headers[name], undefined);
  return { code, requestId: String(body.request_id) };
}

/** What must be equal for answers that nobody may tell apart: everything but the request id and the date. */
export function faceOf({ status, headers, text }: Refused): unknown {
  const { date: _, ...shown } = headers;
  return { status, headers: shown, body: text.replace(/("request_id":")[^"]*/, '$1') };
}

function parsed(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return assert.fail(`no JSON: ${text.slice(0, 500)}`);
  }
}
