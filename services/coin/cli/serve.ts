import { setGcFlags } from '../gc-flags';
import type { CommandDefinition } from './command';
import { EXIT, exitCodeOf } from './exit-codes';

export const command: CommandDefinition = {
  details: `Prints one line of JSON on stdout when it accepts calls, {"msg":"ready","address":…}, and its log as
lines of JSON on stderr, also why it could not start. The database is DATABASE_URL, or an embedded
PostgreSQL in AQM_DATA_DIR.
After SIGTERM, SIGINT, SIGHUP or SIGQUIT it answers the calls that it accepted, for at most
AQM_DRAIN_TIMEOUT_MS.`,
  exitCodes: { [EXIT.OK]: 'stopped by a signal, in order' },
  async run() {
    // Set before the rest of the code is loaded, which causes the first full collection.
    setGcFlags();
    const { main }: typeof import('../main') = require('../main');
    try {
      await main();
      return EXIT.OK;
    } catch (error) {
      const { logEnd }: typeof import('./log-end') = require('./log-end');
      await logEnd(error);
      return exitCodeOf(error);
    }
  },
};
