import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { devInstallation } from '../support/installation.ts';
import { startProgram } from '../support/program.ts';
import { send } from '../support/strongroom.ts';

test('one command brings everything up, what it prints works, and the next start goes on from there', async (t) => {
  const installation = devInstallation();
  t.after(() => installation.close());
  const file = join(installation.home, 'dev.json');

  const first = installation.launch();
  await first.ready;
  const { gateway, admin, simulator, database, pid } = installation.dev();
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(pid, first.program.pid);
  for (const value of [gateway.url, admin.url, admin.token, simulator.controlToken, simulator.secret, database.url]) {
    assert.ok(value.length > 10);
  }

  // The printed curl line, as it was printed.
  const said = first.program.stdout().toString();
  const printed = /curl -s (\S+) \\\n\s+-H '([^']+)' \\\n\s+-H '([^']+)' \\\n\s+-H '([^']+)' \\\n\s+-d '([^']+)'/.exec(
    said,
  );
  assert.ok(printed !== null, said);
  const [, url, ...rest] = printed as unknown as [string, string, ...string[]];
  const body = rest.pop() as string;
  const headers = Object.fromEntries(rest.map((header) => header.split(': ') as [string, string]));
  const answer = await send('', url, body, headers);
  assert.equal(answer.status, 200, answer.text);
  assert.ok(Array.isArray(answer.body.accounts));
  assert.match(said, /\n {2}sealed {5}[0-9a-f]+\.\.\.\n/);
  assert.match(said, /access\.admitted/);

  const second = startProgram(['dev', '--port-base', '0'], { home: installation.home });
  const refused = await second.ended;
  assert.equal(refused.code, 3);
  assert.match(second.stderr().toString(), /HOME_IN_USE/);
  assert.ok(existsSync(file), 'the second start left the first one alone');

  const ending = await first.program.kill('SIGTERM');
  assert.equal(ending.code, 0);
  assert.ok(!existsSync(file), 'dev.json stands only while it runs');

  const again = installation.launch();
  await again.ready;
  assert.equal(installation.dev().gateway.applicationKey, gateway.applicationKey);
  const later = await send('', `${installation.dev().gateway.url}/accounts/get`, body, headers);
  assert.equal(later.status, 200, 'the handle of yesterday works today');
  assert.equal((await again.program.kill('SIGINT')).code, 0);
});

test('a command that is not understood says so', async () => {
  const unknown = startProgram(['nonsense']);
  assert.equal((await unknown.ended).code, 2);
  const help = startProgram(['--help']);
  assert.equal((await help.ended).code, 0);
  assert.match(help.stdout().toString(), /audit verify/);
  const option = startProgram(['dev', '--nonsense']);
  assert.equal((await option.ended).code, 2);
});
