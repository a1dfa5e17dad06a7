import { parseSync } from '@swc/core';

/** An expression that becomes part of a statement's text instead of a bound parameter. */
export interface Spliced {
  readonly line: number;
  /** The expression as written in the source. */
  readonly expression: string;
}

interface Node {
  readonly type: string;
  readonly span: { readonly start: number; readonly end: number };
  readonly [name: string]: unknown;
}

/** The methods of pg, better-sqlite3 and our own connections whose first argument is SQL. */
const TAKE_SQL = new Set(['query', 'prepare', 'exec', 'pragma']);
/**
 * The methods with which Kysely takes a value as text, or (`sql.table` and the like) a name, which
 * it quotes.
 */
const SPLICE = new Set(['raw', 'lit', 'literal', 'ref', 'table', 'id']);
/** Matches our statements and parts of statements. */
const SQL =
  /^\s*(SELECT|WITH|INSERT|UPDATE|DELETE|ALTER|CREATE|DROP|TRUNCATE|PRAGMA|VACUUM|SET|LOCK|COPY)\b|\b(FROM|WHERE|VALUES|ORDER BY|LIMIT|interval) /;

/**
 * Returns every expression of a TypeScript source that becomes SQL text: in a template or a sum
 * that looks like SQL and is not Kysely's sql`…`, which binds its values; as a statement passed to
 * a driver; or as the argument of sql.raw and the like.
 */
export function splicedInto(source: string): Spliced[] {
  // Spans count the bytes of all sources that were ever parsed. The statement in front shows where
  // this one begins.
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
  // The query builder binds its values, except `eb.lit(…)`; its names are checked by the compiler, except `db.dynamic`.
  const splices = method === 'lit' || (SPLICE.has(method) && ['sql', 'CompiledQuery', 'dynamic'].includes(owner));
  if (!takesSql && !splices) return;
  const text: unknown = given[0]?.expression;
  if (!isNode(text) || isText(text)) return;
  // The parts of a template are more precise than the whole.
  if (text.type === 'TemplateLiteral') expressionsOf(text).forEach(note);
  else note(text);
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'span' in value;
}

/** Returns the name of an identifier, or of the last property of a member expression. */
function nameOf(node: unknown): string {
  if (!isNode(node)) return '';
  if (node.type === 'MemberExpression') return nameOf(node.property);
  return typeof node.value === 'string' ? node.value : '';
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

/** Returns true for a literal without expressions. */
function isText(node: Node): boolean {
  return isLiteral(node) && expressionsOf(node).length === 0;
}

/** Returns the fixed text of a literal, with spaces for its expressions. */
function textOf(node: Node): string {
  if (node.type === 'StringLiteral') return String(node.value);
  const quasis = Array.isArray(node.quasis) ? node.quasis : [];
  return quasis.map(({ raw }: { readonly raw: string }) => raw).join(' ');
}

function expressionsOf({ type, template, expressions }: Node): Node[] {
  if (type === 'TaggedTemplateExpression') return isNode(template) ? expressionsOf(template) : [];
  return Array.isArray(expressions) ? expressions.filter(isNode) : [];
}
