import { failures } from '../../status/failures';
import type { Finding, Level } from '../../status/finding';
import type { Status } from '../../status/status';
import type { Replica } from './read-replicas';

export interface RenderOptions {
  /** In columns. */
  readonly width: number;
  /** True to mark the level by colour too. */
  readonly colours: boolean;
}

const LEVELS: readonly Level[] = ['failure', 'warning', 'notice', 'well'];
const COLOURS: Readonly<Record<Level, number>> = { failure: 31, warning: 33, notice: 36, well: 32 };

/** Returns the most serious level of all replicas. One that does not answer is a failure. */
export function worstLevel(replicas: readonly Replica[]): Level {
  const levels = replicas.map(({ status }) => status?.diagnosis.level ?? 'failure');
  return LEVELS.find((level) => levels.includes(level)) ?? 'failure';
}

/** Returns the lines of the view: what is wrong, a table with a line for each replica, and what they share. */
export function renderLines(replicas: readonly Replica[], options: RenderOptions): string[] {
  const up = replicas.flatMap(({ status }) => (status ? [status] : []));
  return [
    ...diagnosisLines(replicas, options),
    '',
    ...tableLines(replicas, options.width),
    ...(up[0] ? ['', ...sharedLines(up, up[0], options.width)] : []),
  ];
}

function diagnosisLines(replicas: readonly Replica[], { width, colours }: RenderOptions): string[] {
  const found = new Map<string, { finding: Omit<Finding, 'name'>; at: string[] }>();
  for (const { address, status, problem } of replicas) {
    for (const finding of status?.diagnosis.findings ?? [away(problem ?? '')]) {
      const same = found.get(finding.title);
      if (same) same.at.push(address);
      else found.set(finding.title, { finding, at: [address] });
    }
  }
  const rank = (level: Level) => LEVELS.indexOf(level);
  const all = [...found.values()].sort((one, other) => rank(one.finding.level) - rank(other.finding.level));
  const isWell = all.every(({ finding }) => finding.level === 'well');
  const shown = isWell ? all : all.filter(({ finding }) => finding.level !== 'well');
  return shown.flatMap(({ finding: { level, title, sentence, document }, at }) => {
    const where = replicas.length > 1 && at.length < replicas.length ? ` (${at.join(', ')})` : '';
    const [head = '', ...rest] = wrapped(clean(`${level.toUpperCase()}: ${title}${where}`), width);
    const lines = [
      ...wrapped(clean(sentence), width - 2),
      ...(document ? wrapped(clean(`More: ${document}`), width - 2) : []),
    ];
    return [
      ...[head, ...rest].map((line) => (colours ? `\x1b[1;${COLOURS[level]}m${line}\x1b[0m` : line)),
      ...lines.map((line) => `  ${line}`),
    ];
  });
}

const away = (problem: string): Omit<Finding, 'name'> => ({
  level: 'failure',
  title: 'A replica does not answer',
  sentence: `${problem}. Check that the process runs: its last line on stderr says why it ended. If it serves, its metrics port is not reachable from here.`,
  document: 'docs/runbook.md#aqmservicedown',
});

interface Column {
  readonly head: string;
  readonly cell: (status: Status) => string;
}

/** The most important ones first: those that do not fit are left out. */
const COLUMNS: readonly Column[] = [
  { head: 'calls/s', cell: ({ now }) => number(now.callsPerSecond) },
  { head: 'failed/s', cell: ({ now }) => number(now.seconds > 0 ? failures(now.codes) / now.seconds : 0) },
  { head: 'p99 ms', cell: ({ now }) => number(now.p99Ms) },
  { head: 'database', cell: ({ now }) => (now.isDatabaseUp ? 'up' : 'AWAY') },
  { head: 'fence', cell: ({ now }) => (now.isFenced ? 'FENCED' : 'open') },
  { head: 'keys', cell: keysOf },
  { head: 'p50 ms', cell: ({ now }) => number(now.p50Ms) },
  { head: 'pool', cell: ({ now: { pool } }) => `${number(pool.used)}/${number(pool.max)}` },
  { head: 'waiting', cell: ({ now: { pool } }) => number(pool.waiting) },
  { head: 'batch', cell: ({ now }) => number(now.batchSize) },
  { head: 'queue', cell: ({ now }) => number(now.fetchesWaiting) },
  { head: 'open calls', cell: ({ now }) => number(now.callsInFlight) },
  { head: 'clients', cell: ({ now }) => number(now.connections) },
  { head: 'up', cell: ({ time, startTime }) => duration(time - startTime) },
  {
    head: 'cert',
    cell: ({ certificateEnd, time }) => (certificateEnd === null ? '-' : duration(certificateEnd - time)),
  },
  { head: 'MiB', cell: ({ now }) => number(now.memoryBytes === null ? null : now.memoryBytes / 2 ** 20) },
  { head: 'cores', cell: ({ now }) => number(now.cpuCores) },
  {
    head: 'processes',
    cell: ({ processes, processesAway }) => `${processes}${processesAway ? ` (${processesAway} AWAY)` : ''}`,
  },
];

