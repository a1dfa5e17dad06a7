import { setGcFlags } from '../gc-flags';
import type { Command } from './command';
import { EXIT } from './exit-codes';

export const command: Command = {
  details: `Prints one line of JSON on stdout when it accepts calls, {"msg":"ready","address":…}, and its log as lines of JSON on
stderr. The database is DATABASE_URL, or an embedded PostgreSQL in AQM_DATA_DIR. SIGTERM and SIGINT let it answer what it
accepted, for AQM_DRAIN_TIMEOUT_MS at most.`,
  exitCodes: { [EXIT.OK]: 'it was told to stop, and did' },
  async run() {
    // Before the rest is loaded, which brings about the first full collection.
    setGcFlags();
    const { main }: typeof import('../main') = require('../main');
    await main();
    return EXIT.OK;
  },
};
