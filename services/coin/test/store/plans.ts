import { Client } from 'pg';
import type { TestDatabase } from '../../../../testkit/test-database';
import { asAdmin } from '../../../../testkit/test-database';

/** The kind of plan for a statement with parameters: custom for the values, or generic for all. */
export type PlanMode = 'custom' | 'generic';

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Actual Loops'?: number;
  readonly 'Target Tables'?: readonly { readonly 'Relation Name': string }[];
  readonly Plans?: readonly PlanNode[];
}

/** One executed statement. */
export interface Ran {
  readonly text: string;
  /** The tables and partitions that its plan names. */
  readonly named: ReadonlySet<string>;
  /** The tables and partitions that it read or wrote. */
  readonly touched: ReadonlySet<string>;
}

/** Makes every later connection report the plan of each executed statement in a notice. */
export async function reportPlans({ name }: TestDatabase, mode: PlanMode): Promise<void> {
  const settings = {
    session_preload_libraries: 'auto_explain',
    'auto_explain.log_min_duration': '0',
    'auto_explain.log_analyze': 'on',
    'auto_explain.log_timing': 'off',
    'auto_explain.log_format': 'json',
    'auto_explain.log_level': 'notice',
    client_min_messages: 'notice',
    plan_cache_mode: `force_${mode}_plan`,
  };
  for (const [setting, value] of Object.entries(settings)) {
    await asAdmin(`ALTER DATABASE ${name} SET ${setting} = '${value}'`);
  }
}

/** Returns the statements that the connections of this process executed during some work. */
export async function ranDuring(work: () => Promise<unknown>): Promise<Ran[]> {
  const ran: Ran[] = [];
  const emit = Client.prototype.emit;
  // The service opens its connections itself, and only they receive the notices.
  Client.prototype.emit = function (this: Client, event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'notice') ran.push(...toRan((args[0] as { message?: string }).message ?? ''));
    return Reflect.apply(emit, this, [event, ...args]);
  } as typeof emit;
  try {
    await work();
  } finally {
    Client.prototype.emit = emit;
  }
  return ran;
}

function toRan(notice: string): Ran[] {
  const json = /^duration: .* plan:\n([\s\S]*)$/.exec(notice)?.[1];
  if (json === undefined) return [];
  const { 'Query Text': text, Plan: plan } = JSON.parse(json) as { 'Query Text': string; Plan: PlanNode };
  const [named, touched] = [new Set<string>(), new Set<string>()];
  walk(plan, (node) => {
    const own = node['Relation Name'] === undefined ? [] : [node['Relation Name']];
    for (const name of [...own, ...(node['Target Tables'] ?? []).map((target) => target['Relation Name'])])
      named.add(name);
    // A ModifyTable writes to a table that it names only where a scan below it found a row.
    if (node['Node Type'] !== 'ModifyTable' && (node['Actual Loops'] ?? 0) > 0)
      for (const name of own) touched.add(name);
  });
  return [{ text, named, touched }];
}

function walk(node: PlanNode, visit: (node: PlanNode) => void): void {
  visit(node);
  for (const part of node.Plans ?? []) walk(part, visit);
}
