// The official client, unmodified, as web applications and others set it up.
import { createAuthClient } from 'better-auth/client';
import { jwtClient } from 'better-auth/client/plugins';
import { watchedFetch } from './browser.mjs';

/** The client of a page that is open in `browser`. */
export function clientIn(browser, baseURL) {
  return createAuthClient({ baseURL, plugins: [jwtClient()], fetchOptions: { customFetchImpl: browser.fetch } });
}

/** A client without cookies that sends `token` as its credential. */
export function bearerClient(token, baseURL) {
  return createAuthClient({
    baseURL,
    plugins: [jwtClient()],
    fetchOptions: { customFetchImpl: watchedFetch, auth: { type: 'Bearer', token } },
  });
}
