import assert from 'node:assert/strict';
import type { Simulator } from '../../simulator/start.ts';
import { ENDPOINTS } from '../../src/plaid/endpoints.ts';
import type { App, Desk } from './canary-stories.ts';
import type { App as KitApp } from './strongroom.ts';
import { gather, inventAnswer, inventToken, plant, requestFor, valueAt } from './table-bodies.ts';

/**
 * Every endpoint of the table, with planted answers that hold every class of token
 * where it belongs, and once more with a copy of each where none belongs.
 */
export async function wholeTable(desk: Desk, app: App): Promise<number> {
  const { canaries, control } = desk.ground;
  const dispositions = new Map(
    ENDPOINTS.endpoints.flatMap(({ path, tokensOut }) =>
      tokensOut.map((token) => [`${path} ${token.path}`, token.disposition] as const),
    ),
  );
  /** Plants, and learns what is a secret in it. */
  const simulator = {
    control: (method: string, path: string, fault?: unknown) => {
      const { endpoint, body } = (fault ?? {}) as { endpoint?: string; body?: unknown };
      for (const [place, disposition] of dispositions) {
        const [of, at] = place.split(' ') as [string, string];
        const token = of === endpoint ? valueAt(body, at) : undefined;
        if (typeof token === 'string') canaries.token(`${disposition}: planted in ${of}`, token);
      }
      return control(method, path, fault);
    },
  } as Simulator;
  const kitApp = { post: (path: string, body: unknown) => desk.post(app, path, body) } as unknown as KitApp;
  const { owned } = await gather(simulator, kitApp);

  let called = 0;
  for (const endpoint of ENDPOINTS.endpoints) {
    // A removal ends what the others need; the few paths that are not POSTed hold no token.
    if (endpoint.effect === 'remove' || endpoint.method !== 'POST') continue;
    const mine = new Map(owned).set('public token', inventToken('public'));
    const request = requestFor(endpoint, mine);
    if (request === null) continue;
    const planted = inventAnswer(endpoint);
    await plant(simulator, endpoint, planted);
    const good = await desk.post(app, endpoint.path, request);
    assert.equal(good.status, 200, `${endpoint.path}: ${good.text.slice(0, 300)}`);
    called++;

    const token = inventToken('access');
    canaries.token('vaulted: planted beside', token);
    mine.set('public token', inventToken('public'));
    await plant(simulator, endpoint, { ...inventAnswer(endpoint), note: { [token]: `of ${token}` } });
    await desk.post(app, endpoint.path, requestFor(endpoint, mine));
  }
  return called;
}
