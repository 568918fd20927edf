/**
 * `npm run bench -- NAME`: runs one benchmark and prints its goals. Every figure is
 * a ratio against a peer or a limit that is measured in the same run, so that a
 * slow or busy machine changes both sides.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { parseArgs } from 'node:util';

/** One goal: `measured` must be at least (or at most) `bound`. */
export interface Goal {
  readonly name: string;
  readonly measured: number;
  readonly unit: string;
  readonly bound: number;
  readonly direction: 'at_least' | 'at_most';
}

export interface BenchResult {
  readonly goals: readonly Goal[];
  /** Everything else worth keeping: absolute figures, what was tried. */
  readonly figures: Readonly<Record<string, unknown>>;
}

interface Bench {
  readonly name: string;
  run(): Promise<BenchResult>;
}

export function met(goal: Goal): boolean {
  return goal.direction === 'at_least' ? goal.measured >= goal.bound : goal.measured <= goal.bound;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { record: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
  });
  const names = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
    .map((file) => file.slice(0, -3));
  const [name] = positionals;
  if (name === undefined || !names.includes(name)) {
    console.error(`usage: npm run bench -- NAME [--record] [--json]\nNAME is one of: ${names.join(', ')}`);
    return 2;
  }
  const bench = (await import(`./${name}.ts`)) as Bench;
  const result = await bench.run();
  const record = {
    bench: name,
    date: new Date().toISOString(),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
    machine: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    node: process.version,
    ...result,
  };
  if (values.json) console.log(JSON.stringify(record, null, 2));
  else {
    for (const goal of result.goals) {
      const sign = goal.direction === 'at_least' ? '>=' : '<=';
      console.log(
        `${met(goal) ? 'met   ' : 'MISSED'}  ${goal.name}: ${goal.measured.toFixed(3)} ${goal.unit} (goal ${sign} ${goal.bound})`,
      );
    }
    console.log(JSON.stringify(result.figures, null, 2));
  }
  if (values.record) {
    mkdirSync(`${import.meta.dirname}/results`, { recursive: true });
    writeFileSync(`${import.meta.dirname}/results/${name}.json`, `${JSON.stringify(record, null, 2)}\n`);
  }
  return result.goals.every(met) ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
