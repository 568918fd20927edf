import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { Outcome } from '../../src/cli/command.ts';
import { runSimulator } from '../../src/cli/simulate.ts';
import { link, sdk } from './kit.ts';

function streams() {
  const io = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  return {
    io,
    firstLine: () => new Promise<string>((resolve) => io.stdout.once('data', (bytes) => resolve(String(bytes)))),
  };
}

/** Runs the command until the test says stop. */
function running(argv: string[]) {
  const { io, firstLine } = streams();
  let stop = (): void => {};
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const printed = firstLine();
  const outcome: Promise<Outcome> = runSimulator(argv, io, () => stopped);
  return { printed, outcome, stop };
}

test('simulate prints what an SDK needs, works, keeps its state and ends well', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'simulate-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const argv = [
    '--port',
    '0',
    '--json',
    '--state',
    join(folder, 's.json'),
    '--control-token-file',
    join(folder, 'token'),
  ];
  const first = running(argv);
  const summary = JSON.parse(await first.printed) as {
    url: string;
    controlUrl: string;
    clientId: string;
    secret: string;
    controlToken?: string;
  };
  const { accessToken } = await link(sdk(summary));
  assert.equal(summary.controlToken, undefined, 'it stands in the file only');
  const token = (await readFile(join(folder, 'token'), 'utf8')).trim();
  assert.equal((await stat(join(folder, 'token'))).mode & 0o777, 0o600);
  const truth = await fetch(`${summary.controlUrl}/truth`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(truth.status, 200);
  first.stop();
  assert.equal(await first.outcome, 'ok');

  const second = running(argv);
  const again = JSON.parse(await second.printed) as typeof summary;
  assert.equal((await sdk(again).itemGet({ access_token: accessToken })).status, 200);
  second.stop();
  await second.outcome;
});

test('for a person it says that the secret is fake and shows a call that works', async () => {
  const { printed, outcome, stop } = running(['--port', '0']);
  const text = await printed;
  assert.match(text, /fake: it opens nothing but this simulator/);
  const call =
    /curl -s (\S+) -H '([^:]+): ([^']+)' \\\n\s+-H '([^:]+): ([^']+)' -H '([^:]+): ([^']+)' \\\n\s+-d '([^']+)'/.exec(
      text,
    ) as RegExpExecArray;
  const [, url, a, av, b, bv, c, cv, body] = call as unknown as string[];
  const answer = await fetch(url as string, {
    method: 'POST',
    headers: { [a as string]: av as string, [b as string]: bv as string, [c as string]: cv as string },
    body: body as string,
  });
  assert.match(((await answer.json()) as { public_token: string }).public_token, /^public-sandbox-/);
  stop();
  await outcome;
});

test('wrong options are a usage error; a taken port has its own code', async (t) => {
  const never = (): Promise<void> => Promise.resolve();
  for (const argv of [
    [],
    ['--port', 'x'],
    ['--port', '70000'],
    ['--port', '0', '--environment', 'moon'],
    ['--port', '0', '--webhooks', 'all'],
  ]) {
    await assert.rejects(runSimulator(argv, streams().io, never), { code: 'USAGE' }, argv.join(' '));
  }
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const port = String((server.address() as AddressInfo).port);
  await assert.rejects(runSimulator(['--port', port], streams().io, never), { code: 'LISTEN_FAILED' });
  await assert.rejects(runSimulator(['--port', '0', '--control-port', port], streams().io, never), {
    code: 'LISTEN_FAILED',
  });
});
