import type { BackendResult } from './report';

const PLOTTED = ['vault.storeKey', 'vault.fetchKey', 'vault.burnKey', 'inventory.selectCoin'];
const COLOURS = ['#1b6ca8', '#d1495b', '#3a7d44', '#8d5a97'];
const PANEL = { width: 340, height: 240, left: 56, top: 48, gap: 40 };
/** The lower limit of the logarithmic vertical axis, in milliseconds. */
const LOW = 0.01;
const HIGH = 10;

/** Draws p50 (solid) and p99 (dashed) of the four hot operations over the number of coins, one panel per backend. */
export function plot(results: readonly BackendResult[]): string {
  const width = PANEL.left + results.length * (PANEL.width + PANEL.gap);
  const height = PANEL.top + PANEL.height + 70;
  const panels = results.map((result, index) => panel(result, PANEL.left + index * (PANEL.width + PANEL.gap)));
  const legend = PLOTTED.map(
    (name, index) =>
      `<rect x="${PANEL.left + index * 170}" y="${height - 22}" width="12" height="12" fill="${COLOURS[index]}"/>` +
      text(PANEL.left + index * 170 + 18, height - 12, name, 'start'),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="#fff"/>
${text(PANEL.left, 18, 'Duration in ms over stored coins: p50 solid, p99 dashed, 5 ms in grey', 'start')}
${panels.join('\n')}
${legend.join('\n')}
</svg>
`;
}

function panel({ backend, sizes }: BackendResult, left: number): string {
  const logs = sizes.map(({ coins }) => Math.log10(coins));
  const [first = 0, last = 1] = [Math.min(...logs), Math.max(...logs)];
  const x = (coins: number) => left + ((Math.log10(coins) - first) / (last - first || 1)) * PANEL.width;
  const y = (ms: number) => {
    const share = Math.log10(Math.min(HIGH, Math.max(LOW, ms)) / LOW) / Math.log10(HIGH / LOW);
    return PANEL.top + PANEL.height * (1 - share);
  };
  const line = (values: readonly (readonly [number, number])[], style: string) =>
    `<polyline fill="none" ${style} points="${values.map(([coins, ms]) => `${x(coins).toFixed(1)},${y(ms).toFixed(1)}`).join(' ')}"/>`;
  const grid = [0.01, 0.1, 1, 10].map(
    (ms) =>
      line(
        [
          [sizes[0]?.coins ?? 1, ms],
          [sizes.at(-1)?.coins ?? 1, ms],
        ],
        'stroke="#ddd"',
      ) + text(left - 6, y(ms) + 4, String(ms), 'end'),
  );
  const limit = line(
    [
      [sizes[0]?.coins ?? 1, 5],
      [sizes.at(-1)?.coins ?? 1, 5],
    ],
    'stroke="#888" stroke-width="2"',
  );
  const ticks = sizes.map(({ coins }) => text(x(coins), PANEL.top + PANEL.height + 18, String(coins), 'middle'));
  const curves = PLOTTED.flatMap((name, index) =>
    (['p50', 'p99'] as const).map((percentile) =>
      line(
        sizes.map(({ coins, operations }) => [coins, operations[name]?.[percentile] ?? LOW] as const),
        `stroke="${COLOURS[index]}" stroke-width="2" ${percentile === 'p99' ? 'stroke-dasharray="5 4"' : ''}`,
      ),
    ),
  );
  return [text(left, PANEL.top - 10, backend, 'start'), ...grid, limit, ...ticks, ...curves].join('\n');
}

function text(x: number, y: number, content: string, anchor: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${content}</text>`;
}
