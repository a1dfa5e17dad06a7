import { parseArgs } from 'node:util';
import type { Finding } from './ledger';
import { rehearse } from './rehearse';
import { TestBed } from './test-bed';

const USAGE = `Usage: npm run rehearse-restore [-- --coins 200] [--json]

  Rehearses a restore with its own PostgreSQL, service and device: base backup and WAL archive, more
  fetches, data loss, recovery to a point in time before some of the fetches, the restore fence, the
  operator's decision, and devices that publish again. Exit code 0: every line of the verdict holds.
  1: at least one does not. 2: invalid command line.

  --coins  number of coins that the device publishes, from 20 to 900 (default 200)
  --json   print the verdict as JSON on stdout; the steps go to stderr`;

class UsageError extends Error {}

function options(): { coins: number; json: boolean } | undefined {
  const { values } = parseArgs({
    options: {
      coins: { type: 'string', default: '200' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const coins = Number(values.coins);
  // The service accepts 1,000 coins of one category, and a tenth more is published later.
  if (!(Number.isInteger(coins) && coins >= 20 && coins <= 900)) {
    throw new UsageError(`--coins must be a whole number from 20 to 900; it is "${values.coins}"`);
  }
  return { coins, json: values.json };
}

async function main(): Promise<number> {
  const chosen = options();
  if (!chosen) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const { coins, json } = chosen;
  const started = performance.now();
  let step = 0;
  const onStep = (what: string) => {
    step += 1;
    const line = `${String(step).padStart(2)}. ${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s  ${what}\n`;
    (json ? process.stderr : process.stdout).write(line);
  };
  const testBed = await TestBed.open();
  try {
    const findings = await rehearse(testBed, { coins, onStep });
    const holds = findings.every((finding) => finding.holds);
    process.stdout.write(json ? `${JSON.stringify({ holds, findings })}\n` : table(findings, holds));
    return holds ? 0 : 1;
  } finally {
    await testBed.close();
  }
}

function table(findings: readonly Finding[], holds: boolean): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  const rows = findings.map(
    ({ what, holds: one, seen }) => `${one ? 'ok   ' : 'WRONG'} ${what.padEnd(width)}  ${seen}`,
  );
  return `\n${rows.join('\n')}\n\n${holds ? 'The rehearsal succeeded.' : 'THE REHEARSAL FAILED.'}\n`;
}

// On exit, also after Ctrl-C, all started processes are stopped.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const isUsage =
      error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
    console.error(isUsage ? `${(error as Error).message}\n${USAGE}` : error);
    process.exit(isUsage ? 2 : 1);
  },
);
