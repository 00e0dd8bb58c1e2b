// A browser as far as these tests need one: it keeps cookies, names its origin, and shows all traffic to `seen`.
import { webcrypto } from 'node:crypto';
import { seen } from './seen.mjs';
import { APP_ORIGIN } from './service.mjs';

// Node 18 has Web Crypto, which jose uses, but not as a global.
globalThis.crypto ??= webcrypto;

/** `fetch`, except that what goes over the wire is remembered. */
export async function watchedFetch(input, init) {
  const request = new Request(input, init);
  await seen.request(request);
  const response = await fetch(request);
  await seen.response(response);
  return response;
}

export class Browser {
  constructor({ origin = APP_ORIGIN } = {}) {
    this.origin = origin;
    this.cookies = new Map();
    this.userAgent = `Testbrowser/${Math.random().toString(36).slice(2)}`;
    seen.person(this.userAgent);
    this.fetch = this.fetch.bind(this);
  }

  async fetch(input, init) {
    const request = new Request(input, init);
    request.headers.set('user-agent', this.userAgent);
    if (this.origin) request.headers.set('origin', this.origin);
    if (this.cookies.size) {
      request.headers.set('cookie', [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; '));
    }
    const response = await watchedFetch(request);
    for (const { name, value, attributes } of setCookies(response)) {
      if (attributes.includes('Max-Age=0')) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    return response;
  }

  async get(url) {
    return this.fetch(url, { redirect: 'manual' });
  }

  async post(url, body) {
    return this.fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  }
}

/** The cookies that a response sets. */
export function setCookies(response) {
  return response.headers.getSetCookie().map((line) => {
    const [pair, ...attributes] = line.split('; ');
    const equals = pair.indexOf('=');
    return { name: pair.slice(0, equals), value: pair.slice(equals + 1), attributes };
  });
}
