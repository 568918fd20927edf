import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { devInstallation } from '../support/installation.ts';
import { CHECKOUT, startProgram } from '../support/program.ts';
import { send } from '../support/strongroom.ts';

test('one command brings everything up, what it prints works, and the next start goes on from there', async (t) => {
  const installation = devInstallation();
  t.after(() => installation.close());
  const file = join(installation.home, 'dev.json');

  const begun = performance.now();
  const first = installation.launch();
  await first.ready;
  const took = performance.now() - begun;
  assert.ok(took < 10_000, `${Math.round(took)} ms for a new home`);
  const described = Object.keys(installation.dev()).sort().join();
  assert.equal(described, 'admin,database,gateway,pid,simulator,version');
  const { gateway, admin, simulator, database, pid } = installation.dev();
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(pid, first.program.pid);
  for (const value of [gateway.url, admin.url, admin.token, simulator.controlToken, simulator.secret, database.url]) {
    assert.ok(value.length > 10);
  }

  const said = first.program.stdout().toString();
  const answer = await runPrinted(said);
  assert.ok(Array.isArray(answer.accounts), JSON.stringify(answer));
  assert.match(runSnippet(said), /^[1-9]\d* transactions\n$/);
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
  // The handle of yesterday, on today's port.
  const later = await runPrinted(said.replaceAll(gateway.url, installation.dev().gateway.url));
  assert.ok(Array.isArray(later.accounts), JSON.stringify(later));
  assert.equal((await again.program.kill('SIGINT')).code, 0);
});

test('a start that fails says why and ends, whatever else had started already', async (t) => {
  const installation = devInstallation();
  t.after(() => {
    rmSync(join(installation.home, 'postgres.json'), { force: true }); // nothing to take over here
    return installation.close();
  });
  // Data without the way into it.
  mkdirSync(join(installation.home, 'postgres'), { mode: 0o700 });
  const { program } = installation.launch();
  assert.equal((await program.ended).code, 3);
  assert.match(program.stderr().toString(), /database-superuser\.txt is missing[\s\S]*EMBEDDED_FAILED/);
});

/** Runs the printed curl command as it stands there; where there is no curl, sends what it would send. */
async function runPrinted(said: string): Promise<Record<string, unknown>> {
  const [command] = / {2}curl -s (?:.*\\\n)*.*\n/.exec(said) ?? assert.fail(said);
  const { status, stdout } = spawnSync('sh', ['-c', command], { encoding: 'utf8', timeout: 30_000 });
  if (status !== 127) {
    assert.equal(status, 0);
    return JSON.parse(stdout) as Record<string, unknown>;
  }
  const url = /curl -s (\S+)/.exec(command)?.[1] ?? '';
  const headers = [...command.matchAll(/-H '([^:]+): ([^']+)'/g)].map(([, name, value]) => [name, value] as const);
  const body = /-d '([^']+)'/.exec(command)?.[1] ?? '';
  return (await send('', url, body, Object.fromEntries(headers))).body;
}

/** Saves the printed program in a folder where the SDK is installed, and runs it. */
function runSnippet(said: string): string {
  const [program] = / {2}import \{[^}]+\} from 'plaid';\n(?: {2}.*\n)+/.exec(said) ?? assert.fail(said);
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-snippet-'));
  try {
    symlinkSync(join(CHECKOUT, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(join(folder, 'try.mjs'), program);
    return execFileSync(process.execPath, ['try.mjs'], { cwd: folder, encoding: 'utf8', timeout: 60_000 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('a command that is not understood says so', async () => {
  const unknown = startProgram(['nonsense']);
  assert.equal((await unknown.ended).code, 2);
  const help = startProgram(['--help']);
  assert.equal((await help.ended).code, 0);
  assert.match(help.stdout().toString(), /audit verify/);
  const option = startProgram(['dev', '--nonsense']);
  assert.equal((await option.ended).code, 2);
});
