import { type TSchema, Type } from 'typebox';
import { ERRORS, type ErrorCode } from '../base/errors.ts';
import { VERSION } from '../version.ts';
import type { AdminRoute } from './admin-route.ts';

const ErrorAnswer = Type.Object(
  {
    error_type: Type.Literal('STRONGROOM_ERROR'),
    error_code: Type.String({ description: 'One of docs/errors.md.' }),
    error_message: Type.String(),
    display_message: Type.Null(),
    request_id: Type.String(),
  },
  { description: 'The shape of every refusal.' },
);

const ALWAYS: readonly ErrorCode[] = ['AUDIT_UNAVAILABLE', 'DATABASE_UNAVAILABLE', 'INTERNAL'];

/** An OpenAPI 3.1 document of the routes. TypeBox schemas are JSON Schema, which 3.1 takes as it is. */
export function openApi(routes: readonly AdminRoute[]): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = route.path.replace(/:([a-z_]+)/g, '{$1}');
    paths[path] ??= {};
    paths[path][route.method.toLowerCase()] = operation(route);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Strongroom admin API',
      version: VERSION,
      description: 'Loopback or a unix socket only. Every call is recorded in the audit log before it acts.',
    },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { Error: ErrorAnswer },
    },
  };
}

function operation(route: AdminRoute): unknown {
  const parameters = [...parametersOf('path', route.params), ...parametersOf('query', route.query)];
  return {
    summary: route.summary,
    ...(route.open === true ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: route.body } } } }),
    responses: {
      [String(route.status ?? 200)]: {
        description: 'Done.',
        content:
          typeof route.answer === 'string' ? { [route.answer]: {} } : { 'application/json': { schema: route.answer } },
      },
      ...refusals(route),
    },
  };
}

function parametersOf(place: 'path' | 'query', schema: TSchema | undefined): unknown[] {
  const object = schema as { properties?: Record<string, TSchema>; required?: readonly string[] } | undefined;
  return Object.entries(object?.properties ?? {}).map(([name, of]) => ({
    name,
    in: place,
    required: object?.required?.includes(name) === true,
    schema: of,
  }));
}

function refusals(route: AdminRoute): Record<string, unknown> {
  const codes: ErrorCode[] = [...(route.errors ?? [])];
  if (route.open !== true) codes.push('ADMIN_UNAUTHORIZED', ...ALWAYS);
  if (route.body !== undefined) codes.push('BODY_MALFORMED', 'BODY_TOO_LARGE', 'CONTENT_TYPE_REFUSED', 'INPUT_INVALID');
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set(codes)) {
    const { status } = ERRORS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, of]) => [
      String(status),
      {
        description: of.map((code) => `\`${code}\`: ${ERRORS[code].says}`).join(' '),
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    ]),
  );
}
