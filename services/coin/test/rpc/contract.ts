import { execFileSync } from 'node:child_process';
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import { type FileDescriptorSet, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { ROOT } from '../../../../testkit/root';

/**
 * Compiles the contract, with the rules of its fields.
 * @param change changes the descriptors, for example to those of an older contract
 */
export function registryOfContract(change: (files: FileDescriptorSet) => void = () => undefined): FileRegistry {
  const image = execFileSync('node_modules/.bin/buf', ['build', 'proto', '--as-file-descriptor-set', '-o', '-'], {
    cwd: ROOT,
    maxBuffer: 2 ** 24,
  });
  const files = fromBinary(FileDescriptorSetSchema, image);
  change(files);
  return createFileRegistry(files);
}
