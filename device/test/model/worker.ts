import type { ChildConfig } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import type { DeviceStorage } from '../../contract/device-storage';
import { answerOf, type Call } from './steps';

/** A message to the worker: what to do, and when. */
export type ModelTask = { readonly number: number; readonly nowMs: number } & (
  | { readonly open: ChildConfig }
  | { readonly call: Call }
  | { readonly close: true }
);

/**
 * The time of the handle's clock. This process is started by fork. It holds one handle at a time, each for one
 * sequence, and answers every task with its number.
 */
let nowMs = 0;
const now = () => new Date(nowMs);
let storage: DeviceStorage | undefined;

async function answer(task: ModelTask): Promise<object> {
  nowMs = task.nowMs;
  if ('open' in task) {
    storage = await openInChild(task.open, now);
    return {};
  }
  if (storage === undefined) throw new Error('The storage is not open.');
  if ('call' in task) return answerOf(storage, task.call, now);
  await storage.close();
  return {};
}

process.on('message', (task: ModelTask) => {
  answer(task).then(
    (result) => process.send?.({ number: task.number, ...result }),
    (error: unknown) => process.send?.({ number: task.number, failed: String(error) }),
  );
});
