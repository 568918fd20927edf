import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { simulatorFields } from '../../scripts/generate-simulator-fields.ts';

test('the table of request fields is what the installed plaid package says', async () => {
  const committed = await readFile(new URL('../../simulator/fields.generated.ts', import.meta.url), 'utf8');
  assert.ok(committed === simulatorFields(), 'run: bin/node24 scripts/generate-simulator-fields.ts');
});
