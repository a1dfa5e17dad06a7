/** What a statement does, in the words of the semantic conventions for databases. */
export interface QuerySummary {
  /** Operations and tables in their order, such as `DELETE coin_stock INSERT coin_fetch SELECT coin`. */
  readonly summary: string;
  /** The first that changes something, else SELECT. */
  readonly operation: string;
}

/** There are as many texts as there are statements in the source, times a few variants. */
const known = new Map<string, QuerySummary>();

/** Matches SQL templates, and what the query builder writes: key words in lower case, names in quotes. */
const NAMED_TABLE = /\b(INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN)\s+"?((?:coin|database)(?:_\w+)?)\b/gi;

/** Reads a statement of ours: every table's name begins with `coin` or `database`, and no name of a WITH query does. */
export function summaryOf(text: string): QuerySummary {
  let found = known.get(text);
  if (!found) {
    found = summarise(text);
    known.set(text, found);
  }
  return found;
}

function summarise(text: string): QuerySummary {
  const parts = new Set<string>();
  const operations: string[] = [];
  for (const [, words = '', table = ''] of text.matchAll(NAMED_TABLE)) {
    const [first = ''] = words.toUpperCase().split(' ');
    const operation = first === 'FROM' || first === 'JOIN' ? 'SELECT' : first;
    operations.push(operation);
    parts.add(`${operation} ${table}`);
  }
  return {
    summary: [...parts].join(' ') || 'SELECT',
    operation: operations.find((name) => name !== 'SELECT') ?? 'SELECT',
  };
}
