/** /sandbox/public_token/create: linking a bank without a browser. */
import { linkItem } from './bank.ts';
import { checkUrl, type Endpoint, invalidField } from './call.ts';

const createPublicToken: Endpoint = (call) => {
  const products = call.body.texts('initial_products');
  if (products.length === 0) throw invalidField('initial_products must be a non-empty array');
  const options = call.body.child('options');
  const user = call.maybeUser();
  const item = linkItem(call.world, {
    clientId: call.clientId,
    institutionId: call.body.text('institution_id'),
    products,
    webhook: checkUrl('options.webhook', options.maybeText('webhook')),
    username: options.maybeText('override_username'),
    password: options.maybeText('override_password'),
    userId: user?.id ?? null,
  });
  return { public_token: call.world.publicToken(item) };
};

export const sandboxEndpoints: Readonly<Record<string, Endpoint>> = {
  '/sandbox/public_token/create': createPublicToken,
};
