import { guardProcess } from '../../src/redaction/crash.ts';
import { openLog } from '../../src/redaction/logger.ts';
import { ACCESS, PLAID_SECRET } from './corpus.ts';

/** A process that logs and dies with tokens in its hands; run by logger.test.ts. */
const sink = openLog({ level: 'trace', base: { deployment: 'crash-test' }, bufferBytes: 4096 });
guardProcess(sink);
sink.log.info({ request_id: 'r1', body: { access_token: ACCESS } }, `before ${ACCESS}`);
process.emitWarning(`careful with ${ACCESS}`, { code: 'TEST', detail: PLAID_SECRET });

const error = Object.assign(new Error(`failed with ${ACCESS}`, { cause: new Error(`PLAID-SECRET: ${PLAID_SECRET}`) }), {
  config: { headers: { 'PLAID-SECRET': PLAID_SECRET }, data: ACCESS },
});

const ways: Record<string, () => void> = {
  thrown: () => {
    throw error;
  },
  rejected: () => {
    Promise.reject(error);
  },
  text: () => {
    throw ACCESS;
  },
  object: () => {
    throw { access_token: ACCESS, secret: PLAID_SECRET };
  },
  proxy: () => {
    throw new Proxy(error, {
      get: () => {
        throw new Error(ACCESS);
      },
    });
  },
};
// Later, so that the warning is delivered first.
setImmediate(() => setImmediate(() => ways[process.argv[2] ?? '']?.()));
