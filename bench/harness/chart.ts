const WIDTH = 900;
const HEIGHT = 340;
const FRAME = { left: 70, top: 44, width: 800, height: 240 };
const COLOURS = ['#1b6ca8', '#3a7d44', '#d1495b', '#e09f3e', '#6a4c93', '#555555'];

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly isDashed?: boolean;
  /** An index into COLOURS. Default: the position of the line. */
  readonly colour?: number;
}

export interface ChartOptions {
  readonly title: string;
  readonly x: string;
  readonly isLogX?: boolean;
  readonly isLogY?: boolean;
  /** A limit, drawn as a dotted horizontal line. */
  readonly limit?: number;
}

/** Draws an SVG line chart with one x axis and one y axis. */
export function chart(
  { title, x: xName, isLogX = false, isLogY = false, limit }: ChartOptions,
  lines: readonly Line[],
): string {
  const points = lines.flatMap((line) => line.points);
  const xs = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b);
  const ys = [...points.map(([, y]) => y), ...(limit === undefined ? [] : [limit])];
  const x = scale([xs[0] ?? 0, xs.at(-1) ?? 1], isLogX, FRAME.left, FRAME.width);
  const least = isLogY ? Math.min(...ys.filter((y) => y > 0)) : 0;
  const y = scale([least, Math.max(...ys, least)], isLogY, FRAME.top + FRAME.height, -FRAME.height);
  const path = (line: Line, index: number) =>
    `<polyline fill="none" stroke-width="2" stroke="${colour(line, index)}"${line.isDashed ? ' stroke-dasharray="5 4"' : ''} points="${line.points
      .map(([px, py]) => `${x(px).toFixed(1)},${y(Math.max(py, least)).toFixed(1)}`)
      .join(' ')}"/>`;
  const ticks = spread(xs, 9).map((value) => text(x(value), FRAME.top + FRAME.height + 18, short(value), 'middle'));
  const grid = ticksOf(least, Math.max(...ys, least), isLogY).flatMap((value) => [
    `<line x1="${FRAME.left}" x2="${FRAME.left + FRAME.width}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="#ddd"/>`,
    text(FRAME.left - 6, y(value) + 4, short(value), 'end'),
  ]);
  const bound =
    limit === undefined
      ? []
      : [
          `<line x1="${FRAME.left}" x2="${FRAME.left + FRAME.width}" y1="${y(limit).toFixed(1)}" y2="${y(limit).toFixed(1)}" stroke="#888" stroke-dasharray="2 3"/>`,
        ];
  const legend = lines.map(
    (line, index) =>
      `<text x="${FRAME.left + index * (FRAME.width / lines.length)}" y="34" fill="${colour(line, index)}">${line.name}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${[text(10, 16, title, 'start'), ...legend, ...grid, ...ticks, text(FRAME.left + FRAME.width / 2, HEIGHT - 12, xName, 'middle'), ...bound, ...lines.map(path)].join('\n')}
</svg>
`;
}

function colour(line: Line, index: number): string {
  return COLOURS[(line.colour ?? index) % COLOURS.length] ?? '';
}

function scale([from, to]: readonly [number, number], isLog: boolean, start: number, length: number) {
  const place = isLog ? Math.log10 : (value: number) => value;
  const span = place(to) - place(from) || 1;
  return (value: number) => start + ((place(value) - place(from)) / span) * length;
}

function ticksOf(from: number, to: number, isLog: boolean): number[] {
  if (!isLog) return [0, 1, 2, 3, 4].map((step) => from + ((to - from) * step) / 4);
  const first = Math.ceil(Math.log10(from));
  return Array.from({ length: Math.max(0, Math.floor(Math.log10(to)) - first + 1) }, (_, step) => 10 ** (first + step));
}

/** Returns at most `max` of the values, at even distances. */
function spread(values: readonly number[], max: number): number[] {
  const step = Math.ceil(values.length / max);
  return values.filter((_, index) => index % step === 0);
}

function short(value: number): string {
  return value >= 10_000 ? value.toLocaleString('en') : String(Math.round(value * 100) / 100);
}

function text(x: number, y: number, content: string, anchor: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${content}</text>`;
}
