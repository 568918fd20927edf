import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { platform } from 'node:os';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** What bin/strongroom sees to before the first line of ours runs. */

const STRONGROOM = fileURLToPath(new URL('../bin/strongroom', import.meta.url));

/** A process that stays up: the simulator, which needs nothing else. */
async function started(): Promise<{ child: ChildProcess; said: () => string }> {
  const child = spawn(STRONGROOM, ['simulate', '--port', '0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (bytes) => {
    said += bytes;
  });
  for await (const line of createInterface({ input: child.stdout })) {
    said += line;
    if (/127\.0\.0\.1/.test(line)) return { child, said: () => said };
  }
  throw new Error(`did not start: ${said}`);
}

test('SIGUSR1 opens no inspector, and the process leaves no core dump', async () => {
  const { child, said } = await started();
  if (platform() === 'linux') {
    const limits = readFileSync(`/proc/${child.pid}/limits`, 'utf8');
    assert.match(limits, /Max core file size\s+0\s/);
    // Bit 9 of the ignored or caught signals: with the inspector on call, Node catches SIGUSR1 (10).
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    const caught = BigInt(`0x${/SigCgt:\s*([0-9a-f]+)/.exec(status)?.[1] ?? '0'}`);
    assert.equal(caught & (1n << 9n), 0n, 'nobody waits for SIGUSR1');
  }
  child.kill('SIGUSR1');
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  // Without a listener the signal ends the process, which is the safe end of the two.
  child.kill('SIGTERM');
  await ended;
  assert.ok(!/Debugger listening|inspector/i.test(said()), said());
});
