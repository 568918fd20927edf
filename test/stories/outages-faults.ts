/**
 * Every way in which Plaid's side of one call can fail, as the simulator plays it.
 * Two kinds above all: not done, and done with the answer lost.
 */

/** Time limit of a call in the tests that use these, in milliseconds. */
export const UPSTREAM_MS = 800;

export interface Fault {
  readonly name: string;
  readonly fault: Readonly<Record<string, unknown>>;
  /** Whether Plaid carries the call out. */
  readonly done: boolean;
  /** Whether we are told so beyond doubt: by a proper answer, or by a refusal that Plaid gives before it begins. */
  readonly told?: boolean;
}

const PAGE = '<html><body>Bad gateway</body></html>';
export const FAULTS: readonly Fault[] = [
  { name: 'no fault', fault: { kind: 'delay', ms: 1 }, done: true, told: true },
  { name: 'late, but in time', fault: { kind: 'delay', ms: 300, point: 'after_commit' }, done: true, told: true },
  { name: 'not done, FIN', fault: { kind: 'not_done' }, done: false },
  { name: 'not done, RST', fault: { kind: 'not_done', reset: true }, done: false },
  { name: 'not even read', fault: { kind: 'not_done', point: 'before_read' }, done: false },
  { name: 'answer lost, FIN', fault: { kind: 'answer_lost' }, done: true },
  { name: 'answer lost, RST', fault: { kind: 'answer_lost', reset: true }, done: true },
  { name: 'answer cut before its body', fault: { kind: 'answer_cut', bytes: 0 }, done: true },
  { name: 'answer cut in the middle', fault: { kind: 'answer_cut', bytes: 20 }, done: true },
  { name: 'answer cut before its end', fault: { kind: 'answer_cut', bytes: -1 }, done: true },
  { name: 'too late, done', fault: { kind: 'delay', ms: 2 * UPSTREAM_MS, point: 'after_commit' }, done: true },
  { name: 'an error before', fault: { kind: 'status', status: 500 }, done: false },
  { name: 'an error after', fault: { kind: 'status', status: 500, point: 'after_commit' }, done: true },
  { name: 'maintenance before', fault: { kind: 'status', status: 503 }, done: false },
  { name: 'a limit', fault: { kind: 'status', status: 429 }, done: false, told: true },
  { name: 'a refusal', fault: { kind: 'status', error_code: 'INVALID_FIELD' }, done: false, told: true },
  { name: 'an unknown refusal', fault: { kind: 'body', status: 400, body: { error: 'no' } }, done: false },
  { name: 'a page with status 502, before', fault: { kind: 'body', status: 502, body: PAGE }, done: false },
  {
    name: 'a page with status 502, after',
    fault: { kind: 'body', status: 502, body: PAGE, point: 'after_commit' },
    done: true,
  },
  { name: 'a page with status 200, before', fault: { kind: 'body', body: PAGE }, done: false },
  { name: 'a page with status 200, after', fault: { kind: 'body', body: PAGE, point: 'after_commit' }, done: true },
  { name: 'a page with status 403', fault: { kind: 'body', status: 403, body: PAGE }, done: false },
  { name: 'a list', fault: { kind: 'body', body: '[]' }, done: false },
  { name: 'nothing', fault: { kind: 'body', body: '' }, done: false },
  { name: 'a redirect', fault: { kind: 'body', status: 302, body: '', headers: { Location: '/' } }, done: false },
  { name: 'no content', fault: { kind: 'body', status: 204, body: '' }, done: false },
  { name: 'an empty object without request id', fault: { kind: 'body', body: {} }, done: false },
  {
    name: 'gzip said',
    fault: { kind: 'body', body: '{}', headers: { 'Content-Encoding': 'gzip' }, point: 'after_commit' },
    done: true,
  },
];

/** What no token can be. */
export const TOKENS: readonly (readonly [what: string, token: unknown])[] = [
  ['nothing', ''],
  ['null', null],
  ['a number', 7],
  ['an object', {}],
  ['a list', []],
  ['20 KB', 'a'.repeat(20_000)],
  ['a line break', 'access\n'],
];
