import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startSimulator } from '../../simulator/start.ts';
import { link, Products, refused, sdk, start, truth } from './kit.ts';

const folders: string[] = [];
// At the end of the file: each simulator still saves when its test is over.
after(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

async function newStateFile(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'simulator-'));
  folders.push(folder);
  return join(folder, 'plaid.json');
}

test('items, tokens, users, reports and keys outlive a restart', async (t) => {
  const stateFile = await newStateFile();
  const first = await start(t, { stateFile });
  const { accessToken, itemId } = await link(first.plaid, [Products.Auth, Products.Transactions, Products.Assets]);
  const user = (await first.plaid.userCreate({ client_user_id: 'u' })).data;
  const report = (await first.plaid.assetReportCreate({ access_tokens: [accessToken], days_requested: 3 })).data;
  const before = await first.plaid.transactionsGet({
    access_token: accessToken,
    start_date: '2000-01-01',
    end_date: '2100-01-01',
  });
  const { webhook_keys: keys } = await first.simulator.control<{ webhook_keys: unknown }>('GET', '/state');
  await first.simulator.close();
  assert.equal((await stat(stateFile)).mode & 0o777, 0o600);

  const second = await start(t, { stateFile });
  assert.deepEqual(
    [second.simulator.clientId, second.simulator.secret],
    [first.simulator.clientId, first.simulator.secret],
  );
  assert.equal((await second.plaid.itemGet({ access_token: accessToken })).data.item.item_id, itemId);
  const after = await second.plaid.transactionsGet({
    access_token: accessToken,
    start_date: '2000-01-01',
    end_date: '2100-01-01',
  });
  assert.deepEqual(after.data.transactions, before.data.transactions);
  await second.plaid.userItemsGet({ user_token: user.user_token as string });
  await second.plaid.assetReportGet({ asset_report_token: report.asset_report_token });
  assert.deepEqual((await second.simulator.control<{ webhook_keys: unknown }>('GET', '/state')).webhook_keys, keys);

  const fresh = (await second.plaid.itemAccessTokenInvalidate({ access_token: accessToken })).data.new_access_token;
  await second.simulator.close();
  const third = await start(t, { stateFile });
  await refused(third.plaid.itemGet({ access_token: accessToken }), 'INVALID_ACCESS_TOKEN');
  await third.plaid.itemGet({ access_token: fresh });
});

test('what was answered is on disk already: no clean end is needed', async (t) => {
  const stateFile = await newStateFile();
  const { plaid } = await start(t, { stateFile });
  for (let item = 0; item < 15; item++) {
    const { accessToken, itemId } = await link(plaid);
    // Read at once: a write that was only begun would not be there yet.
    const text = readFileSync(stateFile, 'utf8');
    assert.ok(text.includes(accessToken) && text.includes(itemId));
  }
  const many = await Promise.all(Array.from({ length: 20 }, () => link(plaid)));
  const text = readFileSync(stateFile, 'utf8');
  for (const { accessToken } of many) assert.ok(text.includes(accessToken));
  assert.deepEqual(await readdir(join(stateFile, '..')), ['plaid.json'], 'no temporary file is left');
});

test('a seeded simulator does not mint a token twice, also after a restart', async (t) => {
  const stateFile = await newStateFile();
  const seen = new Set<string>();
  for (let run = 0; run < 3; run++) {
    const { simulator, plaid } = await start(t, { stateFile, seed: 'same' });
    for (let item = 0; item < 3; item++) seen.add((await link(plaid)).accessToken);
    await simulator.close();
  }
  assert.equal(seen.size, 9);
});

test('a damaged state file, or one of the other environment, stops the start and is not touched', async () => {
  const stateFile = await newStateFile();
  await writeFile(stateFile, '{"secret-looking": ');
  await assert.rejects(
    startSimulator({ stateFile }),
    (error: Error) => /is not JSON/.test(error.message) && !error.message.includes('secret-looking'),
  );
  assert.equal(await readFile(stateFile, 'utf8'), '{"secret-looking": ');
  await rm(stateFile);
  await (await startSimulator({ stateFile })).close();
  await assert.rejects(
    startSimulator({ stateFile, environment: 'production' }),
    /another version or Plaid environment/,
  );
});

test('webhooks that were still owed are sent after the restart', async (t) => {
  const stateFile = await newStateFile();
  const { createServer } = await import('node:http');
  let status = 500;
  let hits = 0;
  let wake = (): void => {};
  const server = createServer((request, response) => {
    request.resume();
    hits++;
    response.writeHead(status).end();
    wake();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/`;
  const first = await start(t, { stateFile });
  const { accessToken } = await link(first.plaid, [Products.Auth], url);
  await first.plaid.sandboxItemResetLogin({ access_token: accessToken });
  if (hits === 0) await new Promise<void>((resolve) => (wake = resolve));
  await first.simulator.webhooksIdle();
  await first.simulator.close();
  status = 200;
  const again = new Promise<void>((resolve) => (wake = resolve));
  await start(t, { stateFile });
  await again;
  assert.equal(hits, 2);
});

test('without a state file nothing is kept', async (t) => {
  const first = await startSimulator();
  const { accessToken } = await link(sdk(first));
  await first.close();
  const second = await start(t, { clientId: first.clientId, secret: first.secret });
  await refused(second.plaid.itemGet({ access_token: accessToken }), 'INVALID_ACCESS_TOKEN');
  assert.equal((await truth(second.simulator)).items.length, 0);
});
