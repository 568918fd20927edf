/**
 * Reads the operations of the installed `plaid` npm package (MIT): method and
 * path from its compiled code, request and answer fields from its types. The
 * types are walked as syntax, without a checker: the package's declarations are
 * interfaces, arrays and unions, and anything else stops the walk.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
// TypeScript 7 has no compiler API; version 6 lives beside it under this name.
import ts from 'typescript6';

export interface Field {
  /** Dotted, `[]` for array elements, `*` for the values of an open map: `loans[].user_token`. */
  readonly path: string;
  /** Declared without `?`, and so is everything above it. */
  readonly required: boolean;
}

export interface Operation {
  readonly method: string;
  readonly path: string;
  /** Leaf fields of the JSON body; empty when the SDK types it as an open map. */
  readonly request: readonly Field[];
  readonly answer: readonly Field[];
  /** The SDK knows nothing about the request's fields. */
  readonly untypedRequest: boolean;
  /** The SDK types the answer as `any`: a PDF or ZIP file. */
  readonly binary: boolean;
}

export function readSdk(): { readonly version: string; readonly operations: readonly Operation[] } {
  const require = createRequire(import.meta.url);
  const folder = dirname(require.resolve('plaid/package.json'));
  const version = (require('plaid/package.json') as { version: string }).version;
  const types = readTypes(join(folder, 'dist/api.d.ts'));

  const code = readFileSync(join(folder, 'dist/api.js'), 'utf8');
  const operation = /^ {8}(\w+): \([^)]*\) => __awaiter[\s\S]*?const localVarPath = `([^`]+)`[\s\S]*?method: '(\w+)'/gm;
  const paths = new Map<string, { path: string; method: string }>();
  for (const match of code.matchAll(operation)) {
    const placeholders = match[2]?.replace(/\$\{encodeURIComponent\(String\((\w+)\)\)\}/g, '{$1}');
    paths.set(match[1] as string, { path: placeholders as string, method: match[3] as string });
  }
  if (paths.size !== types.methods.size) {
    throw new Error(
      `api.js has ${paths.size} operations, api.d.ts ${types.methods.size}: the reader no longer fits the SDK`,
    );
  }

  const operations = [...types.methods].map(([name, { request, answer }]): Operation => {
    const found = paths.get(name);
    if (found === undefined) throw new Error(`api.js has no operation ${name}`);
    return {
      ...found,
      request: request === null ? [] : types.fields(request),
      answer: types.fields(answer),
      untypedRequest: request !== null && !types.isInterface(request),
      binary: answer.kind === ts.SyntaxKind.AnyKeyword,
    };
  });
  return { version, operations: operations.sort((a, b) => compare(a.path, b.path) || compare(a.method, b.method)) };
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function readTypes(file: string) {
  const source = ts.createSourceFile('api.d.ts', readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, false);
  const interfaces = new Map<string, ts.InterfaceDeclaration>();
  const aliases = new Map<string, ts.TypeAliasDeclaration>();
  const enums = new Set<string>();
  const methods = new Map<string, { request: ts.TypeNode | null; answer: ts.TypeNode }>();
  for (const node of source.statements) {
    if (ts.isInterfaceDeclaration(node)) interfaces.set(node.name.text, node);
    else if (ts.isTypeAliasDeclaration(node)) aliases.set(node.name.text, node);
    else if (ts.isEnumDeclaration(node)) enums.add(node.name.text);
    else if (ts.isClassDeclaration(node) && node.name?.text === 'PlaidApi') {
      for (const member of node.members) if (ts.isMethodDeclaration(member)) readMethod(member);
    }
  }

  function readMethod(member: ts.MethodDeclaration): void {
    // The body parameter is the one whose type is an object; ids of a path and headers are scalars before it.
    const body = member.parameters.find(({ type }) => type !== undefined && isObject(type));
    methods.set((member.name as ts.Identifier).text, { request: body?.type ?? null, answer: axiosAnswer(member.type) });
  }

  function isObject(type: ts.TypeNode): boolean {
    if (ts.isTypeLiteralNode(type) || type.kind === ts.SyntaxKind.ObjectKeyword) return true;
    return ts.isTypeReferenceNode(type) && interfaces.has(nameOf(type));
  }

  function axiosAnswer(type: ts.TypeNode | undefined): ts.TypeNode {
    // Promise<import("axios").AxiosResponse<Answer, any, {}, any>>
    const promised = type !== undefined && ts.isTypeReferenceNode(type) ? type.typeArguments?.[0] : undefined;
    const answer = promised !== undefined && ts.isImportTypeNode(promised) ? promised.typeArguments?.[0] : undefined;
    if (answer === undefined) throw new Error('an operation does not answer with an AxiosResponse');
    return answer;
  }

  function nameOf(type: ts.TypeReferenceNode): string {
    return (type.typeName as ts.Identifier).text;
  }

  function fields(type: ts.TypeNode): Field[] {
    const found = new Map<string, Field>();
    walk(type, '', true, []);
    return [...found.values()].sort((a, b) => compare(a.path, b.path));

    function walk(node: ts.TypeNode, path: string, required: boolean, inside: readonly string[]): void {
      if (ts.isArrayTypeNode(node)) walk(node.elementType, `${path}[]`, required, inside);
      else if (ts.isParenthesizedTypeNode(node)) walk(node.type, path, required, inside);
      else if (ts.isUnionTypeNode(node) || ts.isIntersectionTypeNode(node)) {
        for (const part of node.types) if (!isNull(part)) walk(part, path, required, inside);
      } else if (ts.isTypeLiteralNode(node)) members(node.members, path, required, inside);
      else if (ts.isTypeReferenceNode(node)) reference(node, path, required, inside);
      else leaf(path, required);
    }

    function reference(node: ts.TypeReferenceNode, path: string, required: boolean, inside: readonly string[]): void {
      const name = nameOf(node);
      const [argument] = node.typeArguments ?? [];
      const alias = aliases.get(name);
      const declared = interfaces.get(name);
      if ((name === 'Array' || name === 'Set') && argument !== undefined) walk(argument, `${path}[]`, required, inside);
      else if (alias !== undefined) walk(alias.type, path, required, inside);
      else if (enums.has(name)) leaf(path, required);
      else if (declared === undefined) throw new Error(`unknown type ${name} at ${path}`);
      else if (declared.heritageClauses !== undefined) throw new Error(`${name} extends another type: not followed`);
      // A type inside itself adds no new field names.
      else if (!inside.includes(name)) members(declared.members, path, required, [...inside, name]);
    }

    function members(
      list: ts.NodeArray<ts.TypeElement>,
      path: string,
      required: boolean,
      inside: readonly string[],
    ): void {
      for (const member of list) {
        if (ts.isIndexSignatureDeclaration(member)) walk(member.type, join2(path, '*'), false, inside);
        else if (ts.isPropertySignature(member) && member.type !== undefined) {
          const name = ts.isIdentifier(member.name) || ts.isStringLiteral(member.name) ? member.name.text : null;
          if (name === null) throw new Error(`a computed name at ${path}`);
          walk(member.type, join2(path, name), required && member.questionToken === undefined, inside);
        } else throw new Error(`a member that is no property at ${path}`);
      }
    }

    function leaf(path: string, required: boolean): void {
      if (path !== '' && !found.has(path)) found.set(path, { path, required });
    }
  }

  return {
    methods,
    fields,
    isInterface: (type: ts.TypeNode) => ts.isTypeReferenceNode(type) && interfaces.has(nameOf(type)),
  };
}

/** `X | null`: null is a value of the same field, not a field of its own. */
function isNull(node: ts.TypeNode): boolean {
  return ts.isLiteralTypeNode(node) && node.literal.kind === ts.SyntaxKind.NullKeyword;
}

function join2(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}
