/**
 * `npm test`: one database server for the whole run, then every test file.
 *
 *   bin/node24 test/support/run.ts [--server embedded|debian] [FILE | FOLDER | PART-OF-A-PATH]...
 *
 * Ends with node's own exit code; 3 when there is nothing to run or no server.
 */
import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { debianPostgres } from './debian-postgres.ts';
import { findServer, HOME_PREFIX, SERVER_FILE, SERVER_URL, startServer } from './server.ts';
import { SUITES } from './suites.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { server: { type: 'string', default: 'embedded' } },
});
process.chdir(path.join(import.meta.dirname, '..', '..'));

const files = globSync('test/**/*.test.ts', { exclude: ['test/suites/**'] })
  .sort()
  .filter(
    (file) =>
      positionals.length === 0 || positionals.some((part) => file.includes(path.normalize(part).replace(/^\.\//, ''))),
  );

/** Per test, in milliseconds: a hanging test must not hang the run. */
const TEST_TIMEOUT_MS = 120_000;

async function main(): Promise<number> {
  if (files.length === 0) {
    console.error(`no test file fits ${positionals.join(' ')}`);
    return 3;
  }
  if (values.server !== 'embedded' && values.server !== 'debian') {
    console.error('--server takes embedded or debian');
    return 3;
  }
  const server = (await findServer()) ?? (await startServer(values.server === 'debian' ? debianPostgres() : undefined));
  // Named like a test home, so that a later run removes it should we be killed.
  const folder = mkdtempSync(path.join(tmpdir(), HOME_PREFIX));
  const location = path.join(folder, 'server.json');
  try {
    server.announce(location);
    return await runTests(location);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await server.stop();
  }
}

function runTests(location: string): Promise<number> {
  const { [SERVER_URL]: _, ...environment } = process.env;
  const child = spawn(
    process.execPath,
    ['--test', '--test-concurrency=2', `--test-timeout=${TEST_TIMEOUT_MS}`, '--test-reporter=spec', ...files],
    { stdio: 'inherit', env: { ...environment, [SERVER_FILE]: location } },
  );
  // The terminal sends Ctrl-C to both; we stay until the tests have ended, and stop the server.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((resolve) => {
    child.on('error', () => resolve(3));
    child.on('exit', (code) => resolve(code ?? 3));
  });
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  return 3;
});
if (positionals.length === 0 && values.server === 'embedded') {
  console.log('\nNot part of this run; .ci/run runs them all:');
  for (const { name, command, needs } of SUITES) console.log(`  ${command}  ${name} (needs ${needs})`);
}
