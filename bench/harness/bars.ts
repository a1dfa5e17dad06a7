const WIDTH = 900;
const LEFT = 190;
const ROW = 30;

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** The lowest and highest value of any round. */
  readonly from: number;
  readonly to: number;
}

/** Draws an SVG bar chart: one horizontal bar per row, with the range of its rounds as a line on top. */
export function bars(title: string, rows: readonly Bar[], unit: string): string {
  const most = Math.max(...rows.map(({ to }) => to), 1);
  const x = (value: number) => (LEFT + (value / most) * (WIDTH - LEFT - 130)).toFixed(1);
  const height = 50 + rows.length * ROW;
  const drawn = rows.flatMap(({ name, value, from, to }, index) => {
    const y = 36 + index * ROW;
    return [
      `<rect x="${LEFT}" y="${y}" width="${(Number(x(value)) - LEFT).toFixed(1)}" height="20" fill="#1b6ca8"/>`,
      `<line x1="${x(from)}" x2="${x(to)}" y1="${y + 10}" y2="${y + 10}" stroke="#e09f3e" stroke-width="3"/>`,
      `<text x="${LEFT - 8}" y="${y + 15}" text-anchor="end">${name}</text>`,
      `<text x="${Number(x(to)) + 8}" y="${y + 15}">${value.toFixed(0)}${unit}</text>`,
    ];
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
<text x="10" y="20">${title}</text>
${drawn.join('\n')}
</svg>
`;
}
