// A real browser: headless Chromium, told what to do through the pipe of its DevTools protocol.
import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seen } from './seen.mjs';

// As root there is no sandbox, and nothing here reaches for the network beyond this machine.
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--remote-debugging-pipe',
];

export class Chromium {
  /** Starts one that knows nothing yet. */
  static async start() {
    const profile = await mkdtemp(join(tmpdir(), 'mana-chromium-'));
    const chromium = new Chromium(profile);
    const { userAgent } = await chromium.send('Browser.getVersion');
    seen.person(userAgent);
    return chromium;
  }

  constructor(profile) {
    this.profile = profile;
    this.waiting = new Map();
    this.events = new EventEmitter();
    this.process = spawn('chromium', [...FLAGS, `--user-data-dir=${profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    this.ended = once(this.process, 'exit');
    [, , , this.input, this.output] = this.process.stdio;
    let rest = '';
    this.output.setEncoding('utf8').on('data', (text) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop();
      for (const message of messages) this.receive(JSON.parse(message));
    });
    this.ended.then(() => {
      for (const { reject } of this.waiting.values()) reject(new Error('Chromium has ended'));
    });
  }

  receive({ id, result, error, method, sessionId }) {
    if (method) return void this.events.emit(`${sessionId} ${method}`);
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }

  /** Sends a command, to one page if a session is named, and waits for its result. */
  async send(method, params = {}, sessionId = undefined) {
    const id = this.nextId = (this.nextId ?? 0) + 1;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  /** Opens a page that shares nothing with the others. */
  async newPage() {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId, browserContextId);
    await page.send('Page.enable');
    return page;
  }

  async stop() {
    await this.send('Browser.close').catch(() => {}); // It may have ended before.
    await this.ended;
    await rm(this.profile, { recursive: true, force: true });
  }
}

class Page {
  constructor(chromium, targetId, sessionId, browserContextId) {
    Object.assign(this, { chromium, targetId, sessionId, browserContextId });
  }

  async send(method, params) {
    return this.chromium.send(method, params, this.sessionId);
  }

  /** Goes to an address and waits until the page there has loaded. */
  async go(url) {
    const loaded = once(this.chromium.events, `${this.sessionId} Page.loadEventFired`);
    const { errorText } = await this.send('Page.navigate', { url });
    if (errorText) throw new Error(`${errorText} at ${url}`);
    await loaded;
  }

  /** Where the page is. The browser knows also while one document takes the place of another; the page does not. */
  async address() {
    const { targetInfo } = await this.chromium.send('Target.getTargetInfo', { targetId: this.targetId });
    return targetInfo.url;
  }

  /** Runs a function in the page and gives what it gives; what goes in and out is remembered like all traffic. */
  async run(work, ...values) {
    seen.walk(values);
    const expression = `(${work})(...${JSON.stringify(values)})`;
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression, awaitPromise: true, returnByValue: true, userGesture: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    seen.walk(result.value);
    return result.value;
  }

  /** The cookies of the page's browser. */
  async cookies() {
    const { browserContextId } = this;
    const { cookies } = await this.chromium.send('Storage.getCookies', { browserContextId });
    for (const { value } of cookies) seen.secret(value);
    return cookies;
  }

  /** Gives the device an authenticator of its own that keeps passkeys and asks for finger or face, or another kind. */
  async addAuthenticator(kind = {}) {
    await this.send('WebAuthn.enable');
    const options = {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
      automaticPresenceSimulation: true, ...kind,
    };
    ({ authenticatorId: this.authenticatorId } = await this.send('WebAuthn.addVirtualAuthenticator', { options }));
  }

  /** Says whether the authenticator recognises whoever sits there. */
  async recognise(isUserVerified) {
    const { authenticatorId } = this;
    await this.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified });
  }
}
