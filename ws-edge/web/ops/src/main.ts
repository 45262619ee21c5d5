/** The operations page: head, fleet, calls, and the timeline dialog. Rendered at most once per frame. */

import { removeTokens, socketUrl } from '../../page/src/address.ts';
import { button, el, setAttribute, setText, show } from '../../page/src/dom.ts';
import { Head } from '../../page/src/head.ts';
import { load, save } from '../../page/src/storage.ts';
import { Feed, type FeedState } from './feed.ts';
import type { ServerMessage } from './generated/ops.ts';
import { ReadModel } from './readModel.ts';
import { type Translate, translate } from './texts.ts';
import { ServerClock, timeOfDay } from './time.ts';
import { CallTable } from './view/callTable.ts';
import { Fleet } from './view/fleet.ts';
import { SignIn } from './view/signIn.ts';
import { TimelineView } from './view/timeline.ts';

/** How often the page is rendered while no message arrives, in milliseconds: ages grow. */
const RENDER_INTERVAL_MS = 500;
const TOKEN_KEY = 'callpulse.ops.token';

let link: FeedState = 'connecting';
let feed: Feed | null = null;
let isScheduled = false;

const model = new ReadModel();
const clock = new ServerClock();

const status = el('p', { class: 'link', role: 'status', 'data-testid': 'link' });
const banner = el('p', { class: 'note banner', role: 'alert', 'data-testid': 'banner' });
const leave = button('leave', 'small', () => {
  signOut();
});
const head = new Head(scheduleRender, { status, after: [leave] });
const timeline = new TimelineView(
  (callId) => (feed === null ? Promise.reject(new Error('offline')) : feed.timeline(callId)),
  translate(head.language),
  head.language,
);
const fleet = new Fleet(model);
const calls = new CallTable(model, scheduleRender, (callId) => void timeline.open(callId));
const signIn = new SignIn(watch, scheduleRender);
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
  save(TOKEN_KEY, token);
  feed = new Feed(socketUrl('/ops/live'), token, receive, (state) => {
    link = state;
    scheduleRender();
  });
}

function signOut(): void {
  feed?.close();
  feed = null;
  save(TOKEN_KEY, null);
  model.snapshot({ at: '', part: 1, parts: 2, awaySince: null, items: [] });
  scheduleRender();
}

function receive(message: ServerMessage): void {
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
    clock.observe(new Date(message.payload.at), Date.now());
  }
  scheduleRender();
}

/** Schedules a rendering with the next frame. */
function scheduleRender(): void {
  if (!isScheduled) {
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      render();
    });
  }
}

function render(): void {
  const now = clock.at(Date.now());
  const { language } = head;
  const text = translate(language);
  const isSignedIn = feed !== null;
  calls.measure();
  head.render(text);
  setText(leave, text('page.leave'));
  setText(keys, `${text('page.keys')}: ${text('page.keys.list')}`);
  show(leave, isSignedIn);
  show(status, isSignedIn);
  show(content, isSignedIn);
  show(signIn.element, !isSignedIn);
  signIn.render(text);
  timeline.render(text, language);
  if (!isSignedIn) {
    return;
  }
  const warning = warningText(text);
  const isOpen = link === 'open';
  setText(
    status,
    text(warning !== null ? 'link.old' : model.isComplete ? 'link.open' : isOpen ? 'link.filling' : 'link.connecting'),
  );
  setAttribute(status, 'data-link', isOpen && warning === null ? 'online' : 'offline');
  setText(banner, warning ?? '');
  show(banner, warning !== null);
  setAttribute(content, 'data-old', String(warning !== null));
  fleet.render(text, now);
  calls.render({ text, language, now });
}

function warningText(text: Translate): string | null {
  if (link === 'lost' || link === 'refused') {
    return text(`link.${link}`);
  }
  return model.awaySince === null ? null : text('link.away', { time: timeOfDay(model.awaySince) });
}

/** Takes the token out of `/ops#token=…`. */
function tokenOfAddress(): string | null {
  const token = new URLSearchParams(location.hash.replace(/^#/, '')).get('token');
  removeTokens();
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
addEventListener('resize', scheduleRender);
setInterval(scheduleRender, RENDER_INTERVAL_MS);

const token = tokenOfAddress() ?? load(TOKEN_KEY);
if (token !== null) {
  watch(token);
}
scheduleRender();
