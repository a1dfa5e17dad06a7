import type { OverloadResult, Phase, Second } from './report';

const WIDTH = 900;
const PANEL = { left: 60, width: 820, height: 150 };
const TOPS = { calls: 40, p99: 250 };

/**
 * Draws answered and rejected calls per second, and the p99 of the answered ones, before, during and after the
 * overload.
 */
export function plot({ capacity, before, overload, after }: OverloadResult): string {
  const phases: readonly Phase[] = [before, overload, after];
  const seconds = phases.flatMap((phase) => phase.seconds);
  const maxCalls = Math.max(...seconds.map(({ answered, rejected, other }) => answered + rejected + other), capacity);
  const maxMs = Math.max(...seconds.map(({ p99 }) => p99), 1);
  const x = (second: number) => PANEL.left + (second / seconds.length) * PANEL.width;
  const line = (top: number, max: number, value: (second: Second) => number, style: string) => {
    const points = seconds.map(
      (second, index) => `${x(index + 0.5).toFixed(1)},${(top + PANEL.height * (1 - value(second) / max)).toFixed(1)}`,
    );
    return `<polyline fill="none" stroke-width="2" ${style} points="${points.join(' ')}"/>`;
  };
  const begin = before.seconds.length;
  const end = begin + overload.seconds.length;
  const atCapacity = TOPS.calls + PANEL.height * (1 - capacity / maxCalls);
  const frame = (top: number, max: number, unit: string) => [
    `<rect x="${x(begin).toFixed(1)}" y="${top}" width="${(x(end) - x(begin)).toFixed(1)}" height="${PANEL.height}" fill="#f4ece0"/>`,
    `<line x1="${PANEL.left}" x2="${PANEL.left + PANEL.width}" y1="${top + PANEL.height}" y2="${top + PANEL.height}" stroke="#888"/>`,
    text(PANEL.left - 6, top + 4, `${max.toFixed(0)}${unit}`, 'end'),
    text(PANEL.left - 6, top + PANEL.height + 4, '0', 'end'),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} 450" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="450" fill="#fff"/>
${[
  text(PANEL.left, 20, 'Calls per second: answered in green, rejected in red, capacity dashed', 'start'),
  ...frame(TOPS.calls, maxCalls, '/s'),
  line(TOPS.calls, maxCalls, ({ rejected }) => rejected, 'stroke="#d1495b"'),
  line(TOPS.calls, maxCalls, ({ answered }) => answered, 'stroke="#3a7d44"'),
  `<line x1="${PANEL.left}" x2="${PANEL.left + PANEL.width}" y1="${atCapacity.toFixed(1)}" y2="${atCapacity.toFixed(1)}" stroke="#888" stroke-dasharray="5 4"/>`,
  text(PANEL.left, TOPS.p99 - 18, 'p99 of the answered calls, in ms', 'start'),
  ...frame(TOPS.p99, maxMs, ''),
  line(TOPS.p99, maxMs, ({ p99 }) => p99, 'stroke="#1b6ca8"'),
  text(x(begin), TOPS.p99 + PANEL.height + 20, `${begin} s`, 'middle'),
  text(x(end), TOPS.p99 + PANEL.height + 20, `${end} s`, 'middle'),
].join('\n')}
</svg>
`;
}

function text(x: number, y: number, content: string, anchor: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${content}</text>`;
}
