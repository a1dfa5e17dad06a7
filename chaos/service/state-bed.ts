import { createInterface } from 'node:readline';
import { DIST } from '../../testkit/broken-copy';
import { Crowd } from './crowd';
import { STATE_SETTINGS, STATES } from './states';
import { openLocalTestBed } from './test-bed';
import { TIMING } from './workload';

/**
 * Runs a service with a crowd of users, and enters and leaves states on the lines "enter NAME", "leave NAME", "kill" and
 * "start" of stdin. Answers each with a line: what was done. The first line of stdout has the address of the status page.
 * Ends at the end of stdin.
 */
async function main(): Promise<void> {
  const testBed = await openLocalTestBed(1, DIST, TIMING, STATE_SETTINGS);
  const crowd = await Crowd.open(testBed);
  const say = (line: string) => process.stdout.write(`${line}\n`);
  say(`http://127.0.0.1:${testBed.local?.statusPorts[0]}`);
  const [service] = testBed.local?.services ?? [];
  for await (const line of createInterface(process.stdin)) {
    const [action, name = ''] = line.split(' ');
    if (action === 'enter') await STATES[name]?.enter(testBed, crowd);
    else if (action === 'leave') await STATES[name]?.leave(testBed, crowd);
    else if (action === 'kill') await service?.kill();
    else if (action === 'start') await service?.start();
    say(line);
  }
  await crowd.close();
  await testBed.close();
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
