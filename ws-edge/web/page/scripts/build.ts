/** Builds the page into `web/dist`, from where cargo takes it into ws-edge. */

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
  entryPoints: { page: 'src/main.ts', theme: 'src/theme.ts' },
  outdir: assets,
  bundle: true,
  // The one works as a module, the other as a plain script: neither leaves a name behind.
  format: 'iife',
  target: ['es2022'],
  minify: true,
  // Notices of the libraries inside: their licences ask for it.
  legalComments: 'eof',
  logLevel: 'warning',
});
await build({
  absWorkingDir: page,
  entryPoints: { page: 'style/page.css' },
  outdir: assets,
  bundle: true,
  minify: true,
  logLevel: 'warning',
});
await cp(join(page, 'assets', 'icon.svg'), join(assets, 'icon.svg'));
await cp(join(page, 'index.html'), join(dist, 'index.html'));

// ws-edge sends the compressed twin to whoever accepts it.
for (const file of ['index.html', 'assets/page.js', 'assets/theme.js', 'assets/page.css', 'assets/icon.svg']) {
  const path = join(dist, file);
  await writeFile(`${path}.gz`, gzipSync(await readFile(path), { level: 9 }));
}
