/**
 * Reads the types of the official `plaid` package (MIT) as types: interfaces,
 * their fields and enums by name, for checking whole bodies. (plaid-sdk.ts reads
 * the same file as lists of paths, for finding tokens.) Syntax only, no type
 * check. TypeScript 7 has no compiler API, hence the alias.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import ts from 'typescript6';

export type FieldType =
  | { readonly kind: 'string' | 'number' | 'boolean' | 'open' | 'any' | 'null' }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'list'; readonly of: FieldType };

export interface Field {
  readonly name: string;
  readonly required: boolean;
  readonly nullable: boolean;
  readonly type: FieldType;
}

export interface PlaidTypes {
  readonly interfaces: ReadonlyMap<string, readonly Field[]>;
  readonly enums: ReadonlyMap<string, readonly string[]>;
  /** By path. Names of interfaces; null where the SDK has no type for it. */
  readonly endpoints: ReadonlyMap<string, { readonly request: string | null; readonly response: string | null }>;
}

export function readPlaidTypes(): PlaidTypes {
  const folder = join(dirname(createRequire(import.meta.url).resolve('plaid/package.json')), 'dist');
  const source = ts.createSourceFile(
    'api.d.ts',
    readFileSync(join(folder, 'api.d.ts'), 'utf8'),
    ts.ScriptTarget.ESNext,
    false,
  );
  const interfaces = new Map<string, Field[]>();
  const enums = new Map<string, string[]>();
  const aliases = new Map<string, ts.TypeNode>();
  const methods = new Map<string, { request: string | null; response: string | null }>();

  for (const node of source.statements) {
    if (ts.isInterfaceDeclaration(node))
      interfaces.set(
        node.name.text,
        node.members.flatMap((member) => fieldOf(member)),
      );
    else if (ts.isEnumDeclaration(node))
      enums.set(
        node.name.text,
        node.members.map((member) => (member.initializer as ts.StringLiteral).text),
      );
    else if (ts.isTypeAliasDeclaration(node)) aliases.set(node.name.text, node.type);
    else if (ts.isClassDeclaration(node) && node.name?.text === 'PlaidApi') {
      for (const member of node.members)
        if (ts.isMethodDeclaration(member)) methods.set((member.name as ts.Identifier).text, signatureOf(member));
    }
  }

  for (const [name, type] of aliases) {
    // `A & B`: the fields of both. Other aliases stay unknown names and count as `any`.
    if (!ts.isIntersectionTypeNode(type)) continue;
    const parts = type.types.map((part) => typeOf(part));
    interfaces.set(
      name,
      parts.flatMap((part) => (part.kind === 'name' ? (interfaces.get(part.name) ?? []) : [])),
    );
  }

  const endpoints = new Map<string, { request: string | null; response: string | null }>();
  const paths = /^ {8}(\w+): \(.*__awaiter[\s\S]*?const localVarPath = `([^`]+)`/gm;
  for (const match of readFileSync(join(folder, 'api.js'), 'utf8').matchAll(paths)) {
    const signature = methods.get(match[1] as string);
    if (signature !== undefined) endpoints.set(match[2] as string, signature);
  }
  return { interfaces, enums, endpoints };
}

function fieldOf(member: ts.TypeElement): Field[] {
  if (!ts.isPropertySignature(member) || member.type === undefined) return [];
  const name = ts.isIdentifier(member.name) || ts.isStringLiteral(member.name) ? member.name.text : '';
  const parts = ts.isUnionTypeNode(member.type) ? member.type.types.map(typeOf) : [typeOf(member.type)];
  const real = parts.filter((part) => part.kind !== 'null');
  const [only] = real;
  return [
    {
      name,
      required: member.questionToken === undefined,
      nullable: real.length < parts.length,
      type: real.length === 1 && only !== undefined ? only : { kind: 'any' },
    },
  ];
}

function typeOf(node: ts.TypeNode): FieldType {
  switch (node.kind) {
    case ts.SyntaxKind.StringKeyword:
      return { kind: 'string' };
    case ts.SyntaxKind.NumberKeyword:
      return { kind: 'number' };
    case ts.SyntaxKind.BooleanKeyword:
      return { kind: 'boolean' };
    case ts.SyntaxKind.LiteralType:
      return { kind: (node as ts.LiteralTypeNode).literal.kind === ts.SyntaxKind.NullKeyword ? 'null' : 'any' };
    case ts.SyntaxKind.ObjectKeyword:
    case ts.SyntaxKind.TypeLiteral:
      return { kind: 'open' };
  }
  if (ts.isArrayTypeNode(node)) return { kind: 'list', of: typeOf(node.elementType) };
  if (ts.isTypeReferenceNode(node) && ts.isIdentifier(node.typeName)) {
    const name = node.typeName.text;
    const [argument] = node.typeArguments ?? [];
    if ((name === 'Array' || name === 'Set') && argument !== undefined) return { kind: 'list', of: typeOf(argument) };
    return { kind: 'name', name };
  }
  return { kind: 'any' };
}

/** `name(request: Request, ...): Promise<AxiosResponse<Response, ...>>`. */
function signatureOf(method: ts.MethodDeclaration): { request: string | null; response: string | null } {
  const first = method.parameters[0]?.type;
  const request = first === undefined ? null : nameOf(typeOf(first));
  const promise = method.type;
  const answer = promise !== undefined && ts.isTypeReferenceNode(promise) ? promise.typeArguments?.[0] : undefined;
  const body = answer !== undefined && ts.isImportTypeNode(answer) ? answer.typeArguments?.[0] : undefined;
  return { request, response: body === undefined ? null : nameOf(typeOf(body)) };
}

const nameOf = (type: FieldType): string | null => (type.kind === 'name' ? type.name : null);
