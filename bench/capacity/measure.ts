import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import { CoinAdminServiceClient } from '../../gen/aqm/coin/v1/coin_admin_service';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { CoinServiceClient, FetchCoinsRequest, UploadCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { call } from '../../testkit/call';
import { mint } from '../../testkit/coins';
import { TestBed } from '../harness/test-bed';
import type { Costs } from './model';

const USERS = 20;
const UPLOADS_PER_USER = 10;
const BATCH = 100;
const FETCHES = 2000;
/** No checkpoint and no full-page writes, so that only the WAL of the statements themselves is measured. */
const POSTGRES = ['full_page_writes=off', 'checkpoint_timeout=1h', 'max_wal_size=8GB', 'autovacuum=off'];

/** Measures bytes on disk and in the WAL for coins that a real service stores and hands out. */
export async function measureCosts(): Promise<Pick<Costs, 'coinBytes' | 'recordBytes' | 'fetchWal' | 'uploadWal'>> {
  const env = { AQM_LOG_LEVEL: 'error', AQM_STOCK_LIMIT: '100000', AQM_CLAIM_BATCH: '1' };
  const testBed = await TestBed.open({ postgresSettings: POSTGRES, env, targets: USERS, coinsPerTarget: 0 });
  const client = new CoinServiceClient(testBed.service.address, credentials.createInsecure());
  const admin = new CoinAdminServiceClient(testBed.service.address, credentials.createInsecure());
  try {
    const log = async () => {
      const [row] = await testBed.query<{ at: string }>("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS at");
      return Number(row?.at);
    };
    const bytes = async (tables: readonly string[]) => {
      const [row] = await testBed.query<{ bytes: string }>(
        'SELECT sum(pg_total_relation_size(t::regclass)) AS bytes FROM unnest($1::text[]) t',
        [tables],
      );
      return Number(row?.bytes);
    };
    const [coinBytes, uploadWal]: [number[], number[]] = [[], []];
    for (const { category } of COIN_CATEGORIES) {
      const [before, begin] = [await bytes(['coin', 'coin_stock']), await log()];
      for (const user of testBed.targets) {
        const token = await testBed.token(user);
        for (let upload = 0; upload < UPLOADS_PER_USER; upload += 1) {
          const request = UploadCoinsRequest.create();
          request.coins = mint(BATCH, category);
          await call(client.uploadCoins.bind(client), request, token);
        }
      }
      const coins = USERS * UPLOADS_PER_USER * BATCH;
      coinBytes.push(((await bytes(['coin', 'coin_stock'])) - before) / coins);
      uploadWal.push(((await log()) - begin) / coins);
    }
    const token = await testBed.token(randomUUID());
    const begin = await log();
    for (let fetch = 0; fetch < FETCHES; fetch += 1) {
      const targetUserId = testBed.targets[fetch % USERS] ?? '';
      const request = FetchCoinsRequest.create({ targetUserId, coinCategory: COIN_CATEGORIES[2].category, count: 1 });
      await call(client.fetchCoins.bind(client), request, token);
    }
    const fetchLog = (await log()) - begin;
    const recordBytes = (await bytes(['coin_fetch'])) / FETCHES;
    await testBed.query("UPDATE coin_fetch SET fetch_time = fetch_time - interval '2 hours'");
    const beforeDelete = await log();
    const adminToken = await testBed.token(randomUUID(), true);
    const { deletedCount } = await call(admin.hardDeleteFetched.bind(admin), { graceHours: 0 }, adminToken);
    if (Number(deletedCount) !== FETCHES) throw new Error(`${deletedCount} of ${FETCHES} coins were hard-deleted`);
    const fetchWal = (fetchLog + (await log()) - beforeDelete) / FETCHES;
    const three = (numbers: readonly number[]) => numbers as unknown as Costs['coinBytes'];
    return {
      coinBytes: three(coinBytes),
      uploadWal: three(uploadWal),
      fetchWal,
      recordBytes,
    };
  } finally {
    client.close();
    admin.close();
    await testBed.close();
  }
}
