// What a page of the web application loads: the official client, unmodified, as `auth`.
import { passkeyClient } from '@better-auth/passkey/client';
import { createAuthClient } from 'better-auth/client';
import { magicLinkClient } from 'better-auth/client/plugins';

globalThis.auth = createAuthClient({
  baseURL: document.documentElement.dataset.auth, plugins: [passkeyClient(), magicLinkClient()],
});
