/**
 * Writes every file that is made from code, or compares:
 *
 *     npm run generate                 writes
 *     npm run generate -- --check      compares, exit 1 when one differs
 *
 * The endpoint table and the schema dump have scripts of their own, which it runs.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cliDocument } from './cli-docs.ts';
import { configDocument, jsonSchemaText } from './config-docs.ts';
import { errorsDocument } from './errors-docs.ts';
import { simulatorFields } from './generate-simulator-fields.ts';
import { loggingDocument } from './logging-docs.ts';

function at(path: string): string {
  return fileURLToPath(new URL(`../${path}`, import.meta.url));
}

/** What is made here: path from the root of the repository, and text. */
export function documents(): readonly (readonly [path: string, text: string])[] {
  return [
    ['simulator/fields.generated.ts', simulatorFields()],
    ['docs/cli.md', cliDocument()],
    ['docs/config.md', configDocument()],
    ['docs/strongroom.schema.json', jsonSchemaText()],
    ['docs/errors.md', errorsDocument()],
    ['docs/logging.md', loggingDocument(at('docs/logging.md'))],
  ];
}

/** Paths of the files that are not what the code says. */
export function stale(): string[] {
  return documents()
    .filter(([path, text]) => !existsSync(at(path)) || readFileSync(at(path), 'utf8') !== text)
    .map(([path]) => path);
}

/** Each understands --check. */
const OTHERS = ['generate-endpoints.ts', 'dump-schema.ts'];

function main(check: boolean): number {
  let found = 0;
  if (check) {
    for (const path of stale()) {
      console.error(`${path} is not what the code says; run npm run generate`);
      found++;
    }
  } else {
    for (const [path, text] of documents()) writeFileSync(at(path), text);
  }
  for (const script of OTHERS) {
    const path = at(`scripts/${script}`);
    const { status } = spawnSync(process.execPath, [path, ...(check ? ['--check'] : [])], { stdio: 'inherit' });
    if (status !== 0) {
      console.error(`scripts/${script} ended with ${status}`);
      found++;
    }
  }
  return found === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = main(process.argv.includes('--check'));
