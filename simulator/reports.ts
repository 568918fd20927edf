/** Asset reports, their copies for auditors, and relays to other companies. */
import { renderAccount, renderOwners } from './bank.ts';
import { type Call, checkUrl, type Endpoint, invalidField, type Json, Reply, storedFailure } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { institutionById } from './institutions.ts';
import { currentTransactions } from './ledger.ts';
import { tinyPdf } from './pdf.ts';
import type { Item, Report } from './state.ts';
import { isoDate, isoTime } from './world.ts';

const DAY = 86_400_000; // ms
const MOST_DAYS = 731;

function seenNow(item: Item, days: number, now: number): Json {
  const since = isoDate(now - days * DAY);
  const owners = renderOwners(item);
  const transactions = currentTransactions(item).filter((transaction) => (transaction.date as string) >= since);
  return {
    item_id: item.id,
    institution_name: institutionById(item.institutionId).name,
    institution_id: item.institutionId,
    date_last_updated: isoTime(item.refreshedAt),
    accounts: item.accounts.map((account) => {
      const rendered = renderAccount(account);
      return {
        account_id: account.id,
        balances: { ...(rendered.balances as Json), margin_loan_amount: null },
        mask: account.mask,
        name: account.name,
        official_name: account.officialName,
        type: account.type,
        subtype: account.subtype,
        days_available: Math.min(days, 90),
        owners,
        ownership_type: null,
        historical_balances: Array.from({ length: Math.min(days, 30) }, (_, ago) => ({
          date: isoDate(now - ago * DAY),
          current: account.current,
          iso_currency_code: 'USD',
          unofficial_currency_code: null,
        })),
        transactions: transactions
          .filter((transaction) => transaction.account_id === account.id)
          .map((transaction) => ({
            account_id: transaction.account_id,
            amount: transaction.amount,
            iso_currency_code: 'USD',
            unofficial_currency_code: null,
            original_description: transaction.name,
            date: transaction.date,
            pending: transaction.pending,
            transaction_id: transaction.transaction_id,
          })),
      };
    }),
  };
}

function store(call: Call, report: Report, webhook: string | null): Json {
  const token = call.world.grant({ kind: 'report', clientId: call.clientId, createdAt: call.now, report });
  if (webhook !== null) {
    call.world.emit({
      url: webhook,
      clientId: call.clientId,
      itemId: null,
      at: report.readyAt,
      payload: {
        asset_report_id: report.id,
        environment: call.world.environment,
        report_type: 'FULL',
        webhook_code: 'PRODUCT_READY',
        webhook_type: 'ASSETS',
      },
    });
  }
  return { asset_report_token: token, asset_report_id: report.id };
}

const checkDays = (days: number): number => {
  if (!Number.isInteger(days) || days < 0 || days > MOST_DAYS)
    throw invalidField(`days_requested must be between 0 and ${MOST_DAYS}`);
  return days;
};

const create: Endpoint = (call) => {
  const tokens = call.body.texts('access_tokens');
  if (tokens.length < 1 || tokens.length > 99) throw invalidField('access_tokens must hold between 1 and 99 tokens');
  const days = checkDays(call.body.number('days_requested', 0));
  const options = call.body.child('options');
  const webhook = checkUrl('options.webhook', options.maybeText('webhook'));
  const items = tokens.map((token) => call.world.itemByToken(token, call.clientId));
  const causes = items.filter((item) => item.error !== null).map((item) => ({ ...item.error, item_id: item.id }));
  if (causes.length > 0) throw causesFailure(items, causes);
  for (const item of items) call.ready(item, 'assets');
  call.spend(null);
  return store(
    call,
    {
      id: call.world.mint.uuid(),
      clientReportId: options.maybeText('client_report_id'),
      daysRequested: days,
      createdAt: call.now,
      readyAt: call.now + call.world.settings.readyAfterMs,
      user: options.child('user').raw,
      items: items.map((item) => seenNow(item, days, call.now)),
    },
    webhook,
  );
};

/** The first item's error, with every failing item under `causes`. */
function causesFailure(items: readonly Item[], causes: readonly unknown[]): PlaidFailure {
  const broken = items.find((item) => item.error !== null) as Item;
  const failure = storedFailure(broken.error as Json);
  return new PlaidFailure(failure.code, failure.message, { type: failure.type, causes });
}

const REPORT_USER = {
  client_user_id: null,
  first_name: null,
  middle_name: null,
  last_name: null,
  ssn: null,
  phone_number: null,
  email: null,
};

const render = (report: Report): Json => ({
  asset_report_id: report.id,
  insights: null,
  client_report_id: report.clientReportId,
  date_generated: isoTime(report.createdAt),
  days_requested: report.daysRequested,
  user: { ...REPORT_USER, ...report.user },
  items: report.items,
});

function readyReport(call: Call, token: string): Report {
  const { report } = call.token('report', token);
  if (report.readyAt > call.now) throw new PlaidFailure('PRODUCT_NOT_READY', undefined, { type: 'ASSET_REPORT_ERROR' });
  return report;
}

