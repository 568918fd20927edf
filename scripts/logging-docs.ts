import { readFileSync } from 'node:fs';
import { SAFE_FIELDS } from '../src/redaction/fields.ts';

const BEGIN = '<!-- fields: made by scripts/generate.ts from src/redaction/fields.ts -->';
const END = '<!-- end of fields -->';

/** docs/logging.md with its table of fields brought up to date; the rest is written by hand. */
export function loggingDocument(path: string): string {
  const written = readFileSync(path, 'utf8');
  const [before, rest] = written.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined)
    throw new Error(`${path} lacks the marks around the table of fields`);
  const rows = Object.entries(SAFE_FIELDS).map(([field, says]) => `| \`${field}\` | ${says} |`);
  return `${before}${BEGIN}\n\n| field | what it is |\n|---|---|\n${rows.join('\n')}\n\n${END}${after}`;
}
