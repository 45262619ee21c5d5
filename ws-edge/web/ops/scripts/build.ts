/** Builds the operations page into `web/dist`, beside the call page, whose icon and theme script it shares. */

import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const page = join(import.meta.dirname, '..');
const dist = join(page, '..', 'dist');
const assets = join(dist, 'assets');

await mkdir(assets, { recursive: true });
await build({
  absWorkingDir: page,
  entryPoints: { ops: 'src/main.ts' },
  outdir: assets,
  bundle: true,
  format: 'iife',
  target: ['es2022'],
  minify: true,
  legalComments: 'eof',
  logLevel: 'warning',
});
await build({
  absWorkingDir: page,
  entryPoints: { ops: 'style/ops.css' },
  outdir: assets,
  bundle: true,
  minify: true,
  logLevel: 'warning',
});
await cp(join(page, 'ops.html'), join(dist, 'ops.html'));

// ws-edge sends the compressed twin to whoever accepts it.
for (const file of ['ops.html', 'assets/ops.js', 'assets/ops.css']) {
  const path = join(dist, file);
  await writeFile(`${path}.gz`, gzipSync(await readFile(path), { level: 9 }));
}
