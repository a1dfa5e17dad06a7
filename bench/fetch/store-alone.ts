import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { UNNAMED_DEVICE } from '../../services/coin/coin';
import { readConfig } from '../../services/coin/config';
import { type Database, openDatabase } from '../../services/coin/database/pool';
import { Deadline } from '../../services/coin/deadline';
import { Fence } from '../../services/coin/fence/fence';
import { CoinInventoryServer } from '../../services/coin/store/coin-inventory-server';
import { type Latency, latencyOf } from '../harness/numbers';

/** Runs the store of the service in this process, without gRPC but with everything that keeps the promises. */
export class StoreAlone {
  readonly #store: CoinInventoryServer;
  readonly #db: Database;
  readonly #fence: Fence;
  readonly #folder: string;

  private constructor(store: CoinInventoryServer, db: Database, fence: Fence, folder: string) {
    this.#store = store;
    this.#db = db;
    this.#fence = fence;
    this.#folder = folder;
  }

  static async open(url: string, env: NodeJS.ProcessEnv): Promise<StoreAlone> {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-store-'));
    const config = readConfig({ ...env, DATABASE_URL: url, AQM_DATA_DIR: folder });
    const db = openDatabase({ ...config, connectionString: url }, () => {});
    const fence = await Fence.open({
      db,
      folder: config.fenceDir,
      poolSize: config.poolSize,
      log: pino({ level: 'silent' }),
    });
    return new StoreAlone(new CoinInventoryServer(db, fence, config), db, fence, folder);
  }

  /** Runs closed-loop load of single-coin fetches that rotates through the targets. */
  async load(load: {
    readonly targets: readonly string[];
    readonly coinCategory: CoinCategory;
    readonly callers: number;
    readonly seconds: number;
  }): Promise<{ seconds: number; answered: number; latency: Latency; cpuMs: number }> {
    const requester = randomUUID();
    const took: number[] = [];
    const before = process.cpuUsage();
    const start = performance.now();
    const isOver = () => performance.now() - start > 1000 * load.seconds;
    let call = 0;
    const fetchUntilOver = async (): Promise<void> => {
      while (!isOver()) {
        const since = performance.now();
        const targetUserId = load.targets[call++ % load.targets.length] ?? '';
        const fetch = { targetUserId, coinCategory: load.coinCategory, count: 1, requestId: undefined };
        const answer = await this.#store.fetchOne(
          requester,
          { ...fetch, deviceId: UNNAMED_DEVICE, allowLowerCategories: false },
          Deadline.NONE,
        );
        if ('error' in answer) throw answer.error;
        took.push(performance.now() - since);
      }
    };
    await Promise.all(Array.from({ length: load.callers }, fetchUntilOver));
    const seconds = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(before);
    return { seconds, answered: took.length, latency: latencyOf(took), cpuMs: (user + system) / 1000 };
  }

  async close(): Promise<void> {
    await this.#fence.close();
    await this.#db.destroy();
    rmSync(this.#folder, { recursive: true });
  }
}
