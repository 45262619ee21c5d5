/** Builds the call page. */

import { join } from 'node:path';

import { bundle } from '../../bundle.ts';

await bundle({
  folder: join(import.meta.dirname, '..'),
  html: 'index.html',
  scripts: { page: 'src/main.ts', theme: 'src/theme.ts' },
  styles: { page: 'style/page.css' },
  files: ['assets/icon.svg'],
});
