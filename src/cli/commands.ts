import { APPS } from './apps.ts';
import { auditExport, auditTail } from './audit.ts';
import { adminAuditConnector } from './audit-connector.ts';
import { auditVerify } from './audit-verify.ts';
import type { Command } from './command.ts';
import { dev } from './dev.ts';
import { doctor } from './doctor.ts';
import { itemsList, itemsShow } from './items.ts';
import { migrateCommand } from './migrate.ts';
import { serve } from './serve.ts';
import { simulate } from './simulate.ts';

/** Every command, in the order of `--help`. docs/cli.md is checked against this list. */
export const COMMANDS: readonly Command[] = [
  dev,
  serve,
  migrateCommand,
  doctor,
  ...APPS,
  itemsList,
  itemsShow,
  auditExport(adminAuditConnector),
  auditVerify,
  auditTail(adminAuditConnector),
  simulate,
];
