import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { mintedCoin } from '../../device/conformance/harness';
import {
  CoinServiceClient,
  type DeviceStorage,
  openDeviceStorage,
  publishCoins,
  reconcileCoins,
} from '../../device/index';
import { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { CoinUploadResult_Outcome as Outcome } from '../../gen/aqm/coin/v1/coin_service';
import { CallError } from '../../testkit/call';
import type { User } from '../../testkit/user';
import { type Finding, Ledger } from './ledger';
import type { Stage } from './stage';

const RESTORE_POINT = 'before_the_accident';
/** How long a service may take to notice another database, or an operator's decision, before the rehearsal gives up. */
const PATIENCE_MS = 60_000;

export interface Plan {
  /** Coins that are published at first; a tenth is handed out in each part. */
  readonly coins: number;
  /** Hears of each step when it begins. */
  readonly onStep: (what: string) => void;
}

/** Bob's device, Alice who fetches, and what both were told. */
class Cast {
  readonly ledger: Ledger;
  readonly published: ReturnType<typeof mintedCoin>[];
  refused = 0;

  constructor(
    readonly device: DeviceStorage,
    readonly bob: User,
    readonly alice: User,
    before?: Cast,
  ) {
    this.ledger = before?.ledger ?? new Ledger();
    this.published = before?.published ?? [];
  }

  /** Mints on the device and publishes. @returns how many came into the stock */
  async publish(count: number, address: string): Promise<number> {
    const minted = Array.from({ length: count }, () => {
      const number = this.published.length + 1;
      const coin = { ...mintedCoin(number, 'BRONZE'), keyId: randomUUID() };
      this.published.push(coin);
      return coin;
    });
    return this.#withClient(address, async (access) => {
      const { results } = await publishCoins(this.device, access, minted);
      return results.filter(({ outcome }) => outcome === 'INSERTED').length;
    });
  }

  /** What the device learns of the coins that it holds. */
  reconcile(address: string): Promise<unknown> {
    return this.#withClient(address, (access) => reconcileCoins(this.device, access));
  }

  async fetch(times: number): Promise<void> {
    for (let n = 0; n < times; n += 1) await this.tryFetch();
  }

  /** @returns how many coins came, or the reason why none could */
  async tryFetch(): Promise<number | string> {
    const requestId = randomUUID();
    const wish = { targetUserId: this.bob.id, coinCategory: CoinCategory.COIN_CATEGORY_BRONZE, count: 1, requestId };
    try {
      const { coins } = await this.alice.fetch(wish);
      const keyIds = coins.map(({ keyId }) => keyId);
      this.ledger.note(requestId, keyIds);
      return coins.length;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.refused += 1;
      return error.reason;
    }
  }

  async stock(): Promise<number> {
    return (await this.bob.count()).available?.bronze ?? 0;
  }

  async #withClient<T>(
    address: string,
    work: (access: { client: CoinServiceClient; token: () => string }) => Promise<T>,
  ): Promise<T> {
    const client = new CoinServiceClient(address, credentials.createInsecure());
    try {
      return await work({ client, token: () => this.bob.token });
    } finally {
      client.close();
    }
  }
}

/**
 * A base backup, work, an accident, a restore to a point in time before some of the work, and the operator's decision, on a
 * real PostgreSQL with real processes and the command line that an operator types.
 */
