import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml';
import { adviceFor, LITERAL_ADVICE, objectionTo } from './config-meaning.ts';
import { CONFIG, type Config, type Meaning } from './config-schema.ts';
import { nearest, placesOf, sizeIn } from './config-suggest.ts';

/**
 * From YAML text to values, against the table of config-schema.ts. Collects every
 * finding and never stops at the first; only YAML that is not well-formed ends
 * early, since what follows would be guesses.
 *
 * Values are never repeated in a finding: any of them may be a misplaced secret.
 * Anchors, aliases, tags and directives are refused: a configuration means what
 * it shows. Nothing here reads a file or the environment.
 */

export interface Finding {
  readonly code: 'CONFIG_INVALID' | 'PRODUCTION_REFUSED';
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  /** Path of the setting, for example `plaid.clients[0].secret`; empty for the whole file. */
  readonly setting: string;
  readonly problem: string;
  readonly write: string;
  /** Name of the rule of config-rules.ts, where one speaks. */
  readonly rule?: string;
}

/** A configuration whose bad settings are left out, as far as it could be read. */
export type Draft = { readonly [K in keyof Config]?: DeepPartial<Config[K]> };
type DeepPartial<T> = T extends string | number | boolean
  ? T
  : T extends readonly (infer E)[]
    ? DeepPartial<E>[]
    : { readonly [K in keyof T]?: DeepPartial<T[K]> };

export interface Parsed {
  readonly draft: Draft;
  readonly findings: readonly Finding[];
  /** Where a setting stands; for one that is not written, where its section does. */
  readonly place: (setting: string) => { readonly line: number; readonly column: number };
}

/** Far more than any real configuration; keeps a wrong file from occupying the process. */
export const MOST_BYTES = 256 * 1024;
const MOST_FINDINGS = 100;

/** The parts of a TypeBox schema that the walk looks at. */
interface Rule {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly properties?: Record<string, Rule>;
  readonly required?: readonly string[];
  readonly items?: Rule;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly form?: string;
  readonly meaning?: Meaning;
}

const TABLE = CONFIG as unknown as Rule;

/** `file` is the name that findings carry. */
export function parseConfig(text: string, file: string): Parsed {
  const walk = new Walk(file);
  return walk.run(text);
}

class Walk {
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #findings: Finding[] = [];
  readonly #offsets = new Map<string, number>();

  constructor(file: string) {
    this.#file = file;
  }

