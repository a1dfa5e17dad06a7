import { rekeyDeviceStorage } from '../index';

/** Run by fork: says when it is there, and gives the storage another key when it is told to. */
process.on('message', ({ path, from, to }: { path: string; from: number[]; to: number[] }) => {
  rekeyDeviceStorage(path, Uint8Array.from(from), Uint8Array.from(to)).then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.send?.('there');