export async function rehearse(stage: Stage, { coins, onStep }: Plan): Promise<Finding[]> {
  const findings: Finding[] = [];
  const find = (what: string, holds: boolean, seen: string) => findings.push({ what, holds, seen });
  const some = Math.ceil(coins / 10);

  onStep('a PostgreSQL that archives its WAL, and a service on it');
  const primary = await stage.startPrimary();
  let address = await stage.startService();
  const [bob, alice] = [await stage.user(), await stage.user()];
  const device = await openDeviceStorage({ backend: 'sqlite', path: stage.deviceFile, key: 'rehearsal' });
  const cast = new Cast(device, bob, alice);
  try {
    onStep(`Bob's device publishes ${coins} coins; Alice fetches ${some}`);
    await cast.publish(coins, address);
    const { databaseEpoch: epoch } = await bob.count();
    await cast.fetch(some);

    onStep('base backup: pg_backup_start, copy of the files, pg_backup_stop');
    const backup = await stage.backUp(primary);

    onStep(`Alice fetches ${some} more, then a restore point is set`);
    await cast.fetch(some);
    await primary.query(`SELECT pg_create_restore_point('${RESTORE_POINT}')`);

    onStep(
      `Alice fetches ${some} more, Bob publishes ${some} more and Alice fetches on: the restore will know nothing of this`,
    );
    await cast.fetch(some);
    await cast.publish(some, address);
    await cast.fetch(some);
    const outBefore = cast.ledger.handedOut.size;
    const lastFile = await primary.query('SELECT pg_walfile_name(pg_switch_wal())');
    await primary.until(`(SELECT last_archived_wal >= '${lastFile}' FROM pg_stat_archiver)`);

    onStep('disaster: PostgreSQL is gone, its disk with it');
    await primary.stop('SIGQUIT');

    onStep('the base backup is restored, and rolled forward to the restore point; DATABASE_URL leads to it');
    const restored = await stage.recover(backup, RESTORE_POINT);
    stage.leadTo(restored);

    onStep('what the running service answers now');
    const first = await until(cast, (answer) => answer === 'FENCED');
    const whileFenced = [await cast.tryFetch(), await cast.tryFetch(), await cast.tryFetch()];
    find('the running service notices by itself', first === 'FENCED', `a fetch was answered with ${first}`);
    const isQuiet = whileFenced.every((answer) => answer === 'FENCED') && cast.ledger.handedOut.size === outBefore;
    find(
      'nothing is handed out while it is fenced',
      isQuiet,
      `${cast.refused} fetches refused, stock ${await cast.stock()}`,
    );

    onStep('a restart of the service, aqm admin fence status, aqm doctor');
    await stage.stopService();
    address = await stage.startService();
    const bobAgain = await stage.user(bob.id);
    const later = new Cast(device, bobAgain, await stage.user(alice.id), cast);
    const afterRestart = await later.tryFetch();
    find('a restart changes nothing', afterRestart === 'FENCED', `a fetch was answered with ${afterRestart}`);
    const status = await stage.aqm('admin', 'fence', 'status', '--json');
    const { reason = '' } = status.stdout ? JSON.parse(status.stdout) : {};
    const isNamed = status.code === 3 && reason === 'WATERMARK_NOT_REACHED';
    find('aqm admin fence status says why', isNamed, `exit code ${status.code}, ${reason}`);
    const doctor = await stage.aqm('doctor', '--least-free', '0', '--json');
    const failed = JSON.parse(doctor.stdout).checks.filter(({ verdict }: { verdict: string }) => verdict === 'fail');
    const names = failed.map(({ name }: { name: string }) => name).join(', ');
    find(
      'aqm doctor names the fence and nothing else',
      doctor.code === 1 && names === 'fence',
      `exit code ${doctor.code}, ${names}`,
    );

    onStep('the decision: aqm admin fence retire');
    const retired = await stage.aqm('admin', 'fence', 'retire', '--json');
    find(
      'aqm admin fence retire',
      retired.code === 0,
      `exit code ${retired.code}${retired.stderr && `: ${retired.stderr}`}`,
    );
    await until(later, (answer) => answer === 0);
    const { databaseEpoch: next } = await bobAgain.count();
    const isOpen = next !== epoch && (await later.stock()) === 0;
    find(
      'the service opens without a restart, in a new epoch, with an empty stock',
      isOpen,
      `stock ${await later.stock()}`,
    );

    onStep("Bob's device learns of it and publishes anew; somebody uploads every older coin again");
    const older = [...cast.published];
    await later.reconcile(address);
    const inserted = await later.publish(coins, address);
    find('the device publishes anew', inserted === coins, `${inserted} of ${coins} coins in stock`);
    const outcomes = await uploadAgain(bobAgain, older);
    const accepted = [...outcomes]
      .filter(([, outcome]) => outcome === Outcome.OUTCOME_INSERTED)
      .map(([keyId]) => keyId);
    const wrong = accepted.filter((keyId) => cast.ledger.handedOut.has(keyId));
    find(
      'what was handed out before is refused as spent',
      wrong.length === 0,
      `${outcomes.size - accepted.length} of ${outcomes.size} refused, ${accepted.length} taken that nobody ever got`,
    );

    onStep('Alice fetches all that there is');
    while ((await later.tryFetch()) === 1);
    const { twice, handedOut } = cast.ledger;
    const seen = `${handedOut.size} coins were handed out, ${outBefore} of them before the accident; ${twice.length} twice`;
    find('no coin is handed out twice', twice.length === 0 && handedOut.size >= outBefore + coins, seen);
    const last = await stage.aqm('admin', 'fence', 'status');
    find('the fence is open', last.code === 0, `exit code ${last.code}`);
    return findings;
  } finally {
    await device.close();
  }
}

/** The last answer: the one that was waited for, unless patience ends. */
async function until(cast: Cast, isIt: (answer: number | string) => boolean): Promise<number | string> {
  for (const giveUp = Date.now() + PATIENCE_MS; ; await setTimeout(20)) {
    const answer = await cast.tryFetch();
    if (isIt(answer) || Date.now() > giveUp) return answer;
  }
}

/** As a device would that knows of no epoch. */
async function uploadAgain(bob: User, coins: readonly ReturnType<typeof mintedCoin>[]): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  for (let from = 0; from < coins.length; from += 100) {
    const batch = coins.slice(from, from + 100).map(({ keyId, publicKey, signature }) => ({
      keyId,
      coinCategory: CoinCategory.COIN_CATEGORY_BRONZE,
      publicKey: Buffer.from(publicKey),
      signature: Buffer.from(signature),
      expireTime: undefined,
    }));
    for (const { keyId, outcome } of (await bob.upload(batch)).results) outcomes.set(keyId, outcome);
  }
  return outcomes;
}
