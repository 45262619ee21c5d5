/** Makes src/generated/protocol.ts from the schema of the Rust payloads; with --check, fails if it is not what it would make. */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { compile, type JSONSchema } from 'json-schema-to-typescript';

const root = join(import.meta.dirname, '..');
const target = join(root, 'src', 'generated', 'protocol.ts');

/**
 * What the generator is to see: references by their name, which a description beside them would have written out in full,
 * and `unknown` for what has no type in Rust either (mediasoup's parameters pass through).
 */
function prepare(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== 'object') {
    return value;
  }
  if ('$ref' in value) {
    return { $ref: value.$ref };
  }
  return Object.keys(value).join() === 'description' ? { ...value, tsType: 'unknown' } : value;
}

const text = await readFile(join(root, 'schema', 'protocol.schema.json'), 'utf8');
const schema = JSON.parse(text, prepare) as JSONSchema;
const types = await compile(schema, 'Protocol', {
  additionalProperties: false,
  bannerComment: '/** Made from schema/protocol.schema.json by `npm run types`; not to be edited. */',
  format: true,
  style: { singleQuote: true, printWidth: 120 },
});

if (process.argv.includes('--check')) {
  if ((await readFile(target, 'utf8').catch(() => '')) !== types) {
    console.error('src/generated/protocol.ts is not what the schema says: run `npm run types` and commit it.');
    process.exitCode = 1;
  }
} else {
  await writeFile(target, types);
}
