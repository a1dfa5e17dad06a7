/**
 * Summary of an SQL statement, as defined by the OpenTelemetry semantic conventions for databases.
 */
export interface QuerySummary {
  /**
   * Operations and tables in order of appearance, such as `DELETE coin_stock INSERT coin_fetch
   * SELECT coin`.
   */
  readonly summary: string;
  /** The first operation that changes data, else SELECT. */
  readonly operation: string;
}

/**
 * Never evicted: there are only as many texts as statements in the source, times a few variants.
 */
const summaries = new Map<string, QuerySummary>();

/** Matches SQL templates, and what the query builder writes: key words in lower case, names in quotes. */
const NAMED_TABLE = /\b(INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN)\s+"?((?:coin|database)(?:_\w+)?)\b/gi;

/**
 * Summarizes one of our statements. It relies on our naming: every table name begins with `coin` or
 * `database`, and no name of a WITH query does.
 */
export function summaryOf(text: string): QuerySummary {
  let found = summaries.get(text);
  if (!found) {
    found = summarize(text);
    summaries.set(text, found);
  }
  return found;
}

function summarize(text: string): QuerySummary {
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
