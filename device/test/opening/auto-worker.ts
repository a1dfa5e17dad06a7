import { type AutoConfig, type DeviceStorage, openDeviceStorage } from '../../index';

type Task = Omit<AutoConfig, 'key' | 'backend'> & { readonly key: readonly number[] };

/**
 * The storages that this process has opened. It is started by fork, sends a message when it is ready, opens the device
 * of every message that it receives, and answers with the backend or the error's name.
 */
const opened: DeviceStorage[] = [];

process.on('message', ({ key, ...config }: Task) => {
  openDeviceStorage({ ...config, backend: 'auto', key: Uint8Array.from(key) }).then(
    (storage) => {
      opened.push(storage);
      process.send?.(storage.backend);
    },
    (error: Error) => process.send?.(error.name),
  );
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
