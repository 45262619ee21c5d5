/** The page: its head, one or two sides, its foot. */

import { readAddress, removeTokens, socketUrl } from './address.ts';
import { button, el, setText } from './dom.ts';
import { Head } from './head.ts';
import { listenToKeys } from './keys.ts';
import { setRingSound, storedRingSound } from './preferences.ts';
import { type Page, Side } from './side.ts';
import { translate } from './texts.ts';
import { readClaims } from './token.ts';

/** How often the clocks are rendered, in milliseconds. */
const RENDER_INTERVAL_MS = 200;
/** The otomo of the development tokens. */
const DEFAULT_CALLEE = 'otomo_777';

let isRingAudible = storedRingSound();

const ringChoice = button('ring-sound', 'small', () => {
  isRingAudible = !isRingAudible;
  setRingSound(isRingAudible);
  render();
});
const head = new Head(render, { before: [ringChoice] });

const address = readAddress(location.search, location.hash);
removeTokens();

const page: Page = { socketUrl: socketUrl('/ws'), language: () => head.language, isRingAudible: () => isRingAudible };

const otomo = readClaims(address.tokens.otomo ?? '')?.sub;
const sides = new Map(
  address.roles.map((role) => [
    role,
    new Side(page, {
      role,
      token: address.tokens[role] ?? null,
      callee: address.callee ?? otomo ?? DEFAULT_CALLEE,
      isListening: address.roles.length === 1,
    }),
  ]),
);

const keysTitle = el('summary');
const keys = (['tab', 'enter', 'escape', 'mute'] as const).map((key) => ({ key, element: el('li') }));

document.body.append(
  head.element,
  el(
    'main',
    { class: 'sides', 'data-count': String(sides.size) },
    ...[...sides.values()].map(({ element }) => element),
  ),
  el(
    'footer',
    { class: 'foot' },
    el('details', {}, keysTitle, el('ul', {}, ...keys.map(({ element }) => element))),
  ),
);

function render(): void {
  const text = translate(head.language);
  head.render(text);
  setText(ringChoice, text(isRingAudible ? 'page.ring.on' : 'page.ring.off'));
  ringChoice.setAttribute('aria-pressed', String(isRingAudible));
  setText(keysTitle, text('page.keys'));
  for (const { key, element } of keys) {
    setText(element, text(`page.keys.${key}`));
  }
  for (const side of sides.values()) {
    side.render();
  }
}

function animate(): void {
  for (const side of sides.values()) {
    side.renderLevel();
  }
  requestAnimationFrame(animate);
}

listenToKeys([...sides.values()]);
render();
setInterval(() => {
  for (const side of sides.values()) {
    side.render();
  }
}, RENDER_INTERVAL_MS);
requestAnimationFrame(animate);

// A new token in the fragment of an open page.
addEventListener('hashchange', () => {
  const { tokens } = readAddress(location.search, location.hash);
  removeTokens();
  for (const [role, side] of sides) {
    const token = tokens[role];
    if (token !== undefined) {
      side.signIn(token);
    }
  }
});
