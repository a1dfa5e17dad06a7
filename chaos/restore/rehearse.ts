import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { mintedCoin } from '../../device/conformance/harness';
import { type DeviceStorage, openDeviceStorage, publishCoins, reconcileCoins } from '../../device/index';
import { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { CoinServiceClient, CoinUploadResult_Outcome as Outcome } from '../../gen/aqm/coin/v1/coin_service';
import { CallError } from '../../testkit/call';
import type { User } from '../../testkit/user';
import { type Finding, Ledger } from './ledger';
import type { TestBed } from './test-bed';

const RESTORE_POINT = 'before_the_accident';
/** The time that a service may take to notice another database, or an operator's decision. */
const REACTION_TIMEOUT_MS = 60_000;

export interface Plan {
  /** The number of coins published first. A tenth of them is handed out in each part. */
  readonly coins: number;
  /** Called when a step begins. */
  readonly onStep: (what: string) => void;
}

/** Holds Bob's device, Alice who fetches, and the record of all answers. */
class Participants {
  readonly ledger: Ledger;
  readonly published: ReturnType<typeof mintedCoin>[];
  refused = 0;

  constructor(
    readonly device: DeviceStorage,
    readonly bob: User,
    readonly alice: User,
    before?: Participants,
  ) {
    this.ledger = before?.ledger ?? new Ledger();
    this.published = before?.published ?? [];
  }

  /** Mints coins on the device and publishes them. @returns the number of coins that the service stored */
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

  /** Reconciles the coins of the device with the service. */
  reconcile(address: string): Promise<unknown> {
    return this.#withClient(address, (access) => reconcileCoins(this.device, access));
  }

  async fetch(times: number): Promise<void> {
    for (let n = 0; n < times; n += 1) await this.tryFetch();
  }

  /** Fetches one coin. @returns the number of coins in the answer, or the reason of the error */
  async tryFetch(): Promise<number | string> {
    const requestId = randomUUID();
    const wish = { targetUserId: this.bob.id, coinCategory: CoinCategory.COIN_CATEGORY_BRONZE, count: 1, requestId };
    try {
      const { coins } = await this.alice.fetch(wish);
      const keyIds = coins.map(({ keyId }) => keyId);
      this.ledger.record(requestId, keyIds);
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
 * Runs the rehearsal on a real PostgreSQL with real processes and the operator's command line: a base backup, more
 * work, data loss, a restore to a point in time before some of the work, and the operator's decision.
 */
export async function rehearse(testBed: TestBed, { coins, onStep }: Plan): Promise<Finding[]> {
  const findings: Finding[] = [];
  const find = (what: string, holds: boolean, seen: string) => findings.push({ what, holds, seen });
  const some = Math.ceil(coins / 10);

  onStep('start a PostgreSQL that archives its WAL, and a service');
  const primary = await testBed.startPrimary();
  let address = await testBed.startService();
  const [bob, alice] = [await testBed.user(), await testBed.user()];
  const device = await openDeviceStorage({ backend: 'sqlite', path: testBed.deviceFile, key: 'rehearsal' });
  const participants = new Participants(device, bob, alice);
  try {
    onStep(`Bob's device publishes ${coins} coins; Alice fetches ${some}`);
    await participants.publish(coins, address);
    const { databaseEpoch: epoch } = await bob.count();
    await participants.fetch(some);

    onStep('base backup: pg_backup_start, copy of the files, pg_backup_stop');
    const backup = await testBed.backUp(primary);

    onStep(`Alice fetches ${some} more; a restore point is set`);
    await participants.fetch(some);
    await primary.query(`SELECT pg_create_restore_point('${RESTORE_POINT}')`);

    onStep(
      `Alice fetches ${some} more, Bob publishes ${some} more, Alice fetches again; the restore will not contain this`,
    );
    await participants.fetch(some);
    await participants.publish(some, address);
    await participants.fetch(some);
    const outBefore = participants.ledger.handedOut.size;
    const lastFile = await primary.query('SELECT pg_walfile_name(pg_switch_wal())');
    await primary.until(`(SELECT last_archived_wal >= '${lastFile}' FROM pg_stat_archiver)`);

    onStep('disaster: PostgreSQL and its disk are lost');
    await primary.stop('SIGQUIT');

    onStep('the base backup is restored and rolled forward to the restore point; DATABASE_URL points to it');
    const restored = await testBed.recover(backup, RESTORE_POINT);
    testBed.leadTo(restored);

    onStep('the running service meets the restored database');
    const first = await until(participants, (answer) => answer === 'FENCED');
    const whileFenced = [await participants.tryFetch(), await participants.tryFetch(), await participants.tryFetch()];
    find('the running service notices by itself', first === 'FENCED', `a fetch was answered with ${first}`);
    const isQuiet =
      whileFenced.every((answer) => answer === 'FENCED') && participants.ledger.handedOut.size === outBefore;
    find(
      'nothing is handed out while it is fenced',
      isQuiet,
      `${participants.refused} fetches refused, stock ${await participants.stock()}`,
    );

    onStep('a restart of the service, aqm admin fence status, aqm doctor');
    await testBed.stopService();
    address = await testBed.startService();
    const bobAgain = await testBed.user(bob.id);
    const later = new Participants(device, bobAgain, await testBed.user(alice.id), participants);
    const afterRestart = await later.tryFetch();
    find('a restart does not clear the fence', afterRestart === 'FENCED', `a fetch was answered with ${afterRestart}`);
    const status = await testBed.aqm('admin', 'fence', 'status', '--json');
    const { reason = '' } = status.stdout ? JSON.parse(status.stdout) : {};
    const isNamed = status.code === 3 && reason === 'WATERMARK_NOT_REACHED';
    find('aqm admin fence status gives the reason', isNamed, `exit code ${status.code}, ${reason}`);
    const doctor = await testBed.aqm('doctor', '--least-free', '0', '--json');
    const failed = JSON.parse(doctor.stdout).checks.filter(({ verdict }: { verdict: string }) => verdict === 'fail');
    const names = failed.map(({ name }: { name: string }) => name).join(', ');
    find(
      'aqm doctor reports the fence and nothing else',
      doctor.code === 1 && names === 'fence',
      `exit code ${doctor.code}, ${names}`,
    );

    onStep('the decision: aqm admin fence retire');
    const retired = await testBed.aqm('admin', 'fence', 'retire', '--yes', '--json');
    find(
      'aqm admin fence retire',
      retired.code === 0,
      `exit code ${retired.code}${retired.stderr && `: ${retired.stderr}`}`,
    );
    await until(later, (answer) => answer === 0);
    const { databaseEpoch: next } = await bobAgain.count();
    const isOpen = next !== epoch && (await later.stock()) === 0;
    find(
      'the service resumes without a restart, in a new epoch, with an empty stock',
      isOpen,
      `stock ${await later.stock()}`,
    );

    onStep("Bob's device reconciles and publishes again; every older coin is uploaded a second time");
    const older = [...participants.published];
    await later.reconcile(address);
    const inserted = await later.publish(coins, address);
    find('the device publishes again', inserted === coins, `${inserted} of ${coins} coins in stock`);
    const outcomes = await uploadAgain(bobAgain, older);
    const accepted = [...outcomes]
      .filter(([, outcome]) => outcome === Outcome.OUTCOME_INSERTED)
      .map(([keyId]) => keyId);
    const wrong = accepted.filter((keyId) => participants.ledger.handedOut.has(keyId));
    find(
      'what was handed out before is refused as spent',
      wrong.length === 0,
      `${outcomes.size - accepted.length} of ${outcomes.size} refused; ${accepted.length} accepted, none of them ever handed out`,
    );

    onStep('Alice fetches the whole stock');
    while ((await later.tryFetch()) === 1);
    const { twice, handedOut } = participants.ledger;
    const seen = `${handedOut.size} coins were handed out, ${outBefore} of them before the data loss; ${twice.length} twice`;
    find('no coin is handed out twice', twice.length === 0 && handedOut.size >= outBefore + coins, seen);
    const last = await testBed.aqm('admin', 'fence', 'status');
    find('the fence is clear', last.code === 0, `exit code ${last.code}`);
    return findings;
  } finally {
    await device.close();
  }
}

/** Fetches until the answer is the expected one, or until the time is up. @returns the last answer */
async function until(participants: Participants, isIt: (answer: number | string) => boolean): Promise<number | string> {
  for (const giveUp = Date.now() + REACTION_TIMEOUT_MS; ; await setTimeout(20)) {
    const answer = await participants.tryFetch();
    if (isIt(answer) || Date.now() > giveUp) return answer;
  }
}

/** Uploads coins as a device that does not know the epoch. @returns the outcome by key id */
async function uploadAgain(bob: User, coins: readonly ReturnType<typeof mintedCoin>[]): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  for (let from = 0; from < coins.length; from += 100) {
    const batch = coins.slice(from, from + 100).map(({ keyId, publicKey, signature }) => ({
      keyId,
      coinCategory: CoinCategory.COIN_CATEGORY_BRONZE,
      publicKey: Buffer.from(publicKey),
      signature: Buffer.from(signature),
      expireTime: undefined,
      deviceId: '',
    }));
    for (const { keyId, outcome } of (await bob.upload(batch)).results) outcomes.set(keyId, outcome);
  }
  return outcomes;
}
