import { rekeyDeviceStorage } from '../../device';
import type { RekeyOrder } from './rekey';

// This process is started by fork. It sends a message when it is ready, and changes a storage's key on request.

process.on('message', ({ path, from, to }: RekeyOrder) => {
  rekeyDeviceStorage(path, Buffer.from(from, 'hex'), Buffer.from(to, 'hex')).then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.send?.('ready');
