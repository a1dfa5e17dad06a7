import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pino from 'pino';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { EmbeddedPostgres } from '../../services/coin/database/embedded-postgres';
import { migrateUp } from '../../services/coin/database/migrate';
import { openDatabase } from '../../services/coin/database/pool';
import { ROOT } from '../../testkit/root';
import { ARMS, type Arm, type Effort, measure, type Round, type Scenario } from './scenario';
import { measureThroughService } from './through-service';

const USAGE = `Usage: npm run bench -- fetch-cost [--quick] [--callers 8] [--json FILE]
  Fetching with everything (repeats, spent memory, fence, recheck of short answers, key bytes) against the plain claim on one
  table, in alternating rounds: the statement alone, by the same driver; then FetchCoins over gRPC, by the service as it
  ships and by the same service with the plain claim. Behind each plain figure stands by how much slower ours was: 10 % are 90
  fetches where the plain claim makes 100.`;

const [GOLD, , BRONZE] = COIN_CATEGORIES;
const SCENARIOS: readonly Scenario[] = [
  { name: 'one GOLD coin', spec: GOLD, count: 1 },
  { name: 'one BRONZE coin', spec: BRONZE, count: 1 },
  { name: 'five BRONZE coins', spec: BRONZE, count: 5 },
];

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    callers: { type: 'string', default: '8' },
    json: { type: 'string' },
  },
});

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

/** Of each arm that was measured: median speed, and what share of its fetches ours missed in the round beside it. */
function summarise(rounds: readonly Round[]) {
  const speeds = (arm: Arm) => rounds.filter((round) => round.arm === arm);
  const ours = speeds('ours');
  return ARMS.filter((arm) => speeds(arm).length > 0).map((arm) => ({
    arm,
    perSecond: median(speeds(arm).map(({ perSecond }) => perSecond)),
    p50: median(speeds(arm).map(({ p50 }) => p50)),
    // Both met the same mood of the machine.
    oursSlower: median(speeds(arm).map(({ perSecond }, index) => 1 - (ours[index]?.perSecond ?? 0) / perSecond)),
  }));
}

function printRow(name: string, summary: ReturnType<typeof summarise>): void {
  const cells = summary.map(({ arm, perSecond, p50, oursSlower }) => {
    const beside = arm === 'ours' ? '' : ` ${(100 * oursSlower).toFixed(1)} % slower`;
    return `${Math.round(perSecond)}/s (${p50.toFixed(2)} ms)${beside}`.padEnd(36);
  });
  process.stdout.write(`${name.padEnd(20)}${cells.join('')}\n`);
}

async function main(): Promise<void> {
  const effort: Effort = {
    callers: Number(values.callers),
    rounds: values.quick ? 4 : 40,
    roundMs: values.quick ? 100 : 300,
  };
  const folder = mkdtempSync(join(tmpdir(), 'aqm-fetch-cost-'));
  const postgres = await EmbeddedPostgres.open(folder, { log: pino({ level: 'silent' }) });
  try {
    const url = postgres.connectionString();
    const settings = { connectionString: url, poolSize: 1, connectTimeoutMs: 5000, statementTimeoutMs: 60_000 };
    const db = openDatabase({ ...settings, lockTimeoutMs: 60_000, preparedStatements: true }, () => {});
    await migrateUp(db, join(ROOT, 'migrations'));
    await db.destroy();
    process.stdout.write(`${effort.callers} callers, medians of ${effort.rounds} rounds of ${effort.roundMs} ms\n`);
    const results = [];
    for (const [way, measured] of [
      ['statement', measure],
      ['service', measureThroughService],
    ] as const) {
      process.stdout.write(`${`by ${way}`.padEnd(20)}${ARMS.map((arm) => arm.padEnd(36)).join('')}\n`);
      for (const scenario of SCENARIOS) {
        const summary = summarise(await measured(url, scenario, effort));
        printRow(scenario.name, summary);
        results.push({ way, scenario: scenario.name, effort, summary });
      }
    }
    if (values.json) writeFileSync(values.json, `${JSON.stringify(results, undefined, 1)}\n`);
  } finally {
    await postgres.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

main().catch((error: unknown) => {
  console.error(error, `\n${USAGE}`);
  process.exit(1);
});
