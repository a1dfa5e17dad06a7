import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pino from 'pino';
import { EmbeddedPostgres } from '../../services/coin/postgres/embedded-postgres';
import { openDatabase } from '../../services/coin/store/database';
import { migrateUp } from '../../services/coin/store/migrate';
import { ARMS, type Arm, type Effort, measure, type Round, type Scenario } from './scenario';

const USAGE = `Usage: npm run bench:fetch-cost [-- --quick] [--callers 8] [--json FILE]
  The claim statement with everything (repeats, spent memory, fence, recheck of short answers, key bytes) against the plain
  claim on one table, by the same driver, in alternating rounds. "slower" is by how much more the plain one did.`;

const SCENARIOS: readonly Scenario[] = [
  { name: 'one GOLD coin', category: 'GOLD', count: 1 },
  { name: 'one BRONZE coin', category: 'BRONZE', count: 1 },
  { name: 'five BRONZE coins', category: 'BRONZE', count: 5 },
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

function row(...cells: (string | number)[]): string {
  return cells.map((cell, index) => (index === 0 ? String(cell).padEnd(20) : String(cell).padStart(16))).join('');
}

function summarise(rounds: readonly Round[]) {
  const of = (arm: Arm, figure: 'perSecond' | 'p50') =>
    rounds.filter((one) => one.arm === arm).map((one) => one[figure]);
  const arms = Object.fromEntries(
    ARMS.map((arm) => [arm, { perSecond: median(of(arm, 'perSecond')), p50: median(of(arm, 'p50')) }]),
  );
  const ours = of('ours', 'perSecond');
  // Each round of ours against the plain one beside it, so that both met the same mood of the machine.
  const slower = (arm: Arm) => median(of(arm, 'perSecond').map((plain, index) => plain / (ours[index] ?? 0) - 1));
  return { arms, slowerThanUsual: slower('plain, usual'), slowerThanLeanest: slower('plain, leanest') };
}

async function main(): Promise<void> {
  const effort: Effort = {
    callers: Number(values.callers),
    rounds: values.quick ? 2 : 7,
    roundMs: values.quick ? 300 : 1000,
  };
  const folder = mkdtempSync(join(tmpdir(), 'aqm-fetch-cost-'));
  const postgres = await EmbeddedPostgres.open(folder, { log: pino({ level: 'silent' }) });
  try {
    const url = postgres.connectionString();
    const settings = { connectionString: url, poolSize: 1, connectTimeoutMs: 5000, statementTimeoutMs: 60_000 };
    const db = openDatabase({ ...settings, lockTimeoutMs: 60_000, preparedStatements: true }, () => {});
    await migrateUp(db, join(__dirname.replace(/[\\/]dist(?=[\\/]bench)/, ''), '../../migrations'));
    await db.destroy();
    process.stdout.write(`${effort.callers} callers, medians of ${effort.rounds} rounds of ${effort.roundMs} ms\n`);
    process.stdout.write(`${row('fetches/s (p50 ms)', ...ARMS, 'than usual', 'than leanest')}\n`);
    const results = [];
    for (const scenario of SCENARIOS) {
      const summary = summarise(await measure(url, scenario, effort));
      results.push({ scenario, effort, ...summary });
      const cells = ARMS.map(
        (arm) => `${Math.round(summary.arms[arm]?.perSecond ?? 0)} (${summary.arms[arm]?.p50.toFixed(2)})`,
      );
      const slower = [summary.slowerThanUsual, summary.slowerThanLeanest].map(
        (share) => `${(100 * share).toFixed(1)} % slower`,
      );
      process.stdout.write(`${row(scenario.name, ...cells, ...slower)}\n`);
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
