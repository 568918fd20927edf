/** Every endpoint that the simulator models, by path. Anything else is 404 NOT_FOUND. */
import { accountEndpoints } from './accounts.ts';
import type { Endpoint } from './call.ts';
import { institutionEndpoints } from './institutions.ts';
import { itemEndpoints } from './items.ts';
import { linkEndpoints } from './link.ts';
import { partnerEndpoints } from './partners.ts';
import { processorEndpoints } from './processor.ts';
import { reportEndpoints } from './reports.ts';
import { sandboxEndpoints } from './sandbox.ts';
import { transactionEndpoints } from './transactions.ts';
import { transferEndpoints } from './transfer.ts';
import { userEndpoints } from './users.ts';
import { wealthEndpoints } from './wealth.ts';
import { webhookEndpoints } from './webhooks.ts';

export const ROUTES: ReadonlyMap<string, Endpoint> = new Map(
  [
    accountEndpoints,
    institutionEndpoints,
    itemEndpoints,
    linkEndpoints,
    partnerEndpoints,
    processorEndpoints,
    reportEndpoints,
    sandboxEndpoints,
    transactionEndpoints,
    transferEndpoints,
    userEndpoints,
    wealthEndpoints,
    webhookEndpoints,
  ].flatMap((family) => Object.entries(family)),
);

/** Endpoints that change nothing, so that their answers need not wait for the state file. */
export function readsOnly(path: string): boolean {
  return /\/(get|get_by_id|search|list|sync|download|introspect|evaluate)$/.test(path) && !CHANGING.has(path);
}

/** Named like reads, but they mint tokens. */
const CHANGING = new Set(['/credit/employment/get', '/user_account/session/get']);
