import { styleText } from 'node:util';
import type { Fact, Step, StoryEvent, Table, View } from './journal';

/** The output of the view, for example process.stdout. */
export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

type Style = 'bold' | 'dim' | 'green' | 'red';

const MAX_WIDTH = 100;
const INDENT = '    ';

/** Prints the story while it runs. It uses colours on a terminal only, and not if NO_COLOR is set. */
export class TerminalView implements View {
  readonly #terminal: Terminal;
  readonly #colours: boolean;
  readonly #width: number;

  constructor(terminal: Terminal, env: { readonly NO_COLOR?: string } = process.env) {
    this.#terminal = terminal;
    this.#colours = terminal.isTTY === true && !env.NO_COLOR;
    // A terminal of unknown width reports 0.
    this.#width = Math.min(terminal.columns || MAX_WIDTH, MAX_WIDTH);
  }

  begin(title: string): void {
    this.#line(this.#style('bold', title));
  }

  stepStarted({ number, title, explanation }: Step): void {
    this.#line('');
    this.#line(this.#style('bold', `${String(number).padStart(2)}  ${title}`));
    this.#paragraph(INDENT, INDENT, explanation, 'dim');
  }

  happened(event: StoryEvent): void {
    if (event.type === 'note') this.#paragraph(`${INDENT}· `, `${INDENT}  `, event.text);
    else if (event.type === 'table') this.#table(event);
    else if (event.ok) this.#paragraph(`${INDENT}${this.#style('green', '✓')} `, `${INDENT}  `, event.claim);
    else {
      this.#paragraph(`${INDENT}${this.#style('red', '✗')} `, `${INDENT}  `, event.claim, 'red');
      this.#line(`${INDENT}  expected ${plain(event.expected)}`);
      this.#line(`${INDENT}  found    ${plain(event.found)}`);
    }
  }

  stepEnded(_step: Step): void {}

  /** Prints the verdict at the end. */
  end(ok: boolean, text: string): void {
    this.#line('');
    this.#line(this.#style(ok ? 'green' : 'red', text));
  }

  #table({ columns, rows }: Table): void {
    const nameWidth = Math.max(...rows.map(([name]) => name.length));
    const format = (name: string, cells: readonly (string | number)[]) =>
      `${INDENT}  ${name.padEnd(nameWidth)}${cells.map((cell) => String(cell).padStart(9)).join('')}`;
    this.#line(this.#style('dim', format('', columns)));
    for (const [name, ...cells] of rows) this.#line(format(name, cells));
  }

  #paragraph(first: string, others: string, text: string, style?: Style): void {
    const lines = wrap(text, this.#width - others.length);
    for (const [index, line] of lines.entries()) {
      this.#line(`${index === 0 ? first : others}${style ? this.#style(style, line) : line}`);
    }
  }

  #style(style: Style, text: string): string {
    // validateStream is off because the constructor decides about colours.
    return this.#colours ? styleText(style, text, { validateStream: false }) : text;
  }

  #line(text: string): void {
    this.#terminal.write(`${text}\n`);
  }
}

function plain(fact: Fact): string {
  return typeof fact === 'string' ? fact : JSON.stringify(fact);
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}
