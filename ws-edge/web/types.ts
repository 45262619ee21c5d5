/**
 * Generates the TypeScript types of each package's `schema/*.schema.json`, which ws-edge's tests compare with its Rust
 * types; with --check, fails if a generated file is out of date.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { compile, type JSONSchema } from 'json-schema-to-typescript';

/** Package, name of the schema, and name of its root type. */
const SCHEMAS = [
  ['client', 'protocol', 'Protocol'],
  ['ops', 'ops', 'ServerMessage'],
] as const;

/**
 * Prepares a schema for the generator. It expands references that have siblings: a description is dropped, the tag of a
 * variant becomes a part of an intersection. And it needs a hint for what has no type in Rust either (mediasoup's
 * parameters pass through).
 */
function prepare(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== 'object') {
    return value;
  }
  if ('$ref' in value) {
    const { $ref, ...rest } = value;
    return 'properties' in rest ? { allOf: [{ $ref }, rest] } : { $ref };
  }
  return Object.keys(value).join() === 'description' ? { ...value, tsType: 'unknown' } : value;
}

for (const [folder, name, root] of SCHEMAS) {
  const source = join(folder, 'schema', `${name}.schema.json`);
  const target = join(folder, 'src', 'generated', `${name}.ts`);
  const schema = JSON.parse(await readFile(join(import.meta.dirname, source), 'utf8'), prepare) as JSONSchema;
  const types = await compile(schema, root, {
    additionalProperties: false,
    bannerComment: `/** Generated from schema/${name}.schema.json by \`ws-edge/web/run.sh types\`; do not edit. */`,
    format: true,
    style: { singleQuote: true, printWidth: 120 },
  });
  const file = join(import.meta.dirname, target);
  if (!process.argv.includes('--check')) {
    await writeFile(file, types);
  } else if ((await readFile(file, 'utf8').catch(() => '')) !== types) {
    console.error(`${target} does not match its schema: run \`ws-edge/web/run.sh types\` and commit the result.`);
    process.exitCode = 1;
  }
}
