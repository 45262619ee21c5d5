/** Advice for people, by error code and language. */

export type Language = 'en' | 'ja';

export type Advice = Readonly<Record<Language, string>>;

const reload: Advice = {
  en: 'Reload the page. If it happens again, report it: this program and the server are of incompatible versions.',
  ja: 'ページを再読み込みしてください。繰り返す場合は、プログラムとサーバーの版が合っていないため報告してください。',
};
const signIn: Advice = {
  en: 'Sign in again, then come back to this page.',
  ja: 'もう一度サインインしてから、このページに戻ってください。',
};
const soon: Advice = {
  en: 'The service is busy. Try again in a few seconds.',
  ja: 'サービスが混み合っています。数秒待ってからもう一度お試しください。',
};
const rejoin: Advice = {
  en: 'Audio could not be connected. Rejoin the call; if that fails again, hang up and call again.',
  ja: '音声を準備できませんでした。通話に再参加してください。それでも失敗する場合は、切断してかけ直してください。',
};
const over: Advice = {
  en: 'The call has changed or ended. Check the page, and call again if necessary.',
  ja: '通話の状態が変わったか、すでに終了しています。画面の表示を確認し、必要ならかけ直してください。',
};

/** By the `reason` of `call_denied`; for others, the wallet's own message is shown. */
export const DENIALS: Readonly<Record<string, Advice>> = {
  insufficient_balance: {
    en: 'The balance does not cover this call. Top it up, then call again.',
    ja: '残高が足りないため発信できません。チャージしてから、もう一度おかけください。',
  },
  wallet_unavailable: soon,
};

