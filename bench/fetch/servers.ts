import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { type ServiceProcess, spawnProgram } from '../../testkit/service-process';
import type { Stage } from '../service/stage';
import { ONCE_TABLE } from './once-table';

/** The empty echo, in so many processes. */
export function spawnEcho(spec: CoinCategorySpec, workers: number): Promise<ServiceProcess> {
  return spawn('echo-server.js', workers, { ECHO_ANSWER: answerOf(spec).toString('hex') });
}

/** The least that hands a coin to one caller only, in so many processes, on a table of its own in the stage's database. */
export class OnceAlone {
  readonly service: ServiceProcess;
  readonly #stage: Stage;
  readonly #spec: CoinCategorySpec;

  private constructor(stage: Stage, spec: CoinCategorySpec, service: ServiceProcess) {
    this.#stage = stage;
    this.#spec = spec;
    this.service = service;
  }

  static async open(stage: Stage, spec: CoinCategorySpec, workers: number): Promise<OnceAlone> {
    await stage.query(ONCE_TABLE);
    const env = { ONCE_DATABASE_URL: stage.url, ONCE_CATEGORY: String(spec.category) };
    return new OnceAlone(stage, spec, await spawn('once-server.js', workers, env));
  }

  /** Until each of the targets has so many. */
  async stockUp(perTarget: number): Promise<void> {
    const missing = perTarget - (await this.#stage.fewest('SELECT user_id FROM once_coin'));
    await this.#stage.query(
      `INSERT INTO once_coin SELECT u, $2, nextval('coin_upload_batch') * 128, $3
       FROM generate_series(1, $4::int) n, unnest($1::uuid[]) u`,
      [this.#stage.targets, this.#spec.category, answerOf(this.#spec), Math.max(0, missing)],
    );
    await this.#stage.settle(['once_coin']);
  }

  async inStock(): Promise<number> {
    const [row] = await this.#stage.query<{ coins: string }>('SELECT count(*) AS coins FROM once_coin');
    return Number(row?.coins);
  }
}

function spawn(program: string, workers: number, env: NodeJS.ProcessEnv): Promise<ServiceProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-fetch-'));
  return spawnProgram(join(__dirname, program), folder, { AQM_WORKERS: String(workers), ...env });
}

/** An answer with one coin, encoded. */
function answerOf(spec: CoinCategorySpec): Buffer {
  const coin = {
    keyId: randomUUID(),
    coinCategory: spec.category,
    publicKey: randomBytes(spec.publicKeySize),
    signature: randomBytes(spec.signatureSize),
    expireTime: new Date(),
  };
  return Buffer.from(FetchCoinsResponse.encode({ coins: [coin] }).finish());
}
