import { ERRORS, type ErrorCode, StrongroomError } from '../base/errors.ts';

/** What every Plaid SDK parses: the five fields, whatever went wrong. */
export interface PlaidShapedError {
  readonly error_type: 'STRONGROOM_ERROR';
  readonly error_code: ErrorCode;
  readonly error_message: string;
  readonly display_message: null;
  readonly request_id: string;
}

/** `detail` is a sentence for the caller; see {@link StrongroomError}. */
export function plaidShaped(code: ErrorCode, requestId: string, detail: string | null = null): PlaidShapedError {
  return {
    error_type: 'STRONGROOM_ERROR',
    error_code: code,
    error_message: detail === null ? ERRORS[code].says : `${ERRORS[code].says} ${detail}`,
    display_message: null,
    request_id: requestId,
  };
}

/**
 * Fastify and Node's parser have codes of their own; a caller sees ours. Anything
 * unknown is INTERNAL: its message may hold what must not leave.
 */
export function asStrongroomError(error: unknown): StrongroomError {
  if (error instanceof StrongroomError) return error;
  const code = (error as { code?: unknown } | null)?.code;
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new StrongroomError('BODY_TOO_LARGE');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_CTP_INVALID_CONTENT_TYPE':
      return new StrongroomError('CONTENT_TYPE_REFUSED');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new StrongroomError('REQUEST_MALFORMED');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new StrongroomError('BODY_TIMEOUT');
    default:
      return new StrongroomError('INTERNAL', {}, error);
  }
}

/** A whole HTTP/1.1 answer for a socket on which no request could be parsed. */
export function rawRefusal(code: ErrorCode, requestId: string): string {
  const body = JSON.stringify(plaidShaped(code, requestId));
  const status = ERRORS[code].status;
  return (
    `HTTP/1.1 ${status} ${status === 408 ? 'Request Timeout' : 'Bad Request'}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
  );
}
