import { rekeyDeviceStorage } from '../../device';
import type { RekeyOrder } from './rekey';

/** Run by fork: says when it is there, and gives the storage another key when it is told to. */
process.on('message', ({ path, from, to }: RekeyOrder) => {
  rekeyDeviceStorage(path, Buffer.from(from, 'hex'), Buffer.from(to, 'hex')).then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.send?.('there');