/** A user token in place of a report token: the user's newest report. */
const get: Endpoint = (call) => {
  if (call.body.has('asset_report_token'))
    return { report: render(readyReport(call, call.body.text('asset_report_token'))), warnings: [] };
  const user = call.user();
  for (const [token, grant] of [...call.world.state.grants].reverse()) {
    if (
      grant.kind === 'report' &&
      grant.report.items.some((seen) => call.world.state.items.get(seen.item_id as string)?.userId === user.id)
    ) {
      return { report: render(readyReport(call, token)), warnings: [] };
    }
  }
  throw new PlaidFailure('INVALID_ASSET_REPORT_TOKEN');
};

const pdfOf = (report: Report): Reply => new Reply(200, tinyPdf(`Asset report ${report.id}`), 'application/pdf');

const getPdf: Endpoint = (call) => pdfOf(readyReport(call, call.body.text('asset_report_token')));

const refresh: Endpoint = (call) => {
  const { report } = call.token('report', call.body.text('asset_report_token'));
  const options = call.body.child('options');
  const webhook = checkUrl('options.webhook', options.maybeText('webhook'));
  const days = checkDays(call.body.number('days_requested', report.daysRequested));
  const items = report.items.map((seen) => {
    const item = call.world.state.items.get(seen.item_id as string);
    if (item === undefined || item.state === 'removed') throw new PlaidFailure('ITEM_NOT_FOUND');
    if (item.error !== null) throw storedFailure(item.error);
    return seenNow(item, days, call.now);
  });
  const fresh: Report = {
    ...report,
    id: call.world.mint.uuid(),
    clientReportId: options.maybeText('client_report_id') ?? report.clientReportId,
    daysRequested: days,
    createdAt: call.now,
    readyAt: call.now + call.world.settings.readyAfterMs,
    items,
  };
  return store(call, fresh, webhook);
};

const filter: Endpoint = (call) => {
  const { report } = call.token('report', call.body.text('asset_report_token'));
  const excluded = new Set(call.body.texts('account_ids_to_exclude'));
  const items = report.items.map((seen) => ({
    ...seen,
    accounts: (seen.accounts as Json[]).filter((account) => !excluded.has(account.account_id as string)),
  }));
  return store(call, { ...report, id: call.world.mint.uuid(), createdAt: call.now, items }, null);
};

const removed = (call: Call, kind: 'report' | 'audit_copy' | 'relay', field: string): Json => {
  const token = call.body.text(field);
  call.token(kind, token);
  call.world.state.grants.delete(token);
  return { removed: true };
};

/** The asset reports behind tokens. Employment reports may stand among them, but have no content here. */
function reportsOf(call: Call, tokens: readonly string[]): Report[] {
  if (tokens.length === 0) throw invalidField('report_tokens must be a non-empty array');
  return tokens.flatMap((token) => {
    if (!token.startsWith('employment-report-')) return [readyReport(call, token)];
    call.token('employment_report', token);
    return [];
  });
}

const auditCopy = (call: Call, tokens: readonly string[]): Json => ({
  audit_copy_token: call.world.grant({
    kind: 'audit_copy',
    clientId: call.clientId,
    createdAt: call.now,
    reports: reportsOf(call, tokens),
  }),
});

/** Copies and relays show the first report that they were made of; they outlive its token. */
function copied(call: Call, kind: 'audit_copy' | 'relay', field: string): Report {
  const [first] = call.token(kind, call.body.text(field)).reports;
  if (first === undefined) throw new PlaidFailure('PRODUCT_NOT_READY', undefined, { type: 'ASSET_REPORT_ERROR' });
  return first;
}

export const reportEndpoints: Readonly<Record<string, Endpoint>> = {
  '/asset_report/create': create,
  '/asset_report/get': get,
  '/asset_report/pdf/get': getPdf,
  '/asset_report/refresh': refresh,
  '/asset_report/filter': filter,
  '/asset_report/remove': (call) => removed(call, 'report', 'asset_report_token'),
  '/asset_report/audit_copy/create': (call) => auditCopy(call, [call.body.text('asset_report_token')]),
  '/asset_report/audit_copy/get': (call) => ({
    report: render(copied(call, 'audit_copy', 'audit_copy_token')),
    warnings: [],
  }),
  '/asset_report/audit_copy/pdf/get': (call) => pdfOf(copied(call, 'audit_copy', 'audit_copy_token')),
  '/asset_report/audit_copy/remove': (call) => removed(call, 'audit_copy', 'audit_copy_token'),
  '/credit/audit_copy_token/create': (call) => auditCopy(call, call.body.texts('report_tokens')),
  '/credit/audit_copy_token/remove': (call) => removed(call, 'audit_copy', 'audit_copy_token'),
  '/credit/relay/create': (call) => ({
    relay_token: call.world.grant({
      kind: 'relay',
      clientId: call.clientId,
      createdAt: call.now,
      reports: reportsOf(call, call.body.texts('report_tokens')),
      secondaryClientId: call.body.text('secondary_client_id'),
    }),
  }),
  '/credit/relay/get': (call) => ({ report: render(copied(call, 'relay', 'relay_token')), warnings: [] }),
  '/credit/relay/pdf/get': (call) => pdfOf(copied(call, 'relay', 'relay_token')),
  '/credit/relay/refresh': (call) => {
    const grant = call.token('relay', call.body.text('relay_token'));
    const report = copied(call, 'relay', 'relay_token');
    return { relay_token: call.world.grant({ ...grant, createdAt: call.now }), asset_report_id: report.id };
  },
  '/credit/relay/remove': (call) => removed(call, 'relay', 'relay_token'),
};