/** One entry for every code. A test compares the codes of the protocol with its schema. */
export const ADVICE = {
  // The protocol: invalid messages.
  bad_json: reload,
  bad_message: reload,
  bad_request: reload,
  binary_unsupported: reload,
  invalid_parameters: reload,
  invalid_grant: reload,
  audio_only: reload,
  unknown_type: reload,
  self_report_forbidden: reload,
  subprotocol_unsupported: reload,
  token_in_url: reload,
  upgrade_required: reload,
  not_found: {
    en: 'There is no callpulse server at this address. Check the address of the WebSocket: it ends in /ws.',
    ja: 'このアドレスに callpulse のサーバーがありません。WebSocket のアドレスを確認してください（末尾は /ws です）。',
  },
  method_not_allowed: reload,
  invalid_id: {
    en: 'An ID consists of letters, digits, "_" and "-", at most 64. Correct it and try again.',
    ja: 'ID に使えるのは半角英数字と「_」「-」で、64 文字までです。直してからもう一度お試しください。',
  },
  rate_limited: {
    en: 'Too many requests at once. Wait a moment, then try again.',
    ja: '操作が多すぎます。少し待ってからもう一度お試しください。',
  },

  // The protocol: the call.
  role_forbidden: {
    en: 'This action belongs to the other role: users call, otomos answer. Sign in with the other role.',
    ja: 'この操作は相手側のものです。ユーザーが発信し、お供が応答します。別の役割でサインインしてください。',
  },
  call_denied: {
    en: 'This call is not possible at the moment. Ask the operator of this service for the reason.',
    ja: 'この通話は現在できません。理由はサービスの運営者にお問い合わせください。',
  },
  busy: {
    en: 'One of you is in another call. Wait until it ends, then call again.',
    ja: 'どちらかが別の通話中です。その通話が終わってから、もう一度おかけください。',
  },
  otomo_offline: {
    en: 'The otomo is not connected now. Call again later.',
    ja: '相手は現在オンラインではありません。しばらくしてから、もう一度おかけください。',
  },
  no_capacity: soon,
  unknown_call: over,
  not_a_party: {
    en: 'This call belongs to other people. Go back and start your own call.',
    ja: 'ほかの人の通話です。前の画面に戻り、ご自身の通話を始めてください。',
  },
  wrong_state: over,

  // The protocol: the service.
  no_worker: soon,
  at_capacity: soon,
  draining: soon,
  unavailable: soon,
  worker_unreachable: {
    en: 'The media server of this call does not answer. Wait a few seconds; if the call ends, call again.',
    ja: 'この通話のメディアサーバーが応答しません。数秒お待ちください。通話が切れた場合は、かけ直してください。',
  },
  internal: {
    en: 'The server failed. Try again; if it happens again, report it with the time of day.',
    ja: 'サーバーで問題が起きました。もう一度お試しください。繰り返す場合は、時刻を添えて報告してください。',
  },

  // The protocol: media.
  unknown_transport: rejoin,
  unknown_consumer: rejoin,
  already_producing: rejoin,
  cannot_consume: {
    en: 'This browser cannot play the audio of the other side. Use a current Chrome, Edge, Firefox or Safari.',
    ja: 'このブラウザーでは相手の音声を再生できません。最新の Chrome、Edge、Firefox、Safari をお使いください。',
  },
  no_producer: {
    en: 'The other side sends no audio yet. Wait a moment: it starts automatically.',
    ja: '相手の音声がまだ届いていません。届くと自動的に聞こえますので、少しお待ちください。',
  },

  // The handshake.
  token_missing: signIn,
  token_invalid: signIn,
  token_expired: {
    en: 'Your sign-in has expired. Sign in again; a call in progress continues meanwhile.',
    ja: 'サインインの有効期限が切れました。もう一度サインインしてください。その間も通話は続きます。',
  },
  origin_forbidden: {
    en: 'The server does not allow pages of this address. Open the page at its proper address, or ask for it to be allowed.',
    ja: 'このアドレスのページはサーバーに許可されていません。正しいアドレスで開くか、管理者に許可を依頼してください。',
  },

  // Errors of this library.
  not_reachable: {
    en: 'The server is unreachable. Check the network; if that does not help, try again in a few minutes.',
    ja: 'サーバーに接続できません。ネットワークを確認し、それでもつながらない場合は、数分待ってからもう一度お試しください。',
  },
  offline: {
    en: 'The connection is interrupted, and reconnects automatically. Try again once it is back.',
    ja: '接続が切れています。自動的に復旧しますので、つながってからもう一度お試しください。',
  },
  timeout: {
    en: 'The server has not answered in time. Check the page, and try again if nothing has changed.',
    ja: 'サーバーの応答がありません。画面の表示を確認し、変わっていなければもう一度お試しください。',
  },
  closed: {
    en: 'This page has disconnected. Reload it to reconnect.',
    ja: 'このページは接続を終了しています。再読み込みすると戻れます。',
  },
  session_replaced: {
    en: 'You are connected in too many windows, so this one was disconnected. Use the newest, or reload this page.',
    ja: '接続中のウィンドウが多すぎるため、この画面は切断されました。新しいほうを使うか、このページを再読み込みしてください。',
  },
  otomo_busy: {
    en: 'The otomo is in another call. Wait a while, then call again.',
    ja: 'お供はほかの方と通話中です。少し時間をおいて、もう一度おかけください。',
  },
  already_in_call: {
    en: 'You are already in a call. End it first, then call again.',
    ja: 'すでに通話中です。今の通話を終えてから、もう一度おかけください。',
  },
  microphone_refused: {
    en: 'Microphone access is blocked. Allow it beside the address bar, then try again.',
    ja: 'マイクの使用が許可されていません。アドレスバーの横でマイクを許可してから、もう一度お試しください。',
  },
  microphone_missing: {
    en: 'No microphone found. Plug one in or switch it on, then try again.',
    ja: 'マイクが見つかりません。接続するか有効にしてから、もう一度お試しください。',
  },
  microphone_busy: {
    en: 'The microphone cannot be opened: another program may be using it. Close that, then try again.',
    ja: 'マイクを開けません。ほかのアプリが使用している可能性があります。閉じてから、もう一度お試しください。',
  },
  microphone_insecure: {
    en: 'Browsers allow microphones on secure pages only. Open this page over https, or on this machine as localhost.',
    ja: 'マイクは安全なページでのみ使えます。https か、このパソコン上の localhost で開いてください。',
  },
  sound_blocked: {
    en: 'The browser blocks audio until you use the page. Press a button on it, then try again.',
    ja: '操作するまで、ブラウザーは音を出しません。ページのボタンを押してから、もう一度お試しください。',
  },
  media_failed: rejoin,
  media_elsewhere: {
    en: 'The audio of this call has stopped here; another window may carry it. Rejoin to bring it back to this window.',
    ja: 'この画面の通話音声が止まりました。別のウィンドウに移った可能性があります。再参加するとこの画面に戻ります。',
  },
  browser_unsupported: {
    en: 'This browser cannot make calls. Use a current Chrome, Edge, Firefox or Safari.',
    ja: 'このブラウザーでは通話できません。最新の Chrome、Edge、Firefox、Safari をお使いください。',
  },
} as const satisfies Record<string, Advice>;
