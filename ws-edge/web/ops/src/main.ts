/** The operations page: its head, the fleet, the calls; a timeline over all of it. Drawn at most once a frame. */

import { button, el, setAttribute, setText, show } from '../../page/src/dom.ts';
import { Head } from '../../page/src/head.ts';
import { Feed, type Link } from './feed.ts';
import type { ServerMessage } from './generated/ops.ts';
import { Model } from './model.ts';
import { type Say, speaker } from './strings.ts';
import { ServerClock, timeOfDay } from './time.ts';
import { Calls } from './view/calls.ts';
import { Fleet } from './view/fleet.ts';
import { SignIn } from './view/signIn.ts';
import { TimelineView } from './view/timeline.ts';

/** Clocks run also while nothing is told; so often they are looked at, in milliseconds. */
const CLOCK_MS = 500;
const KEPT_TOKEN = 'callpulse.ops.token';

let link: Link = 'connecting';
let feed: Feed | null = null;
let isDrawing = false;

const model = new Model();
const clock = new ServerClock();

const status = el('p', { class: 'link', role: 'status', 'data-testid': 'link' });
const banner = el('p', { class: 'note banner', role: 'alert', 'data-testid': 'banner' });
const leave = button('leave', 'small', () => {
  signOut();
});
const head = new Head(draw, { status, after: [leave] });
const timeline = new TimelineView(
  (callId) => (feed === null ? Promise.reject(new Error('offline')) : feed.timeline(callId)),
  speaker(head.language),
  head.language,
);
const fleet = new Fleet(model);
const calls = new Calls(model, draw, (callId) => void timeline.open(callId));
const signIn = new SignIn(watch, draw);
const keys = el('p');
const content = el('main', { class: 'watch' }, banner, fleet.element, calls.element, timeline.opener);

document.body.append(
  head.element,
  content,
  signIn.element,
  el('footer', { class: 'foot' }, keys),
  timeline.element,
);

function watch(token: string): void {
  feed?.close();
  keep(token);
  const url = new URL('/ops/live', location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = url.hash = '';
  feed = new Feed(String(url), token, heard, (changed) => {
    link = changed;
    draw();
  });
}

function signOut(): void {
  feed?.close();
  feed = null;
  keep(null);
  model.snapshot({ at: '', part: 1, parts: 2, awaySince: null, items: [] });
  draw();
}

function heard(message: ServerMessage): void {
  switch (message.type) {
    case 'snapshot':
      model.snapshot(message.payload);
      break;
    case 'changes':
      model.apply(message.payload.items);
      break;
    case 'away':
      model.away(message.payload.since);
      break;
  }
  if ('at' in message.payload) {
    clock.heard(new Date(message.payload.at), Date.now());
  }
  draw();
}

/** Whatever happens until the next frame is drawn with it. */
function draw(): void {
  if (!isDrawing) {
    isDrawing = true;
    requestAnimationFrame(() => {
      isDrawing = false;
      render();
    });
  }
}

function render(): void {
  const now = clock.at(Date.now());
  const { language } = head;
  const text = speaker(language);
  const isIn = feed !== null;
  calls.look();
  head.render(text);
  setText(leave, text('page.leave'));
  setText(keys, `${text('page.keys')}: ${text('page.keys.list')}`);
  show(leave, isIn);
  show(status, isIn);
  show(content, isIn);
  show(signIn.element, !isIn);
  signIn.render(text);
  timeline.render(text, language);
  if (!isIn) {
    return;
  }
  const trouble = troubleText(text);
  const isOpen = link === 'open';
  setText(
    status,
    text(trouble !== null ? 'link.old' : model.isWhole ? 'link.open' : isOpen ? 'link.filling' : 'link.connecting'),
  );
  setAttribute(status, 'data-link', isOpen && trouble === null ? 'online' : 'offline');
  setText(banner, trouble ?? '');
  show(banner, trouble !== null);
  setAttribute(content, 'data-old', String(trouble !== null));
  // What is old stays as old as it was when it was told.
  fleet.render(text, now);
  calls.render({ text, language, now });
}

function troubleText(text: Say): string | null {
  if (link === 'lost' || link === 'refused') {
    return text(`link.${link}`);
  }
  return model.awaySince === null ? null : text('link.away', { time: timeOfDay(model.awaySince) });
}

/** In the session's storage: for this tab only, and not in the address for others to see. */
function keep(token: string | null): void {
  try {
    if (token === null) {
      sessionStorage.removeItem(KEPT_TOKEN);
    } else {
      sessionStorage.setItem(KEPT_TOKEN, token);
    }
  } catch {
    // Denied: a reload will ask again.
  }
}

function kept(): string | null {
  try {
    return sessionStorage.getItem(KEPT_TOKEN);
  } catch {
    return null;
  }
}

/** `/ops#token=…`; it does not stay in the address. */
function tokenOfAddress(): string | null {
  const token = new URLSearchParams(location.hash.replace(/^#/, '')).get('token');
  if (location.hash !== '') {
    history.replaceState(null, '', location.pathname + location.search);
  }
  return token;
}

document.addEventListener('keydown', (event) => {
  const isTyping = event.target instanceof Element && event.target.closest('input, textarea') !== null;
  if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey && !timeline.element.open) {
    event.preventDefault();
    calls.search.focus();
  } else if (event.key === 'ArrowDown' && event.target === calls.search) {
    event.preventDefault();
    calls.focus();
  }
});
addEventListener('hashchange', () => {
  const token = tokenOfAddress();
  if (token !== null) {
    watch(token);
  }
});
addEventListener('resize', draw);
setInterval(draw, CLOCK_MS);

const token = tokenOfAddress() ?? kept();
if (token !== null) {
  watch(token);
}
draw();
