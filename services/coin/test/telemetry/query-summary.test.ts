import { summaryOf } from '../../telemetry/query-summary';

test.each([
  ['SQL', 'WITH gone AS (DELETE FROM coin_stock s RETURNING s.key_id) SELECT FROM coin c JOIN gone USING (key_id)'],
  [
    'the query builder',
    'with "gone" as (delete from "coin_stock" as "s" returning "key_id") select from "coin" as "c"',
  ],
])('a statement of %s is summarised by its operations and tables', (_author, text) => {
  expect(summaryOf(text)).toEqual({ summary: 'DELETE coin_stock SELECT coin', operation: 'DELETE' });
});
