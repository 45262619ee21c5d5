import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const css = await readFile(new URL('../style/palette.css', import.meta.url), 'utf8');
const THEMES = ['light', 'dark'] as const;
const COLOUR = /--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g;
const palette = new Map([...css.matchAll(COLOUR)].map(([, name, light, dark]) => [name, { light, dark }]));

/** Text and background colours that the style sheets combine. */
const TEXTS: readonly (readonly [text: string, ground: string])[] = [
  ['ink', 'ground'],
  ['ink', 'card'],
  ['ink', 'sunken'],
  ['quiet', 'ground'],
  ['quiet', 'card'],
  ['quiet', 'sunken'],
  ['on-accent', 'accent'],
  ['on-accent', 'accent-strong'],
  ['accent-strong', 'accent-soft'],
  ['accent-strong', 'sunken'],
  ['ink', 'accent-soft'],
  ['quiet', 'accent-soft'],
  ['on-stop', 'stop'],
  ['on-stop', 'stop-strong'],
  ['stop', 'sunken'],
  ['warn', 'warn-soft'],
];

/** Borders and icons that convey meaning (WCAG 2.2, 1.4.11). */
const MARKS: readonly (readonly [mark: string, ground: string])[] = [
  ['edge', 'card'],
  ['accent', 'card'],
  ['accent', 'ground'],
  ['warn', 'card'],
  ['stop', 'sunken'],
];

/** Relative luminance (WCAG 2.2). */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((start) => {
    const share = Number.parseInt(colour.slice(start, start + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string, theme: (typeof THEMES)[number]): number {
  const [bright = 0, dim = 0] = [one, other]
    .map((name) => luminance(palette.get(name)?.[theme] ?? assert.fail(`no colour ${name}`)))
    .sort((a, b) => b - a);
  return (bright + 0.05) / (dim + 0.05);
}

test('the contrast formula is that of WCAG', () => {
  assert.equal(((luminance('#ffffff') + 0.05) / (luminance('#000000') + 0.05)).toFixed(1), '21.0');
  // The lightest grey that passes on white.
  assert.equal((1.05 / (luminance('#767676') + 0.05)).toFixed(2), '4.54');
});

for (const theme of THEMES) {
  test(`text can be read, ${theme}`, () => {
    for (const [text, ground] of TEXTS) {
      const ratio = contrast(text, ground, theme);
      assert.ok(ratio >= 4.5, `${text} on ${ground}: ${ratio.toFixed(2)}`);
    }
  });

  test(`marks can be seen, ${theme}`, () => {
    for (const [mark, ground] of MARKS) {
      const ratio = contrast(mark, ground, theme);
      assert.ok(ratio >= 3, `${mark} on ${ground}: ${ratio.toFixed(2)}`);
    }
  });
}

test('no colour is defined outside the palette', async () => {
  for (const name of ['base', 'controls', 'side']) {
    const sheet = await readFile(new URL(`../style/${name}.css`, import.meta.url), 'utf8');
    assert.deepEqual(sheet.match(/#[0-9a-f]{3,8}\b|\b(rgb|hsl|oklch)a?\(/g), null, name);
    for (const [, used] of sheet.matchAll(/var\(--([a-z-]+)/g)) {
      assert.ok(used === 'level' || palette.has(used ?? ''), `${name}: --${used}`);
    }
  }
});
