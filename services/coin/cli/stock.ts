import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { type StockSummary, summarizeStock } from '../store/stock-summary';
import { isUuid } from '../uuid';
import { UsageError } from './arguments';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';
import { WHICH_DATABASE, withDatabase } from './with-database';

export const command: Command = {
  words: [{ name: 'user' }],
  options: JSON_OPTION,
  details: `For each category: coins in stock, in stock but past handing out, fetched within AQM_FETCH_GRACE (a repeat gets them again),
spent (fetched before that, or retired), and the oldest upload of what is in stock. No key bytes are read. A user that nobody
knows has none of all this.

${WHICH_DATABASE} Give AQM_FETCH_GRACE as the services have it.`,
  run(args) {
    const user = (args.word(0) ?? '').toLowerCase();
    if (!isUuid(user)) throw new UsageError(`"${user}" is not a UUID`);
    return withDatabase(async (db, { fetchGraceSeconds: graceSeconds }) => {
      const categories = COIN_CATEGORIES.map(({ category }) => category);
      const summaries = await summarizeStock(db, user, { categories, graceSeconds });
      const stock = summaries.map(({ coinCategory: category, ...counts }) => ({
        coinCategory: nameOf(category),
        ...counts,
      }));
      print(args, { user, stock }, [`user: ${user}`, ...toTable(summaries)]);
      return EXIT.OK;
    });
  },
};

function nameOf(category: StockSummary['coinCategory']): string {
  return COIN_CATEGORIES.find((spec) => spec.category === category)?.name ?? String(category);
}

const COLUMNS = ['category', 'in stock', 'past handing out', 'fetched', 'spent', 'oldest upload'];

function toTable(summaries: readonly StockSummary[]): string[] {
  const cells = summaries.map(({ coinCategory, inStock, pastHandingOut, fetched, spent, oldestUpload }) => [
    nameOf(coinCategory),
    ...[inStock, pastHandingOut, fetched, spent].map(String),
    oldestUpload?.toISOString() ?? '-',
  ]);
  return [COLUMNS, ...cells].map((row) =>
    row
      .map((cell, column) => cell.padEnd(COLUMNS[column]?.length ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
