/** Builds a page into `dist`, from where cargo takes it into ws-edge. */

import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const dist = join(import.meta.dirname, 'dist');

export interface Page {
  /** Its package's folder, to which the paths below are relative. */
  readonly folder: string;
  readonly html: string;
  /** The name of each script among the assets, and where it begins. */
  readonly scripts: Readonly<Record<string, string>>;
  readonly styles: Readonly<Record<string, string>>;
  /** What goes to the assets as it is. */
  readonly files?: readonly string[];
}

export async function bundle({ folder, html, scripts, styles, files = [] }: Page): Promise<void> {
  const assets = join(dist, 'assets');
  await mkdir(assets, { recursive: true });
  const common = { absWorkingDir: folder, outdir: assets, bundle: true, minify: true, logLevel: 'warning' } as const;
  await build({
    ...common,
    entryPoints: { ...scripts },
    // Whether it runs as a module or as a plain script, it leaves no name behind.
    format: 'iife',
    target: ['es2022'],
    // Notices of the libraries inside: their licences ask for it.
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
  // ws-edge sends the compressed twin to whoever accepts it.
  for (const path of made) {
    await writeFile(`${path}.gz`, gzipSync(await readFile(path), { level: 9 }));
  }
}
