import { tryReplay, writeInThreeSituations, writeUntilTiersRunOut } from './steps/alice-writes';
import { loseLaptop, writeToBothDevices } from './steps/bobs-laptop';
import { carolWrites } from './steps/carol-writes';
import { compareStocks, type FinalStock } from './steps/compare-stocks';
import { setUpDevices, startService, stopService } from './steps/set-up';
import { befriendAndTopUp, mintAndPublish } from './steps/stock-up';
import type { RunContext, StoryContext } from './story-context';

/** Runs the whole life of a coin with three people and four devices. @throws StepFailedError at the first step that fails */
export async function tellStory(runContext: RunContext): Promise<FinalStock> {
  const address = await startService(runContext);
  const context: StoryContext = await setUpDevices(runContext, address);
  await mintAndPublish(context);
  await befriendAndTopUp(context);
  await writeInThreeSituations(context);
  await writeUntilTiersRunOut(context);
  await writeToBothDevices(context);
  await loseLaptop(context);
  await tryReplay(context);
  await carolWrites(context);
  const finalStock = await compareStocks(context);
  await stopService(runContext);
  return finalStock;
}