  run(text: string): Parsed {
    if (Buffer.byteLength(text) > MOST_BYTES) {
      this.#add(0, '', 'this file is too large', `a configuration has at most ${MOST_BYTES} bytes`);
      return this.#parsed({});
    }
    // prettyErrors would copy lines of the file into messages; duplicate keys are
    // found below, in one pass.
    const document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, uniqueKeys: false });
    for (const error of document.errors) this.#add(error.pos[0], '', ...syntaxAdvice(error.code));
    if (document.errors.length === 0) {
      if (document.directives?.yaml.explicit === true) {
        this.#add(0, '', 'directives are not allowed', 'remove the line that begins with %');
      }
      this.#refuseIndirection(document.contents);
    }
    if (this.#findings.length > 0) return this.#parsed({});

    const draft = this.#value(TABLE, document.contents, '', 0);
    return this.#parsed((draft ?? {}) as Draft);
  }

  #parsed(draft: Draft): Parsed {
    const place = (setting: string): { line: number; column: number } => {
      let at = setting;
      while (at !== '' && !this.#offsets.has(at)) at = at.replace(/(\.[^.[]+|\[\d+\]|^[^.[]+)$/, '');
      return this.#position(this.#offsets.get(at) ?? 0);
    };
    return { draft, findings: this.#findings, place };
  }

  #position(offset: number): { line: number; column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  #add(offset: number, setting: string, problem: string, write: string): undefined {
    if (this.#findings.length >= MOST_FINDINGS) return;
    const { line, column } = this.#position(offset);
    this.#findings.push({ code: 'CONFIG_INVALID', file: this.#file, line, column, setting, problem, write });
  }

  /** Iterative: depth is the author's to choose. */
  #refuseIndirection(root: unknown): void {
    const pending: unknown[] = [root];
    while (pending.length > 0) {
      const node = pending.pop() as (Node & { anchor?: string; source?: string }) | null | undefined;
      if (node === null || node === undefined) continue;
      const offset = node.range?.[0] ?? 0;
      if (!isMap(node) && !isSeq(node) && !isScalar(node)) {
        this.#add(offset, '', 'aliases are not allowed', 'write the value itself');
        continue;
      }
      if (node.anchor !== undefined) this.#add(offset, '', 'anchors are not allowed', 'remove the &name');
      if (node.tag !== undefined && !/^tag:yaml\.org,2002:(map|seq|str|int|float|bool|null)$/.test(node.tag)) {
        this.#add(offset, '', 'tags are not allowed', 'remove the !name');
      }
      if (isMap(node)) for (const pair of node.items) pending.push(pair.key, pair.value);
      if (isSeq(node)) pending.push(...node.items);
    }
  }

  /**
   * Undefined when the setting is left out or wrong; a wrong one has its finding by
   * then. `parent` is where its name stands, or that of its section.
   */
  #value(rule: Rule, node: unknown, path: string, parent: number): unknown {
    const given = isMap(node) || isSeq(node) || isScalar(node) ? node : undefined;
    const offset = given?.range?.[0] ?? parent;
    if (given !== undefined && !this.#offsets.has(path)) this.#offsets.set(path, offset);
    if (given === undefined || (isScalar(given) && given.value === null)) {
      if (rule.type === 'object') return this.#section(rule, undefined, path, parent);
      if (given === undefined) return structuredClone(rule.default);
      return this.#add(offset, path, 'this setting is empty', this.#advice(rule));
    }
    if (rule.type === 'object') {
      if (isMap(given)) return this.#section(rule, given, path, parent);
      return this.#add(offset, path, 'settings belong below this name', this.#advice(rule));
    }
    if (rule.type === 'array') {
      if (!isSeq(given)) return this.#add(offset, path, 'this must be a list', 'begin each entry with "- "');
      return this.#list(rule, given.items, path, offset);
    }
    if (!isScalar(given)) return this.#add(offset, path, 'this must be one value', this.#advice(rule));
    return this.#scalar(rule, given.value, path, offset);
  }

  #section(rule: Rule, map: YAMLMap | undefined, path: string, offset: number): unknown {
    const properties = rule.properties ?? {};
    const nodes = new Map<string, { node: unknown; at: number }>();
    for (const pair of map?.items ?? []) {
      const at = (pair.key as Node | null)?.range?.[0] ?? offset;
      const key = isScalar(pair.key) ? pair.key.value : undefined;
      if (typeof key !== 'string') {
        this.#add(at, path, 'the name of a setting must be a word', 'write `name: value`');
      } else if (!Object.hasOwn(properties, key)) {
        this.#unknown(key, at, path, properties);
      } else if (nodes.has(key)) {
        const first = this.#position(nodes.get(key)?.at ?? 0).line;
        this.#add(at, join(path, key), `this setting stands on line ${first} already`, 'keep one of the two');
      } else {
        nodes.set(key, { node: pair.value, at });
        this.#offsets.set(join(path, key), at);
      }
    }

    const draft: Record<string, unknown> = {};
    for (const [key, inner] of Object.entries(properties)) {
      const given = nodes.get(key);
      const required = rule.required?.includes(key) === true;
      if (given === undefined && !required) continue;
      if (given === undefined && inner.type !== 'object' && inner.default === undefined) {
        this.#add(
          offset,
          join(path, key),
          'this setting is missing',
          `add \`${key}:\` here and ${this.#advice(inner)}`,
        );
        continue;
      }
      const value = this.#value(inner, given?.node, join(path, key), given?.at ?? offset);
      if (value !== undefined) draft[key] = value;
    }
    return draft;
  }

  #unknown(key: string, at: number, path: string, properties: Record<string, unknown>): void {
    // A name is repeated only when it looks like one: somebody may have pasted a secret here.
    const nameable = /^[A-Za-z_][A-Za-z0-9_-]{0,31}$/.test(key);
    const setting = nameable ? join(path, key) : path;
    const near = nearest(key, Object.keys(properties));
    const elsewhere = placesOf(key, TABLE).filter((place) => place !== join(path, key));
    let write = `known here: ${Object.keys(properties).join(', ')}`;
    if (near !== null) write = `did you mean ${near}?`;
    else if (elsewhere.length > 0) write = `it belongs at ${elsewhere.slice(0, 3).join(' or ')}`;
    this.#add(at, setting, 'there is no such setting', write);
  }

  #list(rule: Rule, items: readonly unknown[], path: string, offset: number): unknown {
    if (items.length < (rule.minItems ?? 0)) {
      return this.#add(offset, path, 'this list is too short', `write at least ${rule.minItems} entry`);
    }
    if (items.length > (rule.maxItems ?? Number.POSITIVE_INFINITY)) {
      return this.#add(offset, path, 'this list is too long', `write at most ${rule.maxItems} entries`);
    }
    const values = items.map((item, index) => {
      const at = (item as Node | null)?.range?.[0] ?? offset;
      return this.#value(rule.items as Rule, item, `${path}[${index}]`, at);
    });
    return values.filter((value) => value !== undefined);
  }

  #scalar(rule: Rule, value: unknown, path: string, offset: number): unknown {
    const refuse = (problem: string): undefined => this.#add(offset, path, problem, this.#advice(rule));
    if (rule.enum !== undefined) {
      if (rule.enum.includes(value as string)) return value;
      const near = typeof value === 'string' ? nearest(value, rule.enum) : null;
      return this.#add(
        offset,
        path,
        'this value is unknown',
        near === null ? this.#advice(rule) : `did you mean ${near}?`,
      );
    }
    if (rule.type === 'boolean') return typeof value === 'boolean' ? value : refuse('this must be true or false');
    if (rule.type === 'integer') {
      if (typeof value === 'string') {
        const size = sizeIn(value, path);
        if (size !== null) return this.#add(offset, path, 'sizes and times are plain numbers here', `write ${size}`);
      }
      if (!Number.isSafeInteger(value)) return refuse('this must be a whole number');
      const number = value as number;
      if (number < (rule.minimum ?? number)) return refuse('this number is too small');
      return number > (rule.maximum ?? number) ? refuse('this number is too large') : number;
    }
    if (typeof value !== 'string') {
      if (rule.meaning === 'reference') {
        return this.#add(offset, path, 'this is not a reference to a secret', LITERAL_ADVICE);
      }
      return this.#add(offset, path, 'this must be text', 'put it in quotes');
    }
    if (rule.meaning !== undefined) {
      const objection = objectionTo(rule.meaning, value);
      if (objection !== null) return this.#add(offset, path, objection.problem, objection.write);
    }
    if (value === '') return refuse('this setting is empty');
    if (value.length > (rule.maxLength ?? value.length)) return refuse('this text is too long');
    return rule.pattern === undefined || new RegExp(rule.pattern).test(value)
      ? value
      : refuse('this text does not fit');
  }

  #advice(rule: Rule): string {
    if (rule.enum !== undefined) return `write one of: ${rule.enum.join(', ')}`;
    if (rule.meaning !== undefined) return adviceFor(rule.meaning);
    if (rule.form !== undefined) return `write ${rule.form}`;
    if (rule.type === 'integer') return `write a whole number from ${rule.minimum} to ${rule.maximum}`;
    if (rule.type === 'boolean') return 'write true or false';
    if (rule.type === 'array') return 'write a list, each entry after "- "';
    if (rule.type === 'object') return `write, indented below it: ${Object.keys(rule.properties ?? {}).join(', ')}`;
    return 'write a text';
  }
}

function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}

/** Our own words for each kind of YAML error: the library's repeat parts of the file. */
function syntaxAdvice(code: string): [problem: string, write: string] {
  switch (code) {
    case 'TAB_AS_INDENT':
      return ['a tab stands where spaces belong', 'indent with spaces'];
    case 'MULTIPLE_DOCS':
      return ['a second document begins here', 'keep one document: remove the line ---'];
    case 'BLOCK_AS_IMPLICIT_KEY':
      return ['a second ": " stands on this line', 'put the value in quotes, or the inner setting on its own line'];
    case 'BAD_INDENT':
      return ['the indentation does not fit', 'give settings of one section the same number of spaces'];
    case 'BAD_DQ_ESCAPE':
      return ['this escape is unknown', "use single quotes: '...'"];
    case 'MISSING_CHAR':
      return ['a character is missing', 'close the quotes or brackets, or write "name: value"'];
    default:
      return ['this is not well-formed YAML', 'see examples/strongroom.yaml'];
  }
}