function keysOf({ now, tokenKeys, time }: Status): string {
  if (now.areTokenKeysUp === null) return tokenKeys.from === 'file' ? 'file' : 'dev';
  if (!now.areTokenKeysUp) return 'AWAY';
  return tokenKeys.lastFetch === null ? 'up' : `${duration(time - tokenKeys.lastFetch)} old`;
}

function tableLines(replicas: readonly Replica[], width: number): string[] {
  const first = [
    'replica',
    ...replicas.map(({ address, status }) => clean(status ? `${status.replica} ${address}` : address)),
  ];
  const nameWidth = Math.max(...first.map((text) => text.length));
  const lines = first.map((text) => text.padEnd(nameWidth));
  for (const { head, cell } of COLUMNS) {
    const cells = [head, ...replicas.map(({ status }) => (status ? clean(cell(status)) : ''))];
    const cellWidth = Math.max(...cells.map((text) => text.length));
    if ((lines[0] ?? '').length + 2 + cellWidth > width) break;
    for (const [index, text] of cells.entries()) lines[index] += `  ${text.padStart(cellWidth)}`;
  }
  return lines.map((line, index) => {
    const problem = replicas[index - 1]?.problem;
    return (problem ? `${line.trimEnd()}  AWAY: ${clean(problem)}` : line).slice(0, width).trimEnd();
  });
}

/** Returns the lines about all replicas of one database: outcomes, and the stock as the first one reports it. */
function sharedLines(all: readonly Status[], first: Status, width: number): string[] {
  const added = (pick: (status: Status) => Readonly<Record<string, number>>) => {
    const sums = new Map<string, number>();
    for (const status of all) {
      for (const [name, count] of Object.entries(pick(status))) {
        sums.set(name, (sums.get(name) ?? 0) + count / Math.max(1, status.now.seconds));
      }
    }
    return [...sums].filter(([, rate]) => rate > 0).map(([name, rate]) => `${name} ${number(rate)}/s`);
  };
  const { stock, empty } =
    all.find(({ now }) => Object.values(now.stock).some((coins) => coins !== null))?.now ?? first.now;
  const { service, node, postgres } = first.versions;
  const stocks = Object.entries(stock).map(([name, coins]) => `${name.toLowerCase()} ${number(coins)}`);
  const shares = Object.entries(empty).map(([name, share]) => `${name.toLowerCase()} ${percent(share)}`);
  const lines: [string, string][] = [
    ['outcomes', added(({ now }) => now.codes).join('  ') || 'no calls'],
    ['reasons', added(({ now }) => now.reasons).join('  ') || 'no call failed'],
    ['fetches', added(({ now }) => now.fetches).join('  ') || 'none'],
    ['stock', stocks.join('  ')],
    ['users empty', shares.join('  ')],
    ['versions', `aqm ${service}  Node ${node}  PostgreSQL ${postgres ?? 'unknown'}`],
    ['10 minutes', `calls/s ${sparkline(first.history.callsPerSecond)}  p99 ${sparkline(first.history.p99Ms)}`],
  ];
  return lines.map(([name, text]) => clean(`${name.padEnd(12)}${text}`).slice(0, width));
}

const BARS = '▁▂▃▄▅▆▇█';
const BAR_COUNT = 30;

/** Draws the last values, each bar the highest of its part, scaled to the highest of all. */
function sparkline(values: readonly (number | null)[]): string {
  const step = Math.max(1, Math.ceil(values.length / BAR_COUNT));
  const parts = Array.from({ length: Math.ceil(values.length / step) }, (_, index) =>
    Math.max(0, ...values.slice(index * step, (index + 1) * step).map((value) => value ?? 0)),
  );
  const highest = Math.max(...parts, 0);
  const drawn = parts.map((value) => BARS[highest > 0 ? Math.round((value / highest) * (BARS.length - 1)) : 0]);
  return drawn.length > 0 ? `${drawn.join('')} max ${number(highest)}` : 'no samples yet';
}

function number(value: number | null): string {
  if (value === null) return '-';
  return !Number.isInteger(value) && Math.abs(value) < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en');
}

function percent(share: number | null): string {
  return share === null ? '-' : `${Math.round(100 * share)} %`;
}

function duration(seconds: number): string {
  if (seconds < 0) return 'EXPIRED';
  if (seconds < 120) return `${Math.round(seconds)}s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`;
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** The texts are from the network: control characters could change the terminal. */
function clean(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
