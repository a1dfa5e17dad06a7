import { BATCH_USAGE, batchOf, runCommand } from '../service/command';
import { positive } from '../service/numbers';
import { churn } from './churn';
import { growth } from './growth';

const USAGE = `Usage: npm run bench -- scale [--only growth|churn] [--coins 10000000] [--mix 5,15,80] [--blocks 20] [--block-ms 400]
                            [--days 365] [--day-ms 500] [--daily 2000] ${BATCH_USAGE} [--out docs/performance]
  growth: p50 and p99 of a fetch from 10,000 to so many coins (shares of GOLD, SILVER, BRONZE in percent), at each size by turns with a
  service that has 10,000. With a --mix of more GOLD it no longer fits in memory (10 million coins of 40,30,30 are some 25 GB).
  churn: a year in fast motion: a day takes half a second, and in each so many coins are uploaded, most of them fetched, and the
  rest purged, all hard-deleted and forgotten when it is time; sizes of tables and indexes; then a fetch by turns with a fresh one.`;

const DEFAULTS = {
  only: '',
  coins: '10000000',
  mix: '5,15,80',
  blocks: '20',
  'block-ms': '400',
  days: '365',
  'day-ms': '500',
  daily: '2000',
  batch: '',
};

runCommand(USAGE, DEFAULTS, async (options) => {
  const blocks = {
    blocks: positive('blocks', options.blocks),
    blockMs: positive('block-ms', options['block-ms']),
    service: batchOf(options.batch),
  };
  const mix = options.mix.split(',').map(Number);
  if (mix.length !== 3 || !mix.every((share) => share >= 0) || !mix[2]) {
    throw new Error(`--mix must be three shares in percent, of which BRONZE has some; it is "${options.mix}"`);
  }
  const parts = [];
  if (options.only !== 'churn') parts.push(await growth({ coins: positive('coins', options.coins), mix, ...blocks }));
  if (options.only !== 'growth') {
    const [days, dayMs] = [positive('days', options.days), positive('day-ms', options['day-ms'])];
    parts.push(await churn({ days, dayMs, daily: positive('daily', options.daily), ...blocks }));
  }
  return parts;
});
