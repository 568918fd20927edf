/**
 * `npm run test:sdk-python`: the official plaid-python SDK as a client.
 *
 * Makes a virtual environment in a temporary folder, installs there what
 * sdk-python.txt pins, and runs sdk-python.py against a `strongroom dev` of its own.
 * What cannot be installed fails; nothing is skipped.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { devInstallation } from '../support/installation.ts';

const REQUIREMENTS = join(import.meta.dirname, 'sdk-python.txt');
const TOKEN = /(access|user|assets|processor)-(sandbox|production)-[0-9a-f]{8}-/;

const folder = mkdtempSync(join(tmpdir(), 'strongroom-python-'));
const installation = devInstallation();
try {
  const python = join(folder, 'venv', 'bin', 'python');
  execFileSync('python3', ['-m', 'venv', join(folder, 'venv')], { stdio: 'inherit' });
  const quiet = ['--quiet', '--no-input', '--disable-pip-version-check'];
  execFileSync(python, ['-m', 'pip', 'install', ...quiet, '--require-hashes', '-r', REQUIREMENTS], {
    stdio: 'inherit',
  });

  const { program, ready } = installation.launch();
  await ready;
  const { gateway } = JSON.parse(readFileSync(join(installation.home, 'dev.json'), 'utf8')) as {
    gateway: { url: string; applicationId: string; applicationKey: string };
  };
  const said = execFileSync(python, [join(import.meta.dirname, 'sdk-python.py')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 120_000,
    env: {
      PATH: process.env.PATH ?? '',
      STRONGROOM_URL: gateway.url,
      APPLICATION_ID: gateway.applicationId,
      APPLICATION_KEY: gateway.applicationKey,
    },
  });
  assert.doesNotMatch(said, TOKEN, 'a token reached the application');
  const { code } = await program.kill('SIGTERM');
  assert.equal(code, 0);
  console.log(`${/^plaid-python==\S+/m.exec(readFileSync(REQUIREMENTS, 'utf8'))?.[0]}: ${said.trim()}`);
  console.log('1 passed, 0 failed');
} finally {
  await installation.close();
  rmSync(folder, { recursive: true, force: true });
}
