import { CompiledQuery } from 'kysely';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { UNNAMED_DEVICE } from '../../services/coin/coin';
import { readConfig } from '../../services/coin/config';
import { openPostgres } from '../../services/coin/database/open';
import type { Database } from '../../services/coin/database/pool';
import type { Guard } from '../../services/coin/fence/guard';
import { openTokenKeys } from '../../services/coin/identity/token-keys';
import { verifyWith } from '../../services/coin/identity/verify-token';
import { openLimits } from '../../services/coin/limits/open-limits';
import { createLogger } from '../../services/coin/logger';
import { CoinServer } from '../../services/coin/server';
import type { CoinFetch, FetchAnswer } from '../../services/coin/store/claim/fetch-coins';
import { CoinInventoryServer } from '../../services/coin/store/coin-inventory-server';
import { usualClaim } from './plain';

interface CoinRow {
  readonly key_id: string;
  readonly coin_category: CoinCategory;
  readonly public_key: Buffer;
  readonly signature: Buffer;
  readonly expire_time: Date;
}

/** A guard that admits every statement and records nothing. */
const NO_GATE: Guard = {
  run: async (statement) => (await statement({ incarnation: '', activation: '' })) as never,
  runSpending: async (statement) => (await statement({ incarnation: '', activation: '' })) as never,
  recordHandedOut: async () => {},
  recordRepeat: async () => {},
  recordDeletions: async () => {},
};

/** Fetches with the plain claim: no repeats, no memory of spent ids, no fence, no recheck of short answers. */
class PlainStore extends CoinInventoryServer {
  readonly #plain: Database;

  constructor(db: Database, rules: { fetchGraceSeconds: number; stockLimit: number }) {
    super(db, NO_GATE, rules);
    this.#plain = db;
  }

  override async fetchOne(requesterId: string, { targetUserId, coinCategory, count }: CoinFetch): Promise<FetchAnswer> {
    const values = [targetUserId, coinCategory, requesterId];
    const { rows } = await this.#plain.executeQuery<CoinRow>(CompiledQuery.raw(usualClaim(count), values));
    const coins = rows.map((row) => ({
      keyId: row.key_id,
      coinCategory: row.coin_category,
      publicKey: row.public_key,
      signature: row.signature,
      expireTime: row.expire_time,
      deviceId: UNNAMED_DEVICE,
    }));
    return { coins, isRepeat: false };
  }
}

/** Starts the coin service like main.ts, but with the plain store and without the restore fence. */
async function main(): Promise<void> {
  const config = readConfig(process.env);
  const logger = createLogger(config.logLevel);
  const now = () => new Date();
  const postgres = await openPostgres(config, logger);
  const server = new CoinServer({
    store: new PlainStore(postgres.db, config),
    limits: openLimits(config, logger),
    verifyToken: verifyWith(openTokenKeys(config, now, logger), config.tokenRules, now),
    logger,
    now,
    maxCalls: config.maxCalls,
    maxWaitMs: config.maxWaitMs,
    waiting: postgres.waiting,
    connections: config.connections,
    hasReflection: config.hasReflection,
  });
  const address = await server.listen(config.host, config.port);
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address, pid: process.pid })}\n`);
  process.once('SIGTERM', () => process.exit(0));
}

void main();
