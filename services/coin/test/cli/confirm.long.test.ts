import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { AQM } from '../../../../testkit/service-process';
import { createDatabase, type TestDatabase } from '../../../../testkit/test-database';

let folder: string;
let database: TestDatabase;
const user = randomUUID();
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-confirm-'));
  database = await createDatabase();
  const expiry = new Date(Date.now() + 20 * 86_400_000);
  await sql`
INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
VALUES (${user}, ${randomUUID()}, 1, ${expiry}, 3)`.execute(database.db);
});
afterAll(async () => {
  await database.drop();
  rmSync(folder, { recursive: true });
});

/** Runs `aqm admin delete-user` on a pseudo-terminal, and types the answer when it asks. */
async function onTerminal(answer: string): Promise<{ code: number; said: string }> {
  const command = `"${process.execPath}" "${AQM}" admin delete-user ${user}`;
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env: { ...process.env, ...database.env, AQM_DATA_DIR: folder, AQM_FENCE_DIR: folder },
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: 60_000,
  });
  let said = '';
  let isAnswered = false;
  child.stdout.on('data', (text: Buffer) => {
    said += text;
    if (isAnswered || !said.includes('Type "yes" to continue: ')) return;
    isAnswered = true;
    child.stdin.write(answer);
  });
  const [code] = await once(child, 'close');
  return { code, said };
}

const coins = async () => {
  const { rows } = await sql<{ count: string }>`SELECT count(*) FROM coin WHERE user_id = ${user}`.execute(database.db);
  return Number(rows[0]?.count);
};

test.each([
  ['another word', 'y\r'],
  ['an empty line', '\r'],
  ['Ctrl-C', '\x03'],
  ['Ctrl-D', '\x04'],
])('%s at the question changes nothing', async (_what, answer) => {
  const { code, said } = await onTerminal(answer);
  expect(said).toMatch(/^database: \S+@\S+\/\S+\r\n/);
  expect(said).toContain(`Deletes everything that this database holds about the user ${user}.`);
  expect(said).toContain('Not confirmed; nothing was changed.');
  expect(said).not.toContain('    at ');
  expect([code, await coins()]).toEqual([1, 1]);
});

test('"yes" at the question goes on', async () => {
  const { code, said } = await onTerminal('yes\r');
  expect(said).toMatch(/^deleted: \d+ coins and records/m);
  expect([code, await coins()]).toEqual([0, 0]);
});
