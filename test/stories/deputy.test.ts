import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ENDPOINT_CLASSES, type Policy, RELEASED_KINDS } from '../../src/access/policy.ts';
import { ENDPOINTS } from '../../src/plaid/endpoints.ts';
import { type Answer, type App, type Kit, strongroom } from '../support/strongroom.ts';
import {
  type Belongings,
  gather,
  inventAnswer,
  inventHandle,
  inventSubject,
  inventToken,
  type Position,
  plant,
  positionsOf,
  requestFor,
} from '../support/table-bodies.ts';

/**
 * The confused deputy: Plaid honours whatever comes with the client secret, and
 * that secret is ours. Two applications that may both call everything, so that
 * only ownership stands between them; every position of every endpoint in the
 * table where a token or a subject can stand.
 */

/** Everything, by exact path: removals, money and calls over the whole client included. */
const EVERYTHING: Partial<Policy> = {
  classes: [...ENDPOINT_CLASSES],
  endpoints: [...new Set(ENDPOINTS.endpoints.map(({ path }) => path))],
  releases: [...RELEASED_KINDS],
  budgets: { distinctItemsPerHour: 1_000_000, removalsPerDay: 1_000_000, rotationsPerDay: 1_000_000 },
};

describe('an application that may call everything', () => {
  const ending: (() => Promise<void>)[] = [];
  let kit: Kit;
  let alice: App;
  let bob: App;
  let hers: Belongings;
  let his: Belongings;

  before(async () => {
    kit = await strongroom({ after: (end) => void ending.push(end as () => Promise<void>) });
    alice = await kit.application('alice', EVERYTHING);
    bob = await kit.application('bob', EVERYTHING);
    hers = (await gather(kit.simulator, alice)).owned;
    his = (await gather(kit.simulator, bob)).owned;
  });
  after(async () => {
    for (const end of ending) await end();
  });

  test('has come to own one of every kind that a request can name', () => {
    for (const endpoint of ENDPOINTS.endpoints)
      for (const { kind, path } of positionsOf(endpoint))
        assert.ok(hers.has(kind) && his.has(kind), `${endpoint.path} ${path}: nothing ever makes a ${kind} ours`);
  });

  for (const named of ENDPOINT_CLASSES) {
    const endpoints = ENDPOINTS.endpoints.filter((endpoint) => endpoint.class === named);
    const cases = endpoints.flatMap((endpoint) => positionsOf(endpoint).map((position) => ({ endpoint, position })));
    if (cases.length === 0) continue;

    test(`is answered for what another one owns as for what does not exist: ${named}, ${cases.length} positions`, async () => {
      const sent = await callsSent(kit);
      await each(cases, async ({ endpoint, position }) => {
        const place = `${endpoint.path} ${position.path} (${position.kind})`;
        for (const withOwn of position.path.endsWith('[]') ? [false, true] : [false]) {
          const values = (value: string) => (withOwn ? [own(his, position), value] : [value]);
          const ask = (value: string) => bob.post(endpoint.path, requestFor(endpoint, his, position, values(value)));
          const foreign = await ask(own(hers, position));
          assertRefused(foreign, position, place);
          if (position.what === 'claim' || position.kind === 'public token') continue; // free when nobody has it
          const absent = await ask(invent(kit, position));
          assert.deepEqual(withoutRequestId(foreign), withoutRequestId(absent), place);
        }
      });
      assert.equal(await callsSent(kit), sent, 'Plaid heard of it');
    });

    test(`reaches Plaid with what it owns itself: ${named}`, async () => {
      await kit.simulator.control('DELETE', '/faults');
      for (const endpoint of endpoints) {
        if (!SETTLED_BY_ANSWER.has(endpoint.path)) continue;
        await plant(kit.simulator, endpoint, inventAnswer(endpoint));
      }
      await kit.simulator.control('POST', '/faults', {
        endpoint: '*',
        kind: 'body',
        body: PLAIN_ANSWER,
        times: 10_000,
      });
      const before = await callsSent(kit);
      // Ends what the others need; test/stories/link.test.ts removes one.
      const lasting = cases.filter(({ endpoint }) => endpoint.path !== '/item/remove');
      await each(lasting, async ({ endpoint, position }) => {
        const body = requestFor(endpoint, hers, position, [own(hers, position)]);
        const answer = await alice.post(endpoint.path, body);
        assert.equal(answer.status, 200, `${endpoint.path} ${position.path}: ${answer.text}`);
      });
      assert.equal((await callsSent(kit)) - before, lasting.length);
      await kit.simulator.control('DELETE', '/faults');
    });
  }
});

const PLAIN_ANSWER = { request_id: 'simulated000000' };
/** Endpoints whose outcome is written down: they need more than an empty answer. */
const SETTLED_BY_ANSWER = new Set(['/item/public_token/exchange', '/item/access_token/invalidate']);

function own(belongings: Belongings, { kind }: Position): string {
  return belongings.get(kind) ?? assert.fail(`no ${kind}`);
}

function invent(kit: Kit, { what, kind }: Position): string {
  if (what === 'handle') return inventHandle(kit.config.deployment.id);
  return what === 'token' ? inventToken(kind) : inventSubject(kind);
}

function assertRefused(answer: Answer, { what }: Position, place: string): void {
  const code = what === 'handle' ? 'HANDLE_UNKNOWN' : 'SUBJECT_FOREIGN';
  assert.equal(answer.body.error_code, code, `${place}: ${answer.text}`);
  assert.equal(answer.status, 404, place);
}

function withoutRequestId({ status, headers, body }: Answer) {
  const { date: _date, 'x-request-id': _id, ...rest } = headers;
  return { status, headers: rest, body: { ...body, request_id: null } };
}

async function callsSent(kit: Kit): Promise<number> {
  return (await kit.simulator.control<{ last_seq: number }>('GET', '/truth?after=1000000000')).last_seq;
}

/** A few at a time: each call is two durable writes. */
async function each<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const queue = [...all];
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let one = queue.shift(); one !== undefined; one = queue.shift()) await work(one);
    }),
  );
}
