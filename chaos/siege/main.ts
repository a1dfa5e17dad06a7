import { parseArgs } from 'node:util';
import { ATTACK_NAMES, ATTACKS, type AttackName } from './attacks';
import { soakIdle } from './idle-soak';
import { Siege } from './siege';

const USAGE = `Usage: npm run siege [-- --only NAME,…] [--connections 10000] [--seconds 20] [--success 0.99] [--slowdown 2]

  Attacks a service with its default limits and 512 MiB of memory (a cgroup if one can be made, else a
  heap limit), while honest users call it. For each attack: honest users call alone, during the attack, beside a process
  that uses as much processor time as the attacker did and sends nothing, and alone again. Exit code 1: fewer than 99 % of
  their calls succeeded during the attack, their p99 was more than twice that of the slower one of the two rests, the
  process ended, or the attack is not visible in the log and the metrics.
  The first part, idle, is a soak test of connections. Exit code 1 there: one was lost or takes more than
  64 KiB, or a call failed. Exit code 2: the run could not start.

  --only         parts to run, separated by commas (default: all):
                 idle${' '.repeat(12)}many idle connections while calls are answered
${ATTACK_NAMES.map((name) => `                 ${name.padEnd(16)}${ATTACKS[name].what}`).join('\n')}
  --connections  number of idle connections (default 10000); the service needs as many file
                 descriptors (ulimit -n)
  --seconds      duration of each attack, of the rests before and after together, and of the rest beside a load
                 (default 20)
  --success      the smallest accepted part of the honest calls that succeed during an attack (default
                 0.99)
  --slowdown     the largest accepted ratio of the p99 during an attack to that at rest (default 2)`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: ['idle', ...ATTACK_NAMES].join() },
      connections: { type: 'string', default: '10000' },
      seconds: { type: 'string', default: '20' },
      success: { type: 'string', default: '0.99' },
      slowdown: { type: 'string', default: '2' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    print(USAGE);
    return 0;
  }
  const parts = values.only.split(',');
  const unknown = parts.filter((part) => part !== 'idle' && !(part in ATTACKS));
  if (unknown.length > 0) throw new Error(`--only: there is no part ${unknown.join(', ')}\n${USAGE}`);
  const { connections, seconds, success, slowdown } = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, Number(value)]),
  ) as Record<'connections' | 'seconds' | 'success' | 'slowdown', number>;
  if (!Number.isSafeInteger(connections) || connections < 1)
    throw new Error(`--connections must be a positive integer\n${USAGE}`);
  if (!(seconds > 0 && success > 0 && slowdown > 0))
    throw new Error(`--seconds, --success and --slowdown must be positive numbers\n${USAGE}`);

  const findings: string[] = [];
  if (parts.includes('idle')) findings.push(...(await soakIdle(connections)));
  const attacks = parts.filter((part): part is AttackName => part in ATTACKS);
  if (attacks.length > 0) {
    const siege = await Siege.begin();
    try {
      for (const name of attacks)
        findings.push(...(await siege.withstand(name, seconds * 1000, { success, slowdown })));
    } finally {
      await siege.end();
    }
  }
  for (const finding of findings) print(`FOUND ${finding}`);
  print(findings.length === 0 ? 'the service withstood every part' : 'FAILED');
  return findings.length === 0 ? 0 : 1;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(2);
  },
);
