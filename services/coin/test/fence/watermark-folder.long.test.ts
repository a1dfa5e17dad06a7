import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { HealthClient, HealthCheckResponse_ServingStatus as Status } from '../../../../gen/grpc/health/v1/health';
import { BRONZE, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../../testkit/service-process';
import type { User } from '../../../../testkit/user';
import type { DatabaseState } from '../../fence/database-state';
import { RingFile } from '../../fence/ring-file';
import { Watermark } from '../../fence/watermark';
import { FolderHangsError, WatermarkFolder } from '../../fence/watermark-folder';

/** Tests that mount file systems need root on Linux with loop devices, as CI has. */
const canMount = process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/dev/loop-control');
const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'pipe' });

let folder: string;
let service: TestService;
let bob: User;
let child: ServiceProcess;
const undo: (() => void)[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-disk-'));
  service = await startService({}, { logLevel: 'silent', replicas: 1 });
  bob = await service.user();
});
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) step();
  await service.stop();
  rmSync(folder, { recursive: true });
});

/** Mounts a file system of its own at `folder`. */
function mount(...args: string[]): void {
  run('mount', ...args, folder);
  undo.push(() => run('umount', '-l', folder));
}

async function start(): Promise<User> {
  child = await spawnService(service, { AQM_FENCE_DIR: join(folder, 'fence') });
  return service.user({ address: child.address });
}

async function healthOf(name: string): Promise<string> {
  const client = new HealthClient(child.address, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      client.check({ service: name }, (error, answer) =>
        error ? reject(error) : resolve(Status[answer.status] ?? ''),
      );
    });
  } finally {
    client.close();
  }
}

const one = () => ({ targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: randomUUID() });
const status = () =>
  runCommand('admin', ['fence', 'status', '--json'], { ...service.database.env, AQM_FENCE_DIR: join(folder, 'fence') });

test('an operation on a folder that hangs ends, and later ones fail at once until it responds', async () => {
  const files = new WatermarkFolder();
  const hanging = Promise.withResolvers<string>();
  const first = files.run(() => hanging.promise);
  await expect(first).rejects.toBeInstanceOf(FolderHangsError);
  let began = false;
  const second = files.run(async () => {
    began = true;
  });
  await expect(second).rejects.toBeInstanceOf(FolderHangsError);
  expect(began).toBe(false);
  hanging.resolve('at last');
  await eventually('the folder responds', () => !files.isHanging);
  expect(await files.run(async () => 'again')).toBe('again');
  files.close();
});

test('a process ends with its exit code although a thread of it waits for the folder', async () => {
  // No process reads from it, so a thread that opens it waits, as for a network file system that is away.
  const pipe = join(folder, 'pipe');
  run('mkfifo', pipe);
  const program = `
const { open } = require('node:fs/promises');
const { WatermarkFolder } = require(${JSON.stringify(compiled('services/coin/fence/watermark-folder'))});
new WatermarkFolder().run(() => open(${JSON.stringify(pipe)}, 'w')).catch(() => process.exit(7));`;
  const ended = spawn(process.execPath, ['-e', program], { stdio: 'ignore' });
  undo.push(() => ended.kill('SIGKILL'));
  expect(await once(ended, 'exit')).toEqual([7, null]);
});

test('files of processes that are gone are removed once a later hand-out stands for their records', async () => {
  const files = new WatermarkFolder();
  const state = { identity: { systemIdentifier: '7', databaseOid: '5', timeline: 1 } } as DatabaseState;
  const watermark = await Watermark.open(files, folder, state, 20);
  const coin = (days: number) => [
    {
      userId: randomUUID(),
      keyId: randomUUID(),
      coinCategory: BRONZE,
      expireTime: new Date(Date.now() + days * 86_400_000),
    },
  ];
  const activation = randomUUID();
  const write = (file: string, of: string, days: number) => {
    const ring = new RingFile(Buffer.alloc(0), { maxStatements: 20, systemIdentifier: '7' });
    ring.append(of, coin(days));
    writeFileSync(join(folder, file), ring.content);
    utimesSync(join(folder, file), new Date(), new Date(Date.now() - 7_200_000));
  };
  write('void-1.ring', randomUUID(), 20);
  write('ended-1.ring', activation, -8);
  write('early-1.ring', activation, 5);
  write('late-1.ring', activation, 20);
  writeFileSync(
    join(folder, 'alive-1.ring'),
    new RingFile(Buffer.alloc(0), { maxStatements: 20, systemIdentifier: '7' }).content,
  );
  watermark.supersede(await watermark.read(), activation);
  const others = () => readdirSync(folder).filter((file) => file.endsWith('-1.ring'));
  await eventually('a file is removed', () => others().length <= 3);
  expect(others().sort()).toEqual(['alive-1.ring', 'early-1.ring', 'late-1.ring']);
  await watermark.recordHandedOut(activation, coin(10));
  await eventually('a file is removed', () => others().length <= 2);
  expect(others().sort()).toEqual(['alive-1.ring', 'late-1.ring']);
  await watermark.recordHandedOut(activation, coin(21));
  await eventually('a file is removed', () => others().length <= 1);
  expect(others()).toEqual(['alive-1.ring']);
  await watermark.close();
  files.close();
});

