import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { type ServiceProcess, spawnProgram } from '../../testkit/service-process';
import type { TestBed } from '../harness/test-bed';
import { ONCE_TABLE } from './once-table';

/** Starts the empty echo. */
export function spawnEcho(spec: CoinCategorySpec, processes: number): Promise<ServiceProcess> {
  return spawn('echo-server.js', processes, { ECHO_ANSWER: answerOf(spec).toString('hex') });
}

/** Runs the minimal server of once-server.ts on a table of its own in the database of the test bed. */
export class OnceAlone {
  readonly service: ServiceProcess;
  readonly #testBed: TestBed;
  readonly #spec: CoinCategorySpec;

  private constructor(testBed: TestBed, spec: CoinCategorySpec, service: ServiceProcess) {
    this.#testBed = testBed;
    this.#spec = spec;
    this.service = service;
  }

  static async open(testBed: TestBed, spec: CoinCategorySpec, processes: number): Promise<OnceAlone> {
    await testBed.query(ONCE_TABLE);
    const env = { ONCE_DATABASE_URL: testBed.url, ONCE_CATEGORY: String(spec.category) };
    return new OnceAlone(testBed, spec, await spawn('once-server.js', processes, env));
  }

  /** Fills up the stock until each target has `perTarget` coins. */
  async stockUp(perTarget: number): Promise<void> {
    const missing = perTarget - (await this.#testBed.fewest('SELECT user_id FROM once_coin'));
    await this.#testBed.query(
      `INSERT INTO once_coin SELECT u, $2, nextval('coin_upload_batch') * 128, $3
       FROM generate_series(1, $4::int) n, unnest($1::uuid[]) u`,
      [this.#testBed.targets, this.#spec.category, answerOf(this.#spec), Math.max(0, missing)],
    );
    await this.#testBed.settle(['once_coin']);
  }

  async inStock(): Promise<number> {
    const [row] = await this.#testBed.query<{ coins: string }>('SELECT count(*) AS coins FROM once_coin');
    return Number(row?.coins);
  }
}

function spawn(program: string, processes: number, env: NodeJS.ProcessEnv): Promise<ServiceProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-fetch-'));
  return spawnProgram(join(__dirname, program), folder, { PROCESSES: String(processes), ...env });
}

/** Encodes an answer with one random coin. */
function answerOf(spec: CoinCategorySpec): Buffer {
  const coin = {
    keyId: randomUUID(),
    coinCategory: spec.category,
    publicKey: randomBytes(spec.publicKeySize),
    signature: randomBytes(spec.signatureSize),
    expireTime: new Date(),
    deviceId: '',
  };
  return Buffer.from(FetchCoinsResponse.encode({ coins: [coin] }).finish());
}
