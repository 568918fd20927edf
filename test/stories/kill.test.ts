import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testServer } from '../support/database.ts';
import { devInstallation, type Installation, serveInstallation } from '../support/installation.ts';
import { killRounds } from '../support/kill.ts';

/**
 * kill -9 under load. Five rounds here, with the same seed at every run; many more,
 * with new seeds, in test/suites/kill.ts.
 */

async function survives(installation: Installation, seed: string, rounds: number, log: (line: string) => void) {
  try {
    const report = await killRounds({ installation, seed, rounds, onRound: log });
    assert.equal(report.rounds, rounds);
    assert.ok(report.answered > 0 && report.cutOff > 0 && report.items > 0, JSON.stringify(report));
  } finally {
    await installation.close();
  }
}

test('a killed gateway loses nothing that it acknowledged, and gives nothing twice', async (t) => {
  await survives(await serveInstallation(await testServer()), 'story', 4, (line) => t.diagnostic(line));
});

test('a whole Strongroom that is killed, database server left behind, goes on at the next start', async (t) => {
  await survives(devInstallation(), 'story of dev', 1, (line) => t.diagnostic(line));
});
