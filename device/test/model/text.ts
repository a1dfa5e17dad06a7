import { types } from 'node:util';

const known = new WeakMap<object, string>();

/**
 * Returns the same text for equal values, independent of the order of an object's fields and a Map's entries, and of
 * the realm of the test runner that their prototypes belong to. The text of an object is cached, so objects must not
 * change.
 */
export function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) {
    return typeof value === 'string' ? JSON.stringify(value) : String(value);
  }
  const text = known.get(value) ?? textOfObject(value);
  // The Maps of a model do change.
  if (!types.isMap(value)) known.set(value, text);
  return text;
}

function textOfObject(value: object): string {
  if (types.isDate(value)) return `Date(${value.getTime()})`;
  if (types.isUint8Array(value)) return `bytes(${Buffer.from(value).toString('base64')})`;
  if (Array.isArray(value)) return `[${value.map(textOf).join()}]`;
  const entries: [unknown, unknown][] = types.isMap(value) ? [...value] : Object.entries(value);
  const pairs = entries.map(([name, entry]) => `${String(name)}:${textOf(entry)}`);
  return `${types.isMap(value) ? 'Map' : ''}{${pairs.sort().join()}}`;
}
