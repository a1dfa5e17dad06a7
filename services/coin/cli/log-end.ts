import { openLog } from '../logger';
import { workerLog } from '../workers';
import { explain } from './explain-error';

/** Writes why the service ended as lines of its log, at `fatal`: one for each line of the explanation, such as each wrong setting. */
export async function logEnd(error: unknown): Promise<void> {
  // Whatever AQM_LOG_LEVEL says: it may be what is wrong.
  const { logger, flush } = openLog('fatal');
  const log = workerLog(logger);
  const explanation = explain(error);
  if (typeof explanation !== 'string') log.fatal({ err: error }, 'the service ends with an unexpected error');
  else for (const line of explanation.split('\n')) log.fatal(line);
  await flush();
}
