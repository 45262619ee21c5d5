/** Builds a page into `dist`, which cargo embeds into ws-edge. */

import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const dist = join(import.meta.dirname, 'dist');

export interface Page {
  /** The package's folder; the paths below are relative to it. */
  readonly folder: string;
  readonly html: string;
  /** Entry points of scripts, by the name of the asset. */
  readonly scripts: Readonly<Record<string, string>>;
  readonly styles: Readonly<Record<string, string>>;
  /** Files that are copied to the assets. */
  readonly files?: readonly string[];
}

export async function bundle({ folder, html, scripts, styles, files = [] }: Page): Promise<void> {
  const assets = join(dist, 'assets');
  await mkdir(assets, { recursive: true });
  const common = { absWorkingDir: folder, outdir: assets, bundle: true, minify: true, logLevel: 'warning' } as const;
  await build({
    ...common,
    entryPoints: { ...scripts },
    // Defines no global names, as a module or as a classic script.
    format: 'iife',
    target: ['es2022'],
    // The licences of bundled libraries require their notices.
    legalComments: 'eof',
  });
  await build({ ...common, entryPoints: { ...styles } });
  const made = [join(dist, html)];
  await cp(join(folder, html), join(dist, html));
  for (const file of files) {
    const copy = join(assets, basename(file));
    await cp(join(folder, file), copy);
    made.push(copy);
  }
  made.push(...Object.keys(scripts).map((name) => join(assets, `${name}.js`)));
  made.push(...Object.keys(styles).map((name) => join(assets, `${name}.css`)));
  // ws-edge serves the compressed file to clients that accept gzip.
  for (const path of made) {
    await writeFile(`${path}.gz`, gzipSync(await readFile(path), { level: 9 }));
  }
}
