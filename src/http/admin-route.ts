import type { FastifyReply, FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import type { ErrorCode } from '../base/errors.ts';

/** One operation. The handler's answer is sent as JSON; a stream is sent as it is. */
export interface AdminRoute {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** Fastify's pattern, for example `/applications/:id`. */
  readonly path: string;
  readonly summary: string;
  /** Answers without a token. For health only. */
  readonly open?: true;
  readonly params?: TSchema;
  readonly query?: TSchema;
  readonly body?: TSchema;
  /** Schema of the answer, or its media type when it is not JSON. */
  readonly answer: TSchema | string;
  /** Default 200. */
  readonly status?: number;
  /** Codes beyond those that every route can answer. */
  readonly errors?: readonly ErrorCode[];
  handle(request: FastifyRequest, reply: FastifyReply): Promise<unknown>;
}

export interface Health {
  readonly ready: boolean;
  /** Why not: short, stable words, no secrets. Empty when ready. */
  readonly reasons: readonly string[];
}

/** The one identity there is until people can sign in; it stands in the audit log. */
export const TOKEN_HOLDER = 'admin-token';
