import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { type StockSummary, summarizeStock } from '../store/stock-summary';
import { isUuid } from '../uuid';
import { type CommandDefinition, type JsonOption, jsonOption, print } from './command';
import { EXIT } from './exit-codes';
import { UsageError } from './usage-error';
import { WHICH_DATABASE, withDatabase } from './with-database';

export const command: CommandDefinition = {
  define: (command) => command.argument('<user>', "the user's UUID").addOption(jsonOption()),
  details: `Prints for each category the number of coins in stock, in stock but too close to their expiry to be
handed out, fetched within the fetch grace (a repeated fetch returns them again), and spent (fetched
before that, or retired), and the oldest upload in stock. Reads no key bytes. An unknown user has none.

${WHICH_DATABASE}`,
  run(options: JsonOption, word: string) {
    const user = word.toLowerCase();
    if (!isUuid(user)) throw new UsageError(`"${word}" is not a UUID`);
    return withDatabase(async (db, { fetchGraceSeconds: graceSeconds }) => {
      const categories = COIN_CATEGORIES.map(({ category }) => category);
      const summaries = await summarizeStock(db, user, { categories, graceSeconds });
      const stock = summaries.map(({ coinCategory: category, ...counts }) => ({
        coinCategory: nameOf(category),
        ...counts,
      }));
      print(options, { user, stock }, [`user: ${user}`, ...toTable(summaries)]);
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
