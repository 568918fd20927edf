import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import type { CanaryGround } from './canary-ground.ts';
import type { App, Desk } from './canary-stories.ts';
import { request } from './raw-http.ts';

/** What an operator does, rightly and wrongly: the command line, the admin API, files with mistakes in them. */

/** Commands that work. */
export async function rightCommands(ground: CanaryGround, app: App): Promise<void> {
  const ok = async (args: readonly string[], ...holds: string[]) => {
    const { code, stdout } = await ground.cli(args, '', holds);
    assert.equal(code, 0, `${args.join(' ')}: ${stdout}`);
    return stdout;
  };
  await ok(['apps', 'list', '--json', '@admin']);
  await ok(['apps', 'policy', app.id, '--json', '@admin']);
  const rotated = await ok(['apps', 'rotate-key', app.id, '--json', '@admin'], 'key');
  ground.canaries.token('key', String((JSON.parse(rotated) as { key: string }).key));
  const { items } = JSON.parse(await ok(['items', 'list', '--json', '@admin'])) as { items: { record_id: string }[] };
  await ok(['items', 'show', items[0]?.record_id ?? '', '@admin']);
  const folder = join(ground.folder, 'audit');
  await ok(['audit', 'export', '--out', folder, '@admin']);
  await ok(['audit', 'verify', folder]);
  // These two tell of what is not settled, and then end with 1.
  await ground.cli(['items', 'list', '--unsettled', '@admin']);
  await ground.cli(['doctor', ...ground.installation.named]);
}

/** Secrets where an operator may put them by mistake. Everything is refused, and nothing repeated. */
export async function wrongCommands(ground: CanaryGround, desk: Desk): Promise<void> {
  const { adminUrl } = ground.running().running;
  const refused = async (args: readonly string[], input = '') => {
    const { code } = await ground.cli(args, input);
    assert.ok(code !== 0 && code !== null, `${args.join(' ')} ended with ${code}`);
  };
  const sent = (what: string) => desk.sent(what);
  await refused(['apps', 'list', '--admin-url', adminUrl, '--token-file', '-'], sent('wrong admin token'));
  await refused(['apps', 'add', 'x', '--policy', '-', '@admin'], `{"a": ${sent('policy, no JSON')}`);
  await refused(['apps', 'add', 'x', '--policy', '-', '@admin'], `{"classes": ["${sent('policy, wrong value')}"]}`);
  await refused(['apps', 'add', 'x', '--policy', '-', '@admin'], sent('policy, a bare word'));

  const folder = join(ground.folder, 'mistakes');
  mkdirSync(folder, { mode: 0o700 });
  const mistake = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    ground.canaries.holds(`around/cwd/mistakes/${name}`, 'sent');
    return path;
  };
  await refused(['audit', 'verify', mistake('export.jsonl', `{"index":0,"entry":"${sent('export')}"}\n`)]);

  const kek = mistake('kek', sent('KEK'));
  const pem = mistake('signing-key.txt', `-----BEGIN PRIVATE KEY-----\n${sent('PEM')}\n-----END PRIVATE KEY-----\n`);
  const token = mistake('admin-token.txt', sent('admin token').slice(0, 24));
  const whole = {
    deployment: { id: 'mistakes', environment: 'development' },
    plaid: {
      environment: 'sandbox',
      clients: [{ name: 'default', clientId: 'd0d0d0d0d0d0d0d0d0d0d0d0', secret: `file:${token}` }],
      upstream: 'http://127.0.0.1:1',
    },
    database: {
      url: 'postgres://127.0.0.1:1/none',
      tls: 'off',
      topology: 'single',
      logins: { gateway: { user: 'gateway', password: `file:${token}` } },
    },
    kms: { provider: 'file', file: { path: kek } },
    listeners: { gateway: { port: 0 }, admin: { port: 0, token: `file:${token}` } },
    audit: { signingKey: `file:${pem}` },
  };
  // Each is read before the database would be asked, or ends at a database that is not there.
  const changes: Record<string, (config: typeof whole) => void> = {
    'files.yaml': () => {},
    'literal.yaml': (config) => Object.assign(config.plaid.clients[0] ?? {}, { secret: sent('literal secret') }),
    'url.yaml': (config) => Object.assign(config.database, { url: `postgres://a:${sent('url')}@127.0.0.1:1/none` }),
    'token.yaml': (config) => Object.assign(config.listeners.admin, { token: sent('literal token') }),
    'unknown.yaml': (config) => Object.assign(config, { [sent('key')]: sent('value of an unknown key') }),
    'logins.yaml': (config) => Object.assign(config.database.logins.gateway, { password: sent('literal password') }),
  };
  for (const [name, change] of Object.entries(changes)) {
    const config = parse(stringify(whole)) as typeof whole;
    change(config);
    const path = join(folder, name);
    writeFileSync(path, stringify(config), { mode: 0o600 });
    ground.canaries.mayHold(`around/cwd/mistakes/${name}`, 'sent');
    await refused(['serve', '--config', path]);
    await refused(['doctor', '--config', path]);
  }
  const cut = mistake('cut.yaml', `plaid:\n  clients: [{secret: "${sent('cut YAML')}\n`);
  await refused(['serve', '--config', cut]);
}

/** The admin API, called by hand. */
export async function wrongAdminCalls(ground: CanaryGround, desk: Desk): Promise<void> {
  const { adminUrl } = ground.running().running;
  const token = ground.secrets()['admin token'] ?? '';
  const bearer = { Authorization: `Bearer ${token}`, Connection: 'close' };
  const sent = () => desk.sent('admin API');
  const say = (headers: Record<string, string>, path: string, body: string, method = 'POST') =>
    desk.raw(`admin ${method}`, request(path, headers, body, method), adminUrl);
  await say({ Authorization: `Bearer ${sent()}`, Connection: 'close' }, '/applications', '{}');
  await say({ Authorization: `Basic ${sent()}`, Connection: 'close' }, `/${sent()}`, sent());
  await say({ ...bearer, Cookie: sent(), 'X-Request-Id': sent() }, '/applications', `{"name":"${sent()}`);
  await say(bearer, '/applications', JSON.stringify({ name: 'x', policy: { classes: [sent()] } }));
  await say(bearer, `/items?before=${sent()}`, '', 'GET');
  await say(bearer, `/items/${sent()}`, '', 'GET');
  await say({ ...bearer, 'Content-Type': `text/${sent()}` }, '/applications', sent());
}
