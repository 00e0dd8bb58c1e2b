// The official client, unmodified, as web applications and others set it up.
import assert from 'node:assert/strict';
import { createAuthClient } from 'better-auth/client';
import { jwtClient } from 'better-auth/client/plugins';
import { Browser, watchedFetch } from './browser.mjs';

/** The client of a page that is open in `browser`. */
export function clientIn(browser, baseURL, ...plugins) {
  return createAuthClient({
    baseURL, plugins: [jwtClient(), ...plugins], fetchOptions: { customFetchImpl: browser.fetch },
  });
}

/** A client without cookies that sends `token` as its credential. */
export function bearerClient(token, baseURL) {
  return createAuthClient({
    baseURL,
    plugins: [jwtClient()],
    fetchOptions: { customFetchImpl: watchedFetch, auth: { type: 'Bearer', token } },
  });
}

/** Signs in with the client in a new browser. */
export async function signIn(world, { email, password }, ...plugins) {
  const browser = new Browser();
  const auth = clientIn(browser, world.service.baseUrl, ...plugins);
  const { token } = good(await auth.signIn.email({ email, password }));
  return { browser, auth, token };
}

/** What the client got, which is no refusal. */
export function good({ data, error }) {
  assert.equal(error, null);
  return data;
}

/** Asserts that the client got a refusal with this status and code. */
export function assertRefused({ data, error }, status, code) {
  assert.equal(data, null);
  assert.deepEqual([error.status, error.code], [status, code]);
}
