import { request } from '../support/raw-http.ts';

/**
 * What somebody who speaks TCP can try, to reach another host than Plaid or to
 * have two requests taken for one. Bytes only: what must become of them is said
 * in smuggling.test.ts.
 */

export interface Trick {
  readonly name: string;
  readonly parts: readonly string[];
  /** How many calls may reach Plaid at most: 1 where the first request is a good one. Default 0. */
  readonly calls?: 0 | 1;
}

export interface Bait {
  /** Credentials of an application, as header lines. */
  readonly credentials: Readonly<Record<string, string>>;
  /** A good body. */
  readonly body: string;
  /** Host and port that must never hear anything. */
  readonly evil: string;
}

/** The path of the request that is smuggled: nothing else in the test asks for it. */
export const SMUGGLED = '/item/get';
const GOOD = '/accounts/get';

export function tricks({ credentials, body, evil }: Bait): Trick[] {
  const call = (path: string, headers: Record<string, string> = {}, method = 'POST') =>
    request(path, { ...credentials, ...headers }, body, method);
  const good = call(GOOD);
  const second = call(SMUGGLED);
  const head = (lines: readonly string[], path = GOOD, version = 'HTTP/1.1', method = 'POST') =>
    [
      `${method} ${path} ${version}`,
      'Host: localhost',
      'Content-Type: application/json',
      ...Object.entries(credentials).map(([name, value]) => `${name}: ${value}`),
      ...lines,
      '\r\n',
    ].join('\r\n');
  const length = `Content-Length: ${body.length}`;
  const chunk = `${body.length.toString(16)}\r\n${body}\r\n`;
  const chunked = `${chunk}0\r\n\r\n`;

  const targets = [
    `http://${evil}${GOOD}`,
    `https://${evil}${GOOD}`,
    `HTTP://${evil}${GOOD}`,
    `http://user:password@${evil}${GOOD}`,
    `http:///${evil}${GOOD}`,
    `//${evil}${GOOD}`,
    `///${evil}${GOOD}`,
    `/\\${evil}${GOOD}`,
    `\\\\${evil}${GOOD}`,
    `@${evil}${GOOD}`,
    `/@${evil}${GOOD}`,
    `/http://${evil}${GOOD}`,
    '/accounts%2fget',
    '/accounts%252fget',
    '/accounts/../accounts/get',
    '/../accounts/get',
    '/./accounts/get',
    '/%2e%2e/accounts/get',
    '/accounts/.%2e/accounts/get',
    '/accounts//get',
    '/accounts/get/',
    '/accounts/get/.',
    '/accounts/get;x=1',
    '/accounts;x=1/get',
    '/accounts/get?',
    `/accounts/get?webhook=http://${evil}/`,
    '/accounts/get#',
    '/accounts/get%00',
    '/accounts/get%0d%0aHost:%20evil',
    '/accounts/get%20',
    '/ACCOUNTS/GET',
    '/accounts/g\xe9t',
    '/acc\u0131ounts/get'.replace('\u0131', '%C4%B1'),
    '/healthz/../accounts/get',
    '*',
    '',
  ];

  return [
    ...targets.map((path) => ({ name: `the target ${JSON.stringify(path)}`, parts: [call(path)] })),
    {
      name: 'a path with a placeholder that climbs',
      parts: [call('/fdx/consents/..%2f..%2faccounts%2fget', {}, 'GET')],
    },
    {
      name: 'a path with a placeholder that names a host',
      parts: [call(`/fdx/consents/http:%2f%2f${evil}`, {}, 'GET')],
    },
    { name: 'a space in the target', parts: [good.replace(GOOD, `${GOOD} /x`)] },
    { name: 'a tab in the request line', parts: [good.replace(`${GOOD} `, `${GOOD}\t`)] },
    { name: 'a line feed in the target', parts: [good.replace(GOOD, `${GOOD}\nX: y`)] },

    { name: 'another Host', parts: [call(GOOD, { Host: evil })], calls: 1 },
    {
      name: 'headers that mean a host to somebody',
      parts: [
        call(GOOD, {
          'X-Forwarded-Host': evil,
          'X-Forwarded-Server': evil,
          'X-Forwarded-Proto': 'http',
          Forwarded: `for=1.2.3.4;host=${evil};proto=http`,
          'X-Host': evil,
          Via: `1.1 ${evil}`,
          Origin: `http://${evil}`,
          Referer: `http://${evil}/`,
        }),
      ],
      calls: 1,
    },
    {
      name: 'headers that mean a path or a method to somebody',
      parts: [
        call(GOOD, {
          'X-Original-URL': SMUGGLED,
          'X-Rewrite-URL': SMUGGLED,
          'X-HTTP-Method-Override': 'PUT',
          'X-Forwarded-Path': SMUGGLED,
          'X-Forwarded-Prefix': SMUGGLED,
        }),
      ],
      calls: 1,
    },
    { name: 'two Hosts', parts: [good.replace('\r\n\r\n', `\r\nHost: ${evil}\r\n\r\n`)], calls: 1 },
    { name: 'no Host', parts: [good.replace('Host: localhost\r\n', '')] },
    {
      name: 'hop-by-hop names for what must not be dropped',
      parts: [call(GOOD, { Connection: 'keep-alive, plaid-secret, plaid-client-id, content-length, host' })],
      calls: 1,
    },
    { name: 'a proxy preface', parts: [`PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n${good}`] },

    { name: 'a folded header', parts: [head([length, 'X-A: b', ' Transfer-Encoding: chunked']) + body] },
    {
      name: 'a bare line feed between headers',
      parts: [head([`${length}\nTransfer-Encoding: chunked`]) + chunked + second],
    },
    { name: 'bare line feeds only', parts: [good.replaceAll('\r\n', '\n')] },
    {
      name: 'a bare carriage return in a header',
      parts: [head([length, 'X-A: b\rTransfer-Encoding: chunked']) + body],
    },
    { name: 'a zero byte in a header', parts: [head([length, 'X-A: b\0c']) + body] },
    { name: 'a zero byte in a header name', parts: [head([length, 'X-A\0: b']) + body] },
    { name: 'a header without a colon', parts: [head([length, 'Transfer-Encoding chunked']) + body] },
    { name: 'a space before the first header', parts: [good.replace('\r\nHost', '\r\n Host')] },
    { name: 'an empty header name', parts: [head([length, ': chunked']) + body] },

    { name: 'a length and chunks', parts: [head([length, 'Transfer-Encoding: chunked']) + chunked + second] },
    {
      name: 'chunks and a length',
      parts: [head(['Transfer-Encoding: chunked', 'Content-Length: 4']) + chunked + second],
    },
    {
      name: 'a length of nothing and chunks',
      parts: [head(['Content-Length: 0', 'Transfer-Encoding: chunked']) + chunked + second],
    },
    ...[
      'Transfer-Encoding : chunked',
      'Transfer-Encoding:\tchunked, identity',
      'Transfer-Encoding: identity, chunked, identity',
      'Transfer-Encoding: xchunked',
      'Transfer-Encoding: "chunked"',
      'Transfer-Encoding: gzip, chunked',
      'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
      'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
      'Transfer-Encoding: chunk\r\n ed',
      'Transfer_Encoding: chunked\r\nTransfer-Encoding: x',
      'Transfer-Encoding:',
    ].map((line) => ({
      name: `the coding ${JSON.stringify(line)}`,
      parts: [head([line]) + chunked + second],
    })),
    {
      name: 'chunks in HTTP/1.0',
      parts: [head(['Transfer-Encoding: chunked', length], GOOD, 'HTTP/1.0') + chunked + second],
    },
    ...[
      `${length}\r\nContent-Length: ${body.length + second.length}`,
      `${length}\r\nContent-Length: 0`,
      `Content-Length: ${body.length}, ${body.length}`,
      `Content-Length: +${body.length}`,
      `Content-Length: 0x${body.length.toString(16)}`,
      `Content-Length: ${body.length} ${body.length}`,
      `Content-Length: ${body.length}e0`,
      'Content-Length: -1',
      'Content-Length: 99999999999999999999999999',
      `Content-Length : ${body.length}`,
      'Content-Length:',
    ].map((line) => ({ name: `the length ${JSON.stringify(line)}`, parts: [head([line]) + body + second] })),
    {
      name: 'a length that reaches into the next request',
      parts: [head([`Content-Length: ${body.length + 20}`]) + body + second],
    },

    ...[
      `0x${chunk}0\r\n\r\n`,
      `+${chunk}0\r\n\r\n`,
      `-1\r\n${body}\r\n0\r\n\r\n`,
      ` ${chunk}0\r\n\r\n`,
      `fffffffffffffffff\r\n${body}\r\n0\r\n\r\n`,
      `${body.length.toString(16)}\n${body}\n0\n\n`,
      `${body.length.toString(16)}\r\n${body}0\r\n\r\n`,
      `${body.length.toString(16)};a="\r\n"\r\n${body}\r\n0\r\n\r\n`,
      `${body.length.toString(16)};\n${second}\r\n${body}\r\n0\r\n\r\n`,
      `${body.length.toString(16)};${'a'.repeat(20_000)}\r\n${body}\r\n0\r\n\r\n`,
      `${chunk}0\r\nContent-Length: 5\r\n \r\n\r\n`,
    ].map((bytes) => ({
      name: `the chunks ${JSON.stringify(bytes.slice(0, 24))}`,
      parts: [head(['Transfer-Encoding: chunked']) + bytes + second],
    })),
    {
      name: 'trailers that would be headers',
      parts: [
        head(['Transfer-Encoding: chunked', 'Trailer: PLAID-SECRET']).replace(/PLAID-SECRET: .*\r\n/, '') +
          `${chunk}0\r\nPLAID-SECRET: ${credentials['PLAID-SECRET']}\r\n\r\n`,
      ],
    },

    { name: 'HTTP/0.9', parts: [`POST ${GOOD}\r\n`] },
    { name: 'HTTP/2 by its preface', parts: ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'] },
    { name: 'HTTP/2 in the request line', parts: [good.replace('HTTP/1.1', 'HTTP/2.0')] },
    { name: 'HTTP/1.9', parts: [good.replace('HTTP/1.1', 'HTTP/1.9')] },
    { name: 'a protocol in small letters', parts: [good.replace('HTTP/1.1', 'http/1.1')] },
    // The parser takes it for HTTP/1.0, which load balancers speak.
    { name: 'another protocol', parts: [good.replace('HTTP/1.1', 'RTSP/1.0')], calls: 1 },
    { name: 'a TLS greeting', parts: ['\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'] },
    { name: 'CONNECT', parts: [`CONNECT ${evil} HTTP/1.1\r\nHost: ${evil}\r\n\r\n`] },
    { name: 'CONNECT with credentials', parts: [head([], evil, 'HTTP/1.1', 'CONNECT')] },
    { name: 'TRACE', parts: [head([], GOOD, 'HTTP/1.1', 'TRACE')] },
    { name: 'a method in small letters', parts: [good.replace('POST', 'post')] },
    { name: 'a made-up method', parts: [good.replace('POST', 'POSTGET')] },
    { name: 'a GET with a request in its body', parts: [request(GOOD, credentials, second, 'GET')] },
    {
      name: 'an upgrade to HTTP/2',
      parts: [
        call(GOOD, { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }),
      ],
      calls: 1,
    },
    {
      name: 'an upgrade to a web socket',
      parts: [
        call(GOOD, {
          Connection: 'Upgrade',
          Upgrade: 'websocket',
          'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
          'Sec-WebSocket-Version': '13',
        }),
      ],
      calls: 1,
    },
    { name: 'a request to wait', parts: [head([length, 'Expect: 100-continue']), body], calls: 1 },
    { name: 'a wish that nobody fulfils', parts: [head([length, 'Expect: miracles']) + body] },

    { name: 'empty lines first', parts: [`\r\n\r\n${good}`], calls: 1 },
    { name: 'a second request without credentials', parts: [good + request(SMUGGLED, {}, body)], calls: 1 },
    { name: 'garbage behind the body', parts: [`${good}GARBAGE\r\n\r\n`], calls: 1 },
    { name: 'half a request behind the body', parts: [`${good}POST ${SMUGGLED} HTTP/1.1\r\nHost:`], calls: 1 },
    { name: 'a header of 20 KB', parts: [call(GOOD, { 'X-Large': 'a'.repeat(20_000) })] },
    {
      name: 'headers of 20 KB together',
      parts: [head([length, ...Array.from({ length: 400 }, (_, n) => `X-${n}: ${'a'.repeat(45)}`)]) + body],
    },
    { name: 'a target of 20 KB', parts: [call(`/${'a'.repeat(20_000)}`)] },
    { name: 'three thousand headers', parts: [head([length, ...Array.from({ length: 3_000 }, () => 'a:b')]) + body] },
  ];
}
