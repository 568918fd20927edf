import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Admission } from '../access/admission.ts';
import type { Secret } from '../base/secret.ts';
import type { Endpoint } from '../plaid/endpoints.ts';
import type { PlaidError } from '../plaid/errors.ts';
import type { RequestReading } from '../plaid/request.ts';
import type { UpstreamAnswer } from '../plaid/upstream.ts';
import type { StoredRecord } from '../store/records.ts';
import type { Application } from './authentication.ts';

/** A request of an application as the listener hands it over. */
export interface GatewayRequest {
  readonly requestId: string;
  readonly method: string;
  /** The request target as it came, neither decoded nor normalised. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Address of the caller, behind trusted proxies. */
  readonly source: string;
}

export interface GatewayAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | Readable;
}

/** What a listener may log about a request, filled in as far as the request got. */
export interface Trace {
  endpoint: string | null;
  application: string | null;
}

/** One place in the request where a secret goes in, and the record that holds it. */
export interface Slot {
  readonly start: number;
  readonly end: number;
  readonly record: StoredRecord;
}

/** A call that was decided on and recorded; the only thing from which one is sent. */
export interface AdmittedCall {
  readonly request: GatewayRequest;
  readonly endpoint: Endpoint;
  readonly application: Application;
  readonly admission: Admission;
  readonly body: RequestReading;
  readonly slots: readonly Slot[];
  readonly started: number;
}

/** What was put into a request, so that it is recognised when it comes back. */
export interface Placed {
  readonly record: StoredRecord;
  readonly token: Secret<string>;
}

/** An answer of Plaid and what was put into the request that it answers. */
export interface Carried {
  readonly answer: UpstreamAnswer;
  readonly placed: readonly Placed[];
  readonly clientSecret: Secret<string>;
  readonly error: PlaidError | null;
}
