import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { CONTROL_ROUTES } from '../../simulator/control.ts';
import { FAULT_KINDS, POINTS } from '../../simulator/faults.ts';
import { ROUTES } from '../../simulator/routes.ts';
import { DEFAULT_SETTINGS } from '../../simulator/state.ts';

test('docs/simulator.md names every endpoint, control route, setting, fault kind and point', async () => {
  const text = await readFile(new URL('../../docs/simulator.md', import.meta.url), 'utf8');
  const named = new Set([...text.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]));
  const wanted = [
    ...ROUTES.keys(),
    ...Object.keys(CONTROL_ROUTES).map((route) =>
      route
        .replace('items/*', 'items/{item_id}')
        .replace('clients/*', 'clients/{client_id}')
        .replace('faults/*', 'faults/{id}'),
    ),
    ...Object.keys(DEFAULT_SETTINGS),
    ...FAULT_KINDS,
    ...POINTS,
  ];
  assert.deepEqual(
    wanted.filter((name) => !named.has(name)),
    [],
  );
});
