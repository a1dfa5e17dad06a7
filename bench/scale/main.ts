import { BATCH_USAGE, batchOf, runCommand } from '../harness/command';
import { positive } from '../harness/numbers';
import { churn } from './churn';
import { growth } from './growth';

const USAGE = `Usage: npm run bench -- scale [--only growth|churn] [--coins 10000000] [--mix 5,15,80] [--blocks 20]
                              [--block-ms 400] [--days 365] [--day-ms 500] [--daily 2000]
                              ${BATCH_USAGE} [--out docs/performance]

  Measures whether fetches slow down and tables grow with size and age. growth: latency from 10,000
  to --coins coins (--mix: shares of GOLD, SILVER, BRONZE in percent), at each size interleaved with
  a service that has 10,000. With more GOLD the tables no longer fit in memory (10 million coins of
  40,30,30 are some 25 GB). Each service is measured in --blocks blocks of --block-ms ms. churn:
  --days days in fast motion, each of which takes at least --day-ms; --daily coins are uploaded,
  fetched, purged, hard-deleted and forgotten; then latency, interleaved with a fresh service of the
  same size. Read the ratios: fetches should take at most 1.3 times as long, tables should stop
  growing, every fetch should get a coin. Exit code 1: a requirement is not met.`;

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
    throw new Error(`--mix must be three shares in percent with more than 0 for BRONZE; it is "${options.mix}"`);
  }
  const parts = [];
  if (options.only !== 'churn') parts.push(await growth({ coins: positive('coins', options.coins), mix, ...blocks }));
  if (options.only !== 'growth') {
    const [days, dayMs] = [positive('days', options.days), positive('day-ms', options['day-ms'])];
    parts.push(await churn({ days, dayMs, daily: positive('daily', options.daily), ...blocks }));
  }
  return parts;
});
