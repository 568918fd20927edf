import { CONFIG } from '../src/config-schema.ts';

/** docs/config.md and docs/strongroom.schema.json, from the table of settings. */

interface Schema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly properties?: Record<string, Schema>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly description?: string;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly form?: string;
  readonly meaning?: string;
}

const TABLE = CONFIG as unknown as Schema;

/** Words of ours that JSON Schema does not know. */
const OURS = new Set(['form', 'meaning']);

export function jsonSchema(): Record<string, unknown> {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'strongroom.yaml',
    ...plain(TABLE),
  };
}

/** As the formatter of this repository writes JSON: short lists on one line. */
export function jsonSchemaText(): string {
  const text = JSON.stringify(jsonSchema(), null, 2);
  const oneLine = text.replace(
    /^( *)(.*)\[\n([^[\]{}]*?)\n *\](,?)$/gm,
    (whole, indent: string, key: string, items: string, comma: string) => {
      const line = `${indent}${key}[${items.trim().replace(/\n\s*/g, ' ')}]${comma}`;
      return line.length <= 120 ? line : whole;
    },
  );
  return `${oneLine}\n`;
}

function plain(schema: Schema): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (OURS.has(key) || key === 'required') continue;
    if (key === 'properties') {
      out.properties = Object.fromEntries(
        Object.entries(value as Record<string, Schema>).map(([k, s]) => [k, plain(s)]),
      );
    } else if (key === 'items') out.items = plain(value as Schema);
    else out[key] = value;
  }
  // What has a default may be left out of the file.
  const required = (schema.required ?? []).filter((key) => isNeeded(schema.properties?.[key] as Schema));
  if (required.length > 0) out.required = required;
  return out;
}

/** Whether leaving it out is an error: no default, or a section in which something is needed. */
function isNeeded(schema: Schema): boolean {
  if (schema.type !== 'object') return schema.default === undefined;
  return (schema.required ?? []).some((key) => isNeeded(schema.properties?.[key] as Schema));
}

export function configDocument(): string {
  const rows: string[] = [];
  const sections = Object.entries(TABLE.properties ?? {}).map(([key, section]) => {
    rows.length = 0;
    if (section.type === 'array') rows.push(row(key, section, false));
    collect(
      section.type === 'array' ? (section.items as Schema) : section,
      section.type === 'array' ? `${key}[]` : key,
      rows,
    );
    return `## ${key}\n\n${section.description}\n\n| setting | takes | default | what it is |\n|---|---|---|---|\n${rows.join('\n')}\n`;
  });
  return `${HEAD}\n${sections.join('\n')}`;
}

function collect(schema: Schema, path: string, rows: string[]): void {
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    const here = `${path}.${key}`;
    const needed = schema.required?.includes(key) === true && isNeeded(inner);
    if (inner.type === 'object') {
      rows.push(`| \`${here}\` | section | ${needed ? '**needed**' : '-'} | ${inner.description ?? ''} |`);
      collect(inner, here, rows);
    } else {
      rows.push(row(here, inner, needed));
      if (inner.items?.type === 'object') collect(inner.items, `${here}[]`, rows);
    }
  }
}

function row(path: string, schema: Schema, needed: boolean): string {
  const fallback =
    schema.default === undefined ? (needed ? '**needed**' : '-') : `\`${JSON.stringify(schema.default)}\``;
  return `| \`${path}\` | ${takes(schema)} | ${fallback} | ${schema.description ?? ''} |`;
}

const MEANINGS: Readonly<Record<string, string>> = {
  reference: 'reference',
  path: 'absolute path',
  origin: 'origin',
  url: 'URL',
  databaseUrl: 'database URL',
  cidr: 'CIDR',
  host: 'IP address',
  destination: 'word or absolute path',
};

function takes(schema: Schema): string {
  if (schema.enum !== undefined) return schema.enum.map((word) => `\`${word}\``).join(', ');
  if (schema.meaning !== undefined) return MEANINGS[schema.meaning] ?? schema.meaning;
  if (schema.form !== undefined) return schema.form.replaceAll('|', '\\|');
  if (schema.type === 'integer') return `${schema.minimum} to ${schema.maximum}`;
  if (schema.type === 'boolean') return '`true`, `false`';
  if (schema.type === 'array') {
    const of = schema.items?.type === 'object' ? 'sections' : `${takes(schema.items ?? {})}s`;
    return `list of ${of}, ${schema.minItems ?? 0} to ${schema.maxItems}`;
  }
  return 'text';
}

const HEAD = `# Configuration

<!-- Made by scripts/generate.ts from src/config-schema.ts. Do not edit. -->

\`strongroom serve --config FILE\` reads one YAML file. An example: [examples/strongroom.yaml](../examples/strongroom.yaml).
For completion and checks in an editor, put this in the first line:
\`# yaml-language-server: $schema=../docs/strongroom.schema.json\`.

- **Refused to start, with the reason.** Every error is reported, not only the first, each with file, line, column, what is
  wrong and what to write instead. Unknown settings are errors. There is no switch that ignores one.
- **Secrets only by reference**: \`file:/absolute/path\`. The file belongs to the user who starts Strongroom or to root, has
  mode 0600 or 0400, is no link, lies in a folder that others cannot write to, and holds the secret alone (one line end at
  its end is ignored). One secret serves one purpose. Messages never repeat a value.
- **Sizes and times** are whole numbers; the name carries the unit: \`...Bytes\`, \`...Ms\`, \`...Seconds\`.
- **YAML** without anchors, aliases, tags and directives: the file means what it shows. At most 256 KiB.
- **Two environment variables** are read: \`STRONGROOM_HOME\` (the home folder of \`dev\`, default \`.strongroom\`) and
  \`STRONGROOM_CONFIG\` (the file, where \`--config\` is left out). In staging and production the start is refused with
  variables and Node flags that open an inspector, load foreign code, weaken TLS or steer the database driver
  (\`NODE_OPTIONS\` beyond memory settings, \`NODE_TLS_REJECT_UNAUTHORIZED=0\`, \`NODE_EXTRA_CA_CERTS\`, \`NODE_DEBUG\`,
  \`LD_PRELOAD\`, \`PG*\` and more); in development they are a warning.

## What production refuses

A production deployment cannot be started with this version: it needs a key service and a secrets manager, and only files
are supported yet. Beyond those, production refuses: the embedded database, Plaid sandbox, \`plaid.upstream\`, a gateway
without TLS beyond loopback, audit heads over plain HTTP or none at all, and the log levels \`trace\` and \`debug\`. Each
refusal names the setting, its line and the rule (src/config-rules.ts).
`;
