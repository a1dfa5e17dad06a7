import type { Scene, Stage } from './scene';
import { tryReplay, writeInThreeSituations, writeUntilTiersRunOut } from './steps/alice-writes';
import { carolWrites } from './steps/carol-writes';
import { compareStocks, type FinalStock } from './steps/compare-stocks';
import { setUpDevices, startService, stopService } from './steps/set-up';
import { befriendAndTopUp, mintAndPublish } from './steps/stock-up';

/** The whole life of a coin, told with three people. Throws StepFailedError at the first step that does not hold. */
export async function tellStory(stage: Stage): Promise<FinalStock> {
  const address = await startService(stage);
  const scene: Scene = await setUpDevices(stage, address);
  await mintAndPublish(scene);
  await befriendAndTopUp(scene);
  await writeInThreeSituations(scene);
  await writeUntilTiersRunOut(scene);
  await tryReplay(scene);
  await carolWrites(scene);
  const finalStock = await compareStocks(scene);
  await stopService(stage);
  return finalStock;
}