const onRealDisk = () => {
  test('that is full takes the records of services that run, and no new service', async () => {
    mount('-t', 'tmpfs', '-o', 'size=600k', 'tmpfs');
    const alice = await start();
    await bob.upload(mint(100));
    const fill = () => run('sh', '-c', `dd if=/dev/zero of=${folder}/fill bs=4k 2>/dev/null || true`);
    fill();
    let answered = 0;
    for (let call = 0; call < 50; call++) answered += (await alice.fetch(one())).coins.length;
    expect(answered).toBe(50);
    expect(await healthOf('aqm.coin.v1.CoinService')).toBe('SERVING');
    const { code, stdout } = await status();
    expect(code).toBe(0);
    const found = JSON.parse(stdout);
    expect(found).toMatchObject({ state: 'open', watermark: { problem: expect.stringContaining('ENOSPC') } });
    await expect(spawnService(service, { AQM_FENCE_DIR: join(folder, 'fence') })).rejects.toThrow(
      /cannot be read and written: ENOSPC/,
    );
    expect(await child.stop()).toBe(0);
    // No process writes to the folder any more: a service could not be open.
    fill();
    await eventually('the status says so', async () => (await status()).code === 3);
    expect(JSON.parse((await status()).stdout)).toMatchObject({ state: 'fenced', reason: 'WATERMARK_UNUSABLE' });
  });

  test('that hangs costs the calls in flight, and neither other calls, nor health, nor SIGTERM', async () => {
    const image = `${folder}.img`;
    writeFileSync(image, Buffer.alloc(16 << 20));
    undo.push(() => rmSync(image));
    run('mkfs.ext4', '-q', '-F', image);
    mount('-o', 'loop', image);
    mkdirSync(join(folder, 'fence'));
    const alice = await start();
    await bob.upload(mint(100));
    await alice.fetch(one());
    const inStock = async () => (await bob.count()).available?.bronze;
    const before = (await inStock()) ?? 0;

    run('fsfreeze', '-f', folder);
    const thaw = () => {
      if (existsSync(join(folder, 'lost+found'))) run('fsfreeze', '-u', folder);
      undo.splice(undo.indexOf(thaw), 1);
    };
    undo.push(thaw);
    const lost = one();
    const calls = [alice.fetch(lost).catch((error: unknown) => error)];
    for (let call = 0; call < 60; call++) {
      calls.push(alice.fetch(one()).catch((error: unknown) => error));
      // A service whose folder works answers meanwhile.
      await bob.count();
    }
    const outcomes = await Promise.all(calls);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: 'FENCED' });
    await eventually('health says so', async () => (await healthOf('aqm.coin.v1.CoinService')) === 'NOT_SERVING');
    expect(await healthOf('')).toBe('SERVING');
    const spentUnanswered = before - ((await inStock()) ?? 0);
    // Those of the statements that were in progress.
    expect(spentUnanswered).toBeLessThan(30);
    // From here on nothing is handed out.
    for (let call = 0; call < 10; call++) {
      await expect(alice.fetch(one())).rejects.toMatchObject({ reason: 'FENCED' });
    }
    expect(before - ((await inStock()) ?? 0)).toBe(spentUnanswered);
    expect(child.log()).toContain('WATERMARK_UNUSABLE');
    expect(child.log()).not.toContain('fence retire');

    thaw();
    await eventually('it serves again', async () => (await healthOf('aqm.coin.v1.CoinService')) === 'SERVING');
    expect((await alice.fetch(lost)).coins).toHaveLength(1);

    run('fsfreeze', '-f', folder);
    undo.push(thaw);
    await eventually(
      'an idle service notices it',
      async () => (await healthOf('aqm.coin.v1.CoinService')) === 'NOT_SERVING',
    );
    child.child.kill('SIGTERM');
    await eventually('it has stopped', () => /"msg":"stopped"/.test(child.log()));
    // The kernel keeps the process until the disk responds.
    thaw();
    expect(await child.exited).toBe(0);
    expect(readdirSync(folder)).toContain('fence');
  });
};
if (canMount) describe('a real disk', onRealDisk);
