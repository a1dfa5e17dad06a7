import { parseSync } from '@swc/core';

/** Something that becomes part of a statement's text instead of a bound parameter. */
export interface Spliced {
  readonly line: number;
  /** As the source has it. */
  readonly expression: string;
}

interface Node {
  readonly type: string;
  readonly span: { readonly start: number; readonly end: number };
  readonly [name: string]: unknown;
}

/** Methods of pg, better-sqlite3 and of our own connections whose first argument is SQL. */
const TAKE_SQL = new Set(['query', 'prepare', 'exec', 'pragma']);
/** What Kysely takes as text: values, and with `sql.table` and the like names, which it quotes. */
const SPLICE = new Set(['raw', 'lit', 'literal', 'ref', 'table', 'id']);
/** How our statements and parts of statements look. */
const SQL =
  /^\s*(SELECT|WITH|INSERT|UPDATE|DELETE|ALTER|CREATE|DROP|TRUNCATE|PRAGMA|VACUUM|SET|LOCK|COPY)\b|\b(FROM|WHERE|VALUES|ORDER BY|LIMIT|interval) /;

/**
 * Every expression of a TypeScript source that becomes text of SQL: in a template or a sum that looks like SQL and is not
 * Kysely's sql`…`, which binds its values; given as a statement to a driver; or given to sql.raw and its like.
 */
export function splicedInto(source: string): Spliced[] {
  // Spans are bytes of everything that was ever parsed; the statement in front tells where this source begins.
  const bytes = Buffer.from(`0;${source.replace(/^#!/, '//')}`);
  const { body } = parseSync(bytes.toString(), { syntax: 'typescript' });
  const base = body[0]?.span.start ?? 0;
  const found = new Map<string, Spliced>();
  const note = ({ span }: Node): void => {
    const expression = bytes.subarray(span.start - base, span.end - base).toString();
    const line = bytes
      .subarray(0, span.start - base)
      .toString()
      .split('\n').length;
    found.set(`${span.start} ${span.end}`, { line, expression });
  };
  for (const statement of body) visit(statement, note);
  return [...found.values()];
}

function visit(value: unknown, note: (node: Node) => void): void {
  if (typeof value !== 'object' || value === null) return;
  if (isNode(value)) {
    if (value.type === 'TemplateLiteral' && SQL.test(textOf(value))) expressionsOf(value).forEach(note);
    if (value.type === 'BinaryExpression' && value.operator === '+') noteSum(value, note);
    if (value.type === 'CallExpression') noteArgument(value, note);
    if (value.type === 'TaggedTemplateExpression' && nameOf(value.tag) === 'sql') {
      for (const bound of expressionsOf(value)) visit(bound, note);
      return;
    }
  }
  for (const part of Object.values(value)) visit(part, note);
}

function noteSum({ left, right }: Node, note: (node: Node) => void): void {
  const sides = [left, right].filter(isNode);
  if (!sides.some((side) => isLiteral(side) && SQL.test(textOf(side)))) return;
  for (const side of sides) if (!isText(side)) note(side);
}

function noteArgument({ callee, arguments: given }: Node, note: (node: Node) => void): void {
  if (!isNode(callee) || callee.type !== 'MemberExpression' || !Array.isArray(given)) return;
  const method = nameOf(callee.property);
  const owner = nameOf(callee.object);
  const takesSql = TAKE_SQL.has(method) && !isRegExp(callee.object);
  if (!takesSql && !(SPLICE.has(method) && ['sql', 'CompiledQuery'].includes(owner))) return;
  const text: unknown = given[0]?.expression;
  if (!isNode(text) || isText(text)) return;
  // Its parts say more than the whole.
  if (text.type === 'TemplateLiteral') expressionsOf(text).forEach(note);
  else note(text);
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'span' in value;
}

function nameOf(node: unknown): string {
  return isNode(node) && typeof node.value === 'string' ? node.value : '';
}

function isRegExp(node: unknown): boolean {
  return (
    isNode(node) &&
    (node.type === 'RegExpLiteral' || (node.type === 'NewExpression' && nameOf(node.callee) === 'RegExp'))
  );
}

function isLiteral({ type }: Node): boolean {
  return type === 'StringLiteral' || type === 'TemplateLiteral';
}

/** A literal, with nothing put in. */
function isText(node: Node): boolean {
  return isLiteral(node) && expressionsOf(node).length === 0;
}

/** The fixed text of a literal; its gaps are spaces. */
function textOf(node: Node): string {
  if (node.type === 'StringLiteral') return String(node.value);
  const quasis = Array.isArray(node.quasis) ? node.quasis : [];
  return quasis.map(({ raw }: { readonly raw: string }) => raw).join(' ');
}

function expressionsOf({ type, template, expressions }: Node): Node[] {
  if (type === 'TaggedTemplateExpression') return isNode(template) ? expressionsOf(template) : [];
  return Array.isArray(expressions) ? expressions.filter(isNode) : [];
}
