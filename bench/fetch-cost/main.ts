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
import { purposeOf } from '../harness/command';
import { median, progress } from '../harness/numbers';
import { type Effort, measure, type Round, type Scenario, VARIANTS, type Variant } from './scenario';
import { measureThroughService } from './through-service';

const USAGE = `Usage: npm run bench -- fetch-cost [--quick] [--callers 8] [--json FILE]

  Measures what the promises cost a single fetch (repeats, memory of spent ids, fence, recheck of
  short answers, key bytes). Compares, in alternating rounds, the service's claim with a plain claim
  on one table: first as a statement through the same driver, then as FetchCoins over gRPC, by the
  service as shipped and by the same service with the plain claim. Each plain figure is followed by
  how much slower ours is: 10 % means 90 fetches in the time of 100.`;

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
    help: { type: 'boolean', short: 'h', default: false },
  },
});

/** Returns the median speed of each measured variant, and by which share ours was slower in the adjacent round. */
function summarise(rounds: readonly Round[]) {
  const speeds = (variant: Variant) => rounds.filter((round) => round.variant === variant);
  const ours = speeds('ours');
  return VARIANTS.filter((variant) => speeds(variant).length > 0).map((variant) => ({
    variant,
    perSecond: median(speeds(variant).map(({ perSecond }) => perSecond)),
    p50: median(speeds(variant).map(({ p50 }) => p50)),
    // Compared with the adjacent round, because the speed of the machine drifts.
    oursSlower: median(speeds(variant).map(({ perSecond }, index) => 1 - (ours[index]?.perSecond ?? 0) / perSecond)),
  }));
}

function printRow(name: string, summary: ReturnType<typeof summarise>): void {
  const cells = summary.map(({ variant, perSecond, p50, oursSlower }) => {
    const beside = variant === 'ours' ? '' : ` ${(100 * oursSlower).toFixed(1)} % slower`;
    return `${Math.round(perSecond)}/s (${p50.toFixed(2)} ms)${beside}`.padEnd(36);
  });
  process.stdout.write(`${name.padEnd(20)}${cells.join('')}\n`);
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  progress(purposeOf(USAGE));
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
      process.stdout.write(`${`by ${way}`.padEnd(20)}${VARIANTS.map((variant) => variant.padEnd(36)).join('')}\n`);
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
