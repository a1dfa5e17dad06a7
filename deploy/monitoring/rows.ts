import type { Panel } from './panel';
import { CALL_PANELS } from './rows/calls';
import { COIN_PANELS } from './rows/coins';
import { DEVICE_PANELS } from './rows/devices';
import { HEALTH_PANELS } from './rows/health';
import { PROCESS_PANELS } from './rows/processes';

/** The rows of the dashboard, from above. */
export const ROWS: readonly { readonly title: string; readonly panels: readonly Panel[] }[] = [
  { title: 'Health', panels: HEALTH_PANELS },
  { title: 'Calls', panels: CALL_PANELS },
  { title: 'Coins', panels: COIN_PANELS },
  { title: 'PostgreSQL and the processes', panels: PROCESS_PANELS },
  { title: 'Devices (applications that export the metrics of the device library)', panels: DEVICE_PANELS },
];
